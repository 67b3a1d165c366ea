// SPDX-License-Identifier: MIT
import { Exporter } from 'dmabuf';
import { check } from './check.ts';
import { remember } from './heaps.ts';
import { counted, described } from './kernel.ts';
import { line } from './print.ts';

const GREETING = 'hello world';

function text(memory: ArrayBuffer): string {
  const bytes = Buffer.from(memory);
  return bytes.toString('latin1', 0, bytes.indexOf(0));
}

function greet(how: string, memory: ArrayBuffer): void {
  const found = text(memory);
  check(found === GREETING, `${how} shows '${found}' and not '${GREETING}'`);
  line(how, `'${found}'`);
}

/** The text of /dev/exporter, by a dma-buf and by the device. */
export function tourExporter(): void {
  using exporter = Exporter.open();
  const buffer = remember(exporter.buffer(), '/dev/exporter');
  line('ioctl', `a dma-buf, descriptor ${buffer.fd}`);
  line('', described(buffer));

  using mapping = buffer.map();
  greet('the dma-buf mapped', mapping.buffer);
  using device = exporter.map();
  greet('the device mapped', device.buffer);

  using reader = Exporter.open({ readonly: true });
  using copy = reader.buffer();
  greet('a reader, by copy()', copy.copy());
  line('', counted('exporter'));
}
