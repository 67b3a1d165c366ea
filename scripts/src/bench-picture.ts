// SPDX-License-Identifier: MIT
// The ratios of a run as a picture: bars to the left of 1 are times shorter than the peer's, to the right longer.
import { digits, grouped, type Row, sizeText } from './bench-results.ts';

const WIDTH = 820;
const MARGIN = 16;
/** Where the bars' part begins and ends. */
const LEFT = 270;
const RIGHT = WIDTH - 70;
const ROW = 15;
const HEADING = 44;

/** Its own background: the same on a light and on a dark page. */
const colours = {
  paper: '#ffffff',
  ink: '#1f2328',
  faint: '#d0d7de',
  grey: '#59636e',
  faster: '#1a7f64',
  slower: '#bc4c00',
};

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

const text = (x: number, y: number, words: string, more = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more}>${escaped(words)}</text>`;

/** 1, 2 and 5 of each power of ten that lie between, both ends included; fewer where that is many. */
function marks(least: number, most: number): number[] {
  const all: number[] = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power++) {
    for (const step of [1, 2, 5]) all.push(Number(`${step}e${power}`));
  }
  const inside = all.filter((mark) => mark >= least && mark <= most);
  return inside.length <= 12 ? inside : inside.filter((mark) => Number.isInteger(Math.log10(mark)));
}

export function picture(rows: Row[]): string {
  const ratios = rows.map(({ ratio }) => ratio);
  const least = Math.min(0.5, ...ratios) / 1.15;
  const most = Math.max(2, ...ratios) * 1.15;
  const x = (ratio: number) => LEFT + (Math.log(ratio / least) / Math.log(most / least)) * (RIGHT - LEFT);
  const parts: string[] = [];
  let y = MARGIN + 16;
  parts.push(
    text(MARGIN, y, 'Time of ours / time of the peer: left of 1 ours is faster', ' font-weight="600" font-size="14"'),
  );
  const top = y + 14;
  for (const [group, members] of grouped(rows)) {
    y += HEADING;
    const peer = members[0]?.peerName ?? '';
    parts.push(text(MARGIN, y, `${group}, against ${peer}`, ' font-weight="600"'));
    y += 5;
    let name = '';
    for (const row of members) {
      y += ROW;
      if (row.name !== name) parts.push(text(MARGIN, y, row.name));
      name = row.name;
      parts.push(text(LEFT - 10, y, sizeText(row.size), ` text-anchor="end" fill="${colours.grey}"`));
      const [from, to] = [Math.min(x(1), x(row.ratio)), Math.max(x(1), x(row.ratio))];
      const colour = row.ratio <= 1 ? colours.faster : colours.slower;
      const width = Math.max(1, to - from);
      parts.push(
        `<rect x="${from.toFixed(1)}" y="${y - 10}" width="${width.toFixed(1)}" height="11" fill="${colour}"/>`,
        text(to + 5, y, digits(row.ratio), ` font-size="11"`),
      );
    }
  }
  const bottom = y + 12;
  const axis = marks(least, most).map((mark) => {
    const colour = mark === 1 ? colours.ink : colours.faint;
    const line = `<line x1="${x(mark).toFixed(1)}" x2="${x(mark).toFixed(1)}" y1="${top}" y2="${bottom}" stroke="${colour}"/>`;
    return (
      line + text(x(mark), bottom + 14, String(mark), ` text-anchor="middle" fill="${colours.grey}" font-size="11"`)
    );
  });
  const height = bottom + 14 + MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}"`,
    `  font-family="system-ui, sans-serif" font-size="12" fill="${colours.ink}" role="img">`,
    '<title>Ratios of the benchmarks</title>',
    `<rect width="${WIDTH}" height="${height}" fill="${colours.paper}" stroke="${colours.faint}"/>`,
    ...axis,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}
