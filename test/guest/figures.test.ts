// SPDX-License-Identifier: MIT
/** What the kernel shows of heaps and buffers: sysfs for everybody, debugfs for root. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { CmaMem, heaps, openHeap } from 'dmabuf';
import { ION_FLAG_CACHED } from './abi.ts';
import { vividCamera, vividWith, whileImported, withDriver } from './drivers.ts';
import { alloc, heapTable, withDevice } from './ion.ts';
import {
  counters,
  type Device,
  debugfs,
  describeModules,
  devices,
  eventually,
  hasOwnDmaHeaps,
  heapLines,
  idleCounters,
  leavesNoPage,
  load,
  moduleOf,
  PAGE,
  saysCached,
  unload,
} from './support.ts';

const SYSFS = '/sys/class';

/** The folders of a device's heaps in sysfs, by name of the heap. */
function heapFolders(device: Device): Map<string, string> {
  const folder = join(SYSFS, 'misc', device);
  const own = readdirSync(folder).filter((entry) => /^heap\d+$/.test(entry));
  const folders = own.map((entry) => join(folder, entry));
  const nodes = join(SYSFS, 'dma_heap');
  if (device === 'ion' && !hasOwnDmaHeaps()) {
    folders.push(...readdirSync(nodes).map((entry) => join(nodes, entry)));
  }
  return new Map(folders.map((each) => [readFileSync(join(each, 'name'), 'utf8').trim(), each]));
}

interface Figures {
  buffers: number;
  bytes: number;
  peak: number;
}

/** What sysfs says of each heap of a device. */
function figures(device: Device): Map<string, Figures> {
  const read = (folder: string, name: string) => Number(readFileSync(join(folder, name), 'utf8'));
  return new Map(
    [...heapFolders(device)].map(([name, folder]) => [
      name,
      { buffers: read(folder, 'buffers'), bytes: read(folder, 'bytes'), peak: read(folder, 'peak_bytes') },
    ]),
  );
}

interface Line {
  id: number;
  size: number;
  heap: string;
  cached: string;
  pid: number;
  names: string;
  /** importer and state of each */
  attachments: string[][];
}

/** The buffers of a device. */
function buffers(device: Device): Line[] {
  const text = readFileSync(debugfs(`${device}/buffers`), 'utf8');
  const [first = '', ...lines] = text.trimEnd().split('\n');
  const titles = first.trim().split(/ +/);
  assert.deepEqual(titles, ['buffer', 'size', 'heap', 'cached', 'pid', 'attachments', 'names']);
  const found: Line[] = [];
  const counts: number[] = [];
  for (const line of lines) {
    const words = line.trim().split(/ +/);
    if (line.startsWith(' '.repeat(9))) {
      found.at(-1)?.attachments.push(words);
      continue;
    }
    assert.equal(words.length, titles.length, line);
    const [id, size, heap = '', cached = '', pid, count, names = ''] = words;
    found.push({ id: Number(id), size: Number(size), heap, cached, pid: Number(pid), names, attachments: [] });
    counts.push(Number(count));
  }
  assert.deepEqual(
    found.map(({ attachments }) => attachments.length),
    counts,
  );
  return found;
}

/** The only buffer of a device. */
function onlyBuffer(device: Device): Line {
  const [line, ...more] = buffers(device);
  assert(line && more.length === 0, `${more.length} more buffers`);
  return line;
}

/** The names in a line, as they were before they were made fit for it; none is undefined. */
const namesIn = ({ names }: Line) =>
  names.split(',').map((name) => {
    if (name === '-') return undefined;
    const bytes = name.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
    return Buffer.from(bytes, 'latin1').toString();
  });

/** The sums of a list of buffers. */
function sums(lines: Line[], heap: string): Pick<Figures, 'buffers' | 'bytes'> {
  const its = lines.filter((line) => line.heap === heap);
  return { buffers: its.length, bytes: its.reduce((sum, { size }) => sum + size, 0) };
}

describeModules('sysfs', () => {
  it('shows everybody what is allocated, and lets nobody change it', () => {
    for (const device of devices) {
      const folders = [join(SYSFS, 'misc', device), ...heapFolders(device).values()];
      const names = ['name', 'buffers', 'bytes', 'peak_bytes', 'max_bytes', 'pool_bytes'];
      const files = folders.flatMap((folder) => names.map((name) => join(folder, name))).filter(existsSync);
      assert.equal(files.length, (device === 'exporter' ? 3 : 4) + 4 * (folders.length - 1));
      for (const file of files) assert.equal(statSync(file).mode & 0o777, 0o444, file);
      assert.equal(
        execFileSync('cat', files, { uid: 65534, gid: 65534, encoding: 'utf8' }),
        files.map((file) => readFileSync(file, 'utf8')).join(''),
      );
    }
  });

  // A kernel's own dma-heaps are none of ours.
  const nodes = hasOwnDmaHeaps() ? [] : ['system', 'reserved'];
  for (const [device, name, path] of [
    ...heapTable.map(({ name }) => ['ion', name, '/dev/ion'] as const),
    ...nodes.map((name) => ['ion', name, `/dev/dma_heap/${name}`] as const),
    ['cma_mem', 'cma_mem', '/dev/cma_mem'] as const,
  ]) {
    const module = moduleOf[device];
    it(`follows every buffer of ${name} (${path}) as the library does, and keeps its peak`, async () => {
      // The peak begins anew.
      unload(module);
      load(module);
      await leavesNoPage(() => {
        using heap = openHeap(path, { heap: name });
        const shows = (count: number, pages: number, peak: number) => {
          const held = { buffers: count, bytes: pages * PAGE };
          assert.deepEqual(counters(device), held);
          assert.deepEqual(figures(device).get(name), { ...held, peak: peak * PAGE });
          const { buffers, bytes, peakBytes, maxBytes } = heap.stats();
          assert.deepEqual({ buffers, bytes, peakBytes }, { ...held, peakBytes: peak * PAGE });
          // That of a node is /dev/ion's.
          assert.equal(maxBytes, Number(readFileSync(`/sys/class/misc/${device}/max_bytes`, 'utf8')));
        };
        shows(0, 0, 0);
        const first = heap.allocSync(2 * PAGE + 1);
        shows(1, 3, 3);
        const second = heap.allocSync(1);
        shows(2, 4, 4);
        // one buffer, whoever refers to it
        const mapping = first.map();
        first.dup().close();
        first.close();
        shows(2, 4, 4);
        mapping.close();
        shows(1, 1, 4);
        const third = heap.allocSync(2 * PAGE);
        shows(2, 3, 4);
        second.close();
        third.close();
        shows(0, 0, 4);
        assert.throws(() => heap.allocSync(totalmem()), { code: 'ENOMEM' });
        shows(0, 0, 4);
        heap.allocSync(5 * PAGE).close();
        shows(0, 0, 5);
      });
    });
  }
});

describeModules('debugfs', () => {
  it('shows tables to root alone', () => {
    for (const device of devices) {
      const folder = debugfs(device);
      const pool = device === 'exporter' ? [] : ['drain', 'pool'];
      assert.deepEqual(readdirSync(folder).sort(), ['buffers', ...pool, 'heaps'].sort());
      for (const name of readdirSync(folder)) {
        assert.equal(statSync(join(folder, name)).mode & 0o777, name === 'drain' ? 0o200 : 0o400);
      }
    }
  });

  it('has no line for what is not there', () => {
    for (const device of devices) assert.equal(buffers(device).length, idleCounters[device].buffers);
  });

  it('counts as sysfs does', async () => {
    await leavesNoPage(() => {
      const held = heaps()
        .filter(({ dma, kind }) => dma && kind !== 'udmabuf')
        .flatMap(({ path, name }, index) => {
          using heap = openHeap(path, { heap: name });
          return [heap.allocSync((index + 1) * PAGE), heap.allocSync(PAGE)];
        });
      try {
        for (const device of devices) {
          const lines = buffers(device);
          const expected = figures(device);
          const rows = heapLines(device);
          assert.deepEqual(rows.map(({ heap }) => heap).sort(), [...expected.keys()].sort());
          for (const { heap, id, size, largest_free, base, ...row } of rows) {
            const its = expected.get(heap);
            assert((its?.buffers ?? 0) > 0, heap);
            const said = { buffers: Number(row.buffers), bytes: Number(row.bytes), peak: Number(row.peak_bytes) };
            assert.deepEqual(said, its, heap);
            assert.deepEqual({ ...sums(lines, heap), peak: its?.peak }, its, heap);
            // no carveout is among the default heaps
            assert.deepEqual([size, largest_free, base], ['-', '-', '-']);
            const folder = heapFolders(device).get(heap);
            assert(folder?.endsWith(id === '-' ? `/dma_heap/${heap}` : `/heap${id}`), `${heap}: ${id}`);
          }
        }
      } finally {
        for (const buffer of held) buffer.close();
      }
    });
  });

  it('says of a buffer its size, its heap, whether it is cached, and who made it', async function () {
    await withDevice(this, '/dev/ion', async (process, ion) => {
      const made: { fd: number; heap: string; cached: string; size: number }[] = [];
      for (const { name, id } of heapTable) {
        for (const cached of [true, false]) {
          const pages = made.length + 1;
          const flags = cached ? ION_FLAG_CACHED : 0;
          const fd = await alloc(process, ion, { len: pages * PAGE, mask: 1 << id, flags });
          made.push({ fd, heap: name, cached: saysCached(cached) ? 'yes' : 'no', size: pages * PAGE });
        }
      }
      const expected = made.map(({ size, heap, cached }) => ({
        ...{ size, heap, cached, pid: process.pid },
        ...{ names: '-', attachments: [] },
      }));
      const lines = buffers('ion');
      assert.deepEqual(
        lines.map(({ id: _, ...line }) => line),
        expected,
      );
      assert.equal(new Set(lines.map(({ id }) => id)).size, lines.length);
      for (const { fd } of made) await process.must('close', fd);
    });
  });

  it('keeps its columns whatever a buffer is called', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('ion');
      for (const name of ['two words', 'a,b', 'a\n       1      4096 b', '\t\r\v\f\b\x1b', '\\054', '-', 'ü']) {
        using _buffer = heap.allocSync(PAGE, { name });
        assert.deepEqual(namesIn(onlyBuffer('ion')), [name]);
      }
    });
  });

  it('has all names of a region of cma_mem, while its dma-bufs have them', async () => {
    await leavesNoPage(() => {
      using cma = CmaMem.open();
      const region = cma.allocateSync(3 * PAGE);
      assert.deepEqual(namesIn(onlyBuffer('cma_mem')), [undefined]);
      const first = region.export({ name: 'the, first' });
      using _second = region.export({ name: 'second' });
      assert.deepEqual(namesIn(onlyBuffer('cma_mem')), ['the, first', 'second']);
      using _third = region.export();
      assert.deepEqual(namesIn(onlyBuffer('cma_mem')), ['the, first', 'second', undefined]);
      first.close();
      const { names, size } = onlyBuffer('cma_mem');
      assert.deepEqual({ names, size }, { names: 'second,-', size: 3 * PAGE });
    });
  });

  it('lists 500 buffers, each once', async () => {
    await leavesNoPage(() => {
      using heap = openHeap('ion');
      const held = Array.from({ length: 500 }, (_, index) => heap.allocSync(PAGE, { name: `buffer ${index}` }));
      const lines = buffers('ion');
      for (const buffer of held) buffer.close();
      assert.deepEqual(
        lines.map((line) => namesIn(line)[0]),
        held.map(({ name }) => name),
      );
      assert.equal(new Set(lines.map(({ id }) => id)).size, held.length);
    });
  });

  describe('with vivid', () => {
    const capture = withDriver('vivid', vividWith('device'), 'v4l2-capture');

    it('has the devices that a buffer is mapped for', async () => {
      await leavesNoPage(async () => {
        using heap = openHeap('ion', { contiguous: true });
        using first = heap.allocSync(1 << 20, { name: 'first' });
        using second = heap.allocSync(1 << 20, { name: 'second' });
        const attachments = () => buffers('ion').map((line) => [namesIn(line)[0], ...line.attachments]);
        assert.deepEqual(attachments(), [['first'], ['second']]);
        await whileImported(capture, [vividCamera(), '2'], [first, second], () => {
          assert.deepEqual(attachments(), [
            ['first', ['vivid.0', 'mapped']],
            ['second', ['vivid.0', 'mapped']],
          ]);
        });
        await eventually(() => assert.deepEqual(attachments(), [['first'], ['second']]));
      });
    });
  });
});
