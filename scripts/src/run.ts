// SPDX-License-Identifier: MIT
// Programs this machine runs for us.
import { type SpawnOptions, spawn } from 'node:child_process';
import { Failure } from './failure.ts';

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** What the program is to do, for the message when it fails. */
  purpose: string;
  /** Called with every line on this descriptor, 3 or higher. */
  lines?: { fd: number; each: (line: string) => void };
}

const children = new Set<ReturnType<typeof spawn>>();
let stopped = false;

/**
 * Runs a program to its end and returns its standard output.
 * @throws Failure with the last lines it printed, if it cannot be started or does not exit with 0
 */
export async function run(command: string, args: string[], options: RunOptions): Promise<string> {
  if (stopped) throw new Failure('stopped');
  const stdio: SpawnOptions['stdio'] = ['ignore', 'pipe', 'pipe'];
  if (options.lines) stdio[options.lines.fd] = 'pipe';
  const child = spawn(command, args, { cwd: options.cwd, env: options.env ?? process.env, stdio });
  children.add(child);
  let out = '';
  let all = '';
  child.stdout?.on('data', (data: Buffer) => {
    out += data;
    all += data;
  });
  child.stderr?.on('data', (data: Buffer) => {
    all += data;
  });
  if (options.lines) eachLine(child.stdio[options.lines.fd] as NodeJS.ReadableStream, options.lines.each);
  const ended = await new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (code, signal) =>
      resolve(code === 0 ? undefined : signal ? `ended by ${signal}` : `exit code ${code}`),
    );
  });
  children.delete(child);
  if (ended === undefined) return out;
  const last = all.trimEnd().split('\n').slice(-20).join('\n');
  throw new Failure(`${options.purpose} failed (${command}: ${ended})${last && `\n${last}`}`);
}

/** Ends every program started by run() and starts no more; for the way out on a signal. */
export function stopAll(): void {
  stopped = true;
  for (const child of children) child.kill('SIGTERM');
}

export function eachLine(stream: NodeJS.ReadableStream, each: (line: string) => void): void {
  let rest = '';
  stream.on('data', (data: Buffer) => {
    const lines = (rest + data.toString('utf8')).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) each(line);
  });
  stream.on('end', () => rest && each(rest));
}
