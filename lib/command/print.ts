// SPDX-License-Identifier: MIT
/** What the command prints: tables, JSON, bytes. @module */

/** Characters that do something to a terminal, or to how others look: names come from any process. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;

const escaped = (character: string) =>
  Array.from(
    { length: character.length },
    (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`,
  ).join('');

/** Text as it can be shown on one line. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escaped);
}

/** Characters that take two columns, in the main. */
const WIDE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60]/u;

function widthOf(character: string): number {
  if (/^\p{M}$/u.test(character)) return 0;
  return WIDE.test(character) ? 2 : 1;
}

/** Columns that printable text takes. */
export function width(text: string): number {
  let columns = 0;
  for (const character of text) columns += widthOf(character);
  return columns;
}

/** The text in so many columns, an ellipsis for what does not fit. */
function cut(text: string, columns: number): string {
  if (width(text) <= columns) return text;
  let kept = '';
  let taken = 1;
  for (const character of text) {
    taken += widthOf(character);
    if (taken > columns) break;
    kept += character;
  }
  return `${kept}…`;
}

/** Columns of the terminal, where standard output is one. */
export function terminalWidth(): number | undefined {
  const { isTTY, columns } = process.stdout;
  if (!isTTY) return undefined;
  const { COLUMNS } = process.env;
  const wanted = Number(COLUMNS);
  return Number.isInteger(wanted) && wanted > 0 ? wanted : columns || 80;
}

/** One column of a table. */
export interface Column<T> {
  title: string;
  value: (row: T) => string | number | undefined;
  /** columns of the terminal it may be cut to; default: it is not cut */
  least?: number;
  /** the larger, the earlier it is left out where there is no room; default: it stays */
  spare?: number;
}

const GAP = 2;

/** The widths of what fits, by its place; without those that were left out. */
function layOut(
  columns: readonly { least?: number; spare?: number }[],
  full: number[],
  room: number,
): Map<number, number> {
  const widths = new Map(full.entries());
  const total = () => [...widths.values()].reduce((sum, n) => sum + n + GAP, -GAP);
  const most = () => Math.max(...[...widths.keys()].map((i) => columns[i]?.spare ?? 0));
  const narrowest = (i: number) => Math.min(columns[i]?.least ?? Number.POSITIVE_INFINITY, full[i] as number);
  const least = () => [...widths.keys()].reduce((sum, i) => sum + narrowest(i) + GAP, -GAP);
  while (least() > room && most() > 0) {
    const spare = most();
    for (const i of widths.keys()) if (columns[i]?.spare === spare) widths.delete(i);
  }
  while (total() > room) {
    const wide = [...widths].filter(([i, n]) => n > narrowest(i)).sort(([, a], [, b]) => b - a)[0];
    if (wide === undefined) break;
    widths.set(wide[0], wide[1] - 1);
  }
  return widths;
}

/** A table with a line of titles, as wide as the terminal at most; numbers stand at the right. */
export function table<T>(columns: readonly Column<T>[], rows: readonly T[], room = terminalWidth()): string {
  const cells = rows.map((row) => columns.map(({ value }) => value(row)));
  const right = columns.map((_, i) => cells.some((line) => typeof line[i] === 'number'));
  const lines = [
    columns.map(({ title }) => title),
    ...cells.map((line) => line.map((cell) => printable(`${cell ?? ''}`))),
  ];
  const full = columns.map((_, i) => Math.max(...lines.map((line) => width(line[i] as string))));
  const widths = layOut(columns, full, room ?? Number.POSITIVE_INFINITY);
  const shown = lines.map((line) =>
    [...widths]
      .map(([i, n]) => {
        const cell = cut(line[i] as string, n);
        const space = ' '.repeat(n - width(cell));
        return right[i] ? space + cell : cell + space;
      })
      .join(' '.repeat(GAP))
      .trimEnd(),
  );
  return `${shown.join('\n')}\n`;
}

/** Sentences, broken to the terminal's width and indented. */
export function paragraph(text: string, indent: number, room = terminalWidth()): string {
  const lines = [''];
  for (const word of printable(text).split(' ')) {
    const line = lines.at(-1) as string;
    const together = line === '' ? word : `${line} ${word}`;
    if (line === '' || indent + width(together) <= (room ?? Number.POSITIVE_INFINITY))
      lines[lines.length - 1] = together;
    else lines.push(word);
  }
  return lines.map((line) => `${' '.repeat(indent)}${line}\n`).join('');
}

/** A line of JSON. What would do something to a terminal can only be in strings, where it may be escaped. */
export function json(value: unknown): string {
  return `${JSON.stringify(value).replace(UNPRINTABLE, escaped)}\n`;
}

/** Writes to standard output, and waits until it is taken. */
export function print(data: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(data, (error) => (error ? reject(error) : resolve()));
  });
}
