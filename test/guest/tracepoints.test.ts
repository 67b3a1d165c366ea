// SPDX-License-Identifier: MIT
/** The tracepoints of every buffer's life (events/dmabuf). */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { CmaMem, type DmaBuf, heaps, openHeap } from 'dmabuf';
import { vgemCard, vividCamera, vividWith, whileImported, withDriver } from './drivers.ts';
import { describeEdus, EduProcess } from './edu.ts';
import { everyHeap, everyHeapTable } from './ion.ts';
import { allocate, called } from './memories.ts';
import { describeModules, leavesNoPage, PAGE, saysCached, suiteWithParameters } from './support.ts';

const TRACEFS = '/sys/kernel/tracing';

/** Bytes in one piece that every device can do with (dma_get_max_seg_size). */
const MAX_SEGMENT = 64 << 10;

describeModules('the tracepoints', () => {
  // Whether it is mounted is not the kernel's choice.
  if (!/\ttracefs$/m.test(readFileSync('/proc/filesystems', 'utf8'))) {
    it('are not there: this kernel is built without them (no tracefs in /proc/filesystems)');
    return;
  }
  suiteWithParameters('ion', everyHeapTable);

  const buffers = [...everyHeap, ...heaps().filter(({ kind }) => kind === 'cma-mem')].flatMap((info) =>
    [true, false].map((cached) => ({ ...info, cached })),
  );

  type Field = 'id' | 'size' | 'cached' | 'device' | 'heap' | 'offset' | 'importer' | 'direction' | 'segments';

  /** A traced event: its name, and what it says. */
  type Event = [name: string, said: Partial<Record<Field, string | undefined>>];

  /** The events of `body`, in a buffer of their own. */
  async function traced(body: () => unknown): Promise<Event[]> {
    const instance = join(TRACEFS, 'instances/tests');
    const enable = (word: string) => writeFileSync(join(instance, 'events/dmabuf/enable'), word);
    mkdirSync(instance);
    try {
      enable('1');
      await leavesNoPage(body);
      enable('0');
      const text = readFileSync(join(instance, 'trace'), 'utf8');
      return [...text.matchAll(/: dmabuf_(\w+): (.*)$/gm)].map(([, name = '', said = '']) => [
        name,
        Object.fromEntries(said.split(' ').map((field) => field.split('='))),
      ]);
    } finally {
      rmdirSync(instance);
    }
  }

  for (const { kind, name, path, cached, protected: secured } of buffers) {
    it(`follow a buffer of ${name}, ${cached ? '' : 'not '}cached`, async () => {
      const events = await traced(() => {
        using heap = openHeap(path, { heap: name });
        using buffer = heap.allocSync(2 * PAGE + 1, { cached });
        const map = () => buffer.map({ offset: PAGE, length: PAGE + 1 }).close();
        if (secured) assert.throws(map, { code: 'EPERM' });
        else map();
      });
      const common = { id: events[0]?.[1].id, cached: saysCached(cached) ? '1' : '0' };
      const whole = { ...common, size: `${3 * PAGE}`, device: kind.replace('-', '_'), heap: name };
      assert.deepEqual(events, [
        ['alloc', whole],
        ...(secured ? [] : [['mmap', { ...common, offset: `${PAGE}`, size: `${2 * PAGE}` }]]),
        ['free', whole],
      ]);
    });
  }

  /** What memory held before it was zeroed does not come back where a device that only writes has the cache thrown away. */
  const zeroesWrittenBack = ({ cached }: { cached: boolean }, common: Event[1]): Event[] =>
    cached && process.arch !== 'x64' ? [['write_back', { ...common, offset: '0' }]] : [];

  for (const cached of [true, false]) {
    it(`tell what CMEM_CACHE_FLUSH does to a region that is ${cached ? '' : 'not '}cached, of which no device knows`, async () => {
      const events = await traced(() => {
        using cma = CmaMem.open();
        using region = cma.allocateSync(2 * PAGE, { cached });
        region.flush({ offset: PAGE - 100, length: 151 });
        region.flush();
      });
      const [[, { id, cached: said }] = ['', {}], ...rest] = events;
      const common = { id, cached: said };
      if (!saysCached(cached)) {
        assert.deepEqual(
          rest.map(([name]) => name),
          ['free'],
        );
        return;
      }
      const whole = { ...common, offset: '0', size: `${2 * PAGE}` };
      const [zeroes, part, lines, ...others] = process.arch === 'x64' ? rest.toSpliced(2, 0, ['', {}]) : rest;
      assert.deepEqual(zeroes, ['write_back', whole]);
      assert.deepEqual(part, ['write_back', { ...common, offset: `${PAGE - 100}`, size: '151' }]);
      if (process.arch !== 'x64') {
        const [name, { offset, size, ...also } = {}] = lines ?? [];
        assert.deepEqual([name, also], ['invalidate', common]);
        // To both ends of lines of the cache, which have up to 128 bytes, and no further.
        assert(Number(offset) <= PAGE - 100 && Number(offset) > PAGE - 100 - 128, offset);
        const end = Number(offset) + Number(size);
        assert(end >= PAGE + 51 && end < PAGE + 51 + 128, `${end}`);
      }
      assert.deepEqual(others.slice(0, -1), [
        ['write_back', whole],
        ...(process.arch === 'x64' ? [] : [['invalidate', whole]]),
      ]);
    });
  }

  /** Traces a buffer whose importer maps it for its device, a bracket of the CPU's, and the end of both. */
  async function checkImport(
    { kind, name, path, cached, contiguous }: (typeof buffers)[0],
    expected: { importer: string; direction: string; mmap: boolean },
    use: (first: DmaBuf, second: DmaBuf) => Promise<void>,
  ): Promise<void> {
    const size = 3 * MAX_SEGMENT;
    const events = await traced(async () => {
      using heap = openHeap(path, { heap: name });
      using first = heap.allocSync(size, { cached });
      using second = heap.allocSync(size, { cached });
      await use(first, second);
    });
    const id = events[0]?.[1].id;
    const its = events.filter(([, said]) => said.id === id);
    const segments = its.find(([name]) => name === 'map')?.[1].segments;
    const common = { id, cached: saysCached(cached) ? '1' : '0', size: `${size}` };
    const whole = { ...common, device: kind.replace('-', '_'), heap: name };
    const mapped = { ...common, importer: expected.importer, direction: expected.direction, segments };
    assert.deepEqual(its, [
      ['alloc', whole],
      ...(expected.direction === 'from-device' ? zeroesWrittenBack({ cached }, common) : []),
      ['map', mapped],
      ['sync_for_device', mapped],
      ...(expected.mmap ? [['mmap', { ...common, offset: '0' }]] : []),
      ['sync_for_cpu', mapped],
      ['sync_for_device', mapped],
      ['sync_for_cpu', mapped],
      ['unmap', mapped],
      ['free', whole],
    ]);
    const most = contiguous ? size / MAX_SEGMENT : size / PAGE;
    assert(Number(segments) >= 1 && Number(segments) <= most, `${segments} segments`);
  }

  // What QEMU, which has no caches, cannot show: without these calls a real device would see old bytes.
  describeEdus('with a device that does DMA', (first, second) => {
    it('tell what CMEM_CACHE_FLUSH does to a region that devices have mapped, to read or to write', async () => {
      for (const direction of ['to-device', 'from-device'] as const) {
        const events = await traced(async () => {
          using cma = CmaMem.open();
          using region = cma.allocateSync(PAGE);
          using buffer = region.export();
          await using edu = new EduProcess(buffer);
          await edu.mapped(buffer, first, direction);
          region.flush();
        });
        const names = events.map(([name]) => name);
        const flush = names.slice(names.indexOf('sync_for_device') + 1, names.lastIndexOf('unmap') - 1);
        const drops = direction === 'to-device' && process.arch !== 'x64' ? ['invalidate'] : [];
        assert.deepEqual(flush, ['write_back', 'sync_for_device', ...drops, 'sync_for_cpu'], direction);
      }
    });

    const kinds = ['the_system', 'the_dma', 'the_protected', 'cma_mem'];
    for (const info of buffers.filter(({ name }) => kinds.includes(name))) {
      it(`tell of a sync of a buffer of ${called(info)}, for each device that has it mapped, and those that read come first`, async () => {
        const events = await traced(async () => {
          using buffer = allocate(info, PAGE);
          await using edu = new EduProcess(buffer);
          const writer = await edu.mapped(buffer, first, 'from-device');
          const reader = await edu.mapped(buffer, second, 'to-device', 'static');
          const idle = await edu.import(buffer, first);
          // A bracket, in which it is mapped.
          if (info.protected) assert.throws(() => buffer.copy(), { code: 'EPERM' });
          else buffer.copy();
          await reader.unmap();
          await writer.unmap();
          await idle.close();
        });
        const id = events[0]?.[1].id;
        const common = { id, cached: saysCached(info.cached) ? '1' : '0', size: `${PAGE}` };
        const [writes, reads] = [
          { ...common, segments: '1', importer: first, direction: 'from-device' },
          { ...common, segments: '1', importer: second, direction: 'to-device' },
        ];
        assert.deepEqual(events.slice(1, -1), [
          ...zeroesWrittenBack(info, common),
          ['map', writes],
          ['sync_for_device', writes],
          ['map', reads],
          ['sync_for_device', reads],
          // start
          ['sync_for_cpu', reads],
          ['sync_for_cpu', writes],
          ...(info.protected ? [] : [['mmap', { ...common, offset: '0' }]]),
          // end
          ['sync_for_device', reads],
          ['sync_for_device', writes],
          ['sync_for_cpu', reads],
          ['unmap', reads],
          ['sync_for_cpu', writes],
          ['unmap', writes],
        ]);
      });
    }
  });

  describe('with vivid', () => {
    const capture = withDriver('vivid', vividWith('device'), 'v4l2-capture');

    for (const info of buffers.filter(({ contiguous }) => contiguous)) {
      it(`follow a buffer of ${info.name}, ${info.cached ? '' : 'not '}cached, to its device and back`, () =>
        checkImport(info, { importer: 'vivid.0', direction: 'from-device', mmap: false }, (first, second) =>
          whileImported(capture, [vividCamera(), '2', ...(info.protected ? ['queue'] : [])], [first, second], () => {}),
        ));
    }
  });

  describe('with vgem', () => {
    // 6.12 maps what it imports, 7.2 no longer does.
    if (Number.parseInt(release(), 10) >= 7) {
      it('has nothing to follow: vgem of this kernel maps nothing for a device');
      return;
    }
    const importer = withDriver('vgem', [], 'vgem-import');

    for (const info of buffers) {
      it(`follow a buffer of ${info.name}, ${info.cached ? '' : 'not '}cached, to its device and back`, () =>
        checkImport(info, { importer: 'vgem', direction: 'both', mmap: !info.protected }, (first) =>
          whileImported(importer, [vgemCard(), ...(info.protected ? ['protected'] : [])], [first], () => {}),
        ));
    }
  });
});
