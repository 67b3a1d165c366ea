// SPDX-License-Identifier: MIT
/** How the tour looks. */

const LABEL_WIDTH = 22;

/** A label and what there is to say of it. */
export function line(label = '', text = ''): void {
  console.log(`  ${label.padEnd(LABEL_WIDTH)}${text}`.trimEnd());
}

export function heading(text: string): void {
  console.log(`\n${text}\n`);
}

/** Rows under their headings, columns as wide as their widest cell; numbers to the right. */
export function table(headings: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  const cells = [headings, ...rows];
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => String(row[column]).length)));
  for (const row of cells) {
    const padded = widths.map((width, column) => {
      const isNumber = typeof rows[0]?.[column] === 'number';
      return isNumber ? String(row[column]).padStart(width) : String(row[column]).padEnd(width);
    });
    console.log(`  ${padded.join('  ')}`.trimEnd());
  }
  console.log();
}
