// SPDX-License-Identifier: MIT
// Progress of long work, on standard error: standard output belongs to the command that runs in the guest.

const terminal = process.stderr.isTTY;

export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

const seconds = (since: number) => `${((Date.now() - since) / 1000).toFixed(1)} s`;

export interface Step {
  /** How far it is, from 0 to 1. On a terminal the line is rewritten, elsewhere every tenth is said once. */
  progress(part: number): void;
}

/** Runs one step of long work and says how long it took. */
export async function step<T>(title: string, work: (step: Step) => Promise<T>): Promise<T> {
  const start = Date.now();
  let tenth = 0;
  let finished = false;
  let shown = '';
  const paint = (text: string) => process.stderr.write(`\r\x1b[K${text}`);
  const tick = terminal ? setInterval(() => paint(`… ${title}${shown} (${seconds(start)})`), 200) : undefined;
  if (terminal) paint(`… ${title}`);
  else say(`… ${title}`);
  try {
    const result = await work({
      progress(part) {
        const now = Math.min(10, Math.floor(part * 10));
        shown = ` ${Math.round(part * 100)} %`;
        if (!terminal && now > tenth && now < 10) say(`  ${title}: ${now * 10} %`);
        tenth = Math.max(tenth, now);
      },
    });
    finished = true;
    return result;
  } finally {
    clearInterval(tick);
    const line = `${finished ? '✓' : '✗'} ${title} (${seconds(start)})`;
    if (terminal) paint(`${line}\n`);
    else say(line);
  }
}
