// SPDX-License-Identifier: MIT
/**
 * Tables of heaps that ion_lite refuses, orders of them, and memory that cma_mem refuses, each in a guest with a device
 * tree of its own.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guest } from './run-guest.ts';

/** Regions, and heaps as nodes of /ion-heaps. */
const tree = (heaps: string, cma = '') => `/dts-v1/;
/plugin/;

&{/} {
	#address-cells = <2>;
	#size-cells = <2>;

	reserved-memory {
		#address-cells = <2>;
		#size-cells = <2>;
		ranges;

		whole: whole@60000000 { reg = <0x0 0x60000000 0x0 0x100000>; };
		odd: odd@60200000 { reg = <0x0 0x60200000 0x0 0x100800>; };
		hole: hole@60300000 { reg = <0x0 0x60300000 0x0 0x800000>; };
		unmapped: unmapped@61000000 { reg = <0x0 0x61000000 0x0 0x100000>; no-map; };
	};

	other: other { };

	ion-heaps {
		compatible = "dmabuf,ion-heaps";
		#address-cells = <1>;
		#size-cells = <0>;
		${heaps}
	};
	${cma}
};
`;

const heap = (id: number, properties: string) => `heap@${id.toString(16)} { reg = <${id}>; ${properties} };`;
const typed = (id: number, label: string, type: string, more = '') =>
  heap(id, `label = "${label}"; dmabuf,type = "${type}"; ${more}`);
const carveout = (id: number, region: string) => typed(id, `c${id}`, 'carveout', `memory-region = <${region}>;`);

interface Wrong {
  what: string;
  heaps: string;
  why: RegExp;
  options?: string[];
}

/** What heaps= can get wrong as well is told by the same code. */
const wrong: Wrong[] = [
  { what: 'no heaps', heaps: '', why: /\/ion-heaps: it has no heaps$/m },
  {
    what: 'an id twice',
    heaps: `${typed(3, 'a', 'dma')}${typed(3, 'b', 'dma').replace('heap@', 'other@')}`,
    why: /@3: its reg is to be an id from 0 to 31, no other heap's$/m,
  },
  {
    what: 'no type',
    heaps: `${typed(0, 'system', 'system')}${heap(1, 'label = "a";')}`,
    why: /device tree: entry 2, a: it has no dmabuf,type$/m,
  },
  {
    what: 'no name',
    heaps: heap(1, 'dmabuf,type = "system";'),
    why: /device tree: entry 1: it has no label, which is its name$/m,
  },
  {
    what: 'an unknown type',
    heaps: typed(1, 'a', 'sytem'),
    why: /device tree: entry 1, a: unknown type; there are system, /m,
  },
  {
    what: 'a size of nothing',
    heaps: typed(1, 'a', 'protected', 'dmabuf,size;'),
    why: /entry 1, a: its dmabuf,size is not a number$/m,
  },
  {
    what: 'a region that two heaps want',
    heaps: carveout(1, '&whole') + carveout(2, '&whole'),
    why: /entry 2, c2: it overlaps another heap$/m,
  },
  {
    what: 'two regions for a heap',
    heaps: carveout(1, '&whole>, <&odd'),
    why: /entry 1, c1: its memory-region is not one that is there$/m,
  },
  {
    what: 'a region that is none',
    heaps: carveout(1, '&other'),
    why: /entry 1, c1: its memory-region is not reserved memory$/m,
  },
  {
    what: 'a region with half a page',
    heaps: carveout(1, '&odd'),
    why: /entry 1, c1: its memory-region is not made of whole pages$/m,
  },
  {
    what: 'a region and a size',
    heaps: typed(1, 'a', 'protected', 'memory-region = <&whole>; dmabuf,size = <4096>;'),
    why: /entry 1, a: it has both a size and a memory-region$/m,
  },
  {
    what: 'an order without one of the heaps',
    heaps: `dmabuf,order = <1>; ${typed(1, 'a', 'dma')}${typed(2, 'b', 'dma')}`,
    why: /ion-heaps: its dmabuf,order is to have the id of each heap once$/m,
  },
  {
    what: 'an order with a heap twice',
    heaps: `dmabuf,order = <1 1>; ${typed(1, 'a', 'dma')}${typed(2, 'b', 'dma')}`,
    why: /ion-heaps: its dmabuf,order is to have the id of each heap once$/m,
  },
  {
    // The kernel has struct pages there, for all of the section the end of RAM is in.
    what: 'a region beyond the end of RAM',
    heaps: carveout(1, '&hole'),
    why: /entry 1, c1: its memory is not all RAM$/m,
    options: ['--arch', 'arm64', '--kernel', '6.12', '--mem', '518'],
  },
];

/** Memory for cma_mem, beside a node of it that is switched off, which nobody asks. */
const cmaMem = (name: string, properties: string) => `${name} { compatible = "dmabuf,cma-mem"; ${properties} };`;

interface WrongMemory {
  what: string;
  region: string;
  why: string;
  options?: string[];
}

const wrongMemory: WrongMemory[] = [
  {
    what: 'from what is no region',
    region: 'memory-region = <&other>;',
    why: 'its memory-region is not reserved memory',
  },
  {
    what: 'without struct pages',
    region: 'memory-region = <&unmapped>;',
    why: 'its region is no-map: it has no struct pages',
  },
  { what: 'from no region at all', region: '', why: 'its memory-region is not one that is there' },
  {
    what: 'beyond the end of RAM',
    region: 'memory-region = <&hole>;',
    why: 'its memory is not all RAM',
    options: ['--arch', 'arm64', '--kernel', '6.12', '--mem', '518'],
  },
];

describe('a device tree', function () {
  this.timeout(300_000);
  this.slow(60_000);
  let directory: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'dmabuf-tree-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  let overlays = 0;
  async function boot(heaps: string, script: string, options: string[] = [], cma = ''): Promise<string> {
    const overlay = join(directory, `${overlays++}.dtbo`);
    execFileSync('dtc', ['-q', '-@', '-I', 'dts', '-O', 'dtb', '-o', overlay, '-'], { input: tree(heaps, cma) });
    const { code, stdout, stderr } = await guest([...options, '--dtbo', overlay, '--', 'sh', '-c', script]);
    assert.equal(code, 0, stderr);
    return `${stdout}`;
  }

  it('lists heaps by their ids, or as dmabuf,order says', async () => {
    const heaps = [5, 0, 31, 7].map((id) => typed(id, `h${id}`, 'iommu')).join('\n');
    const script =
      'ls /sys/class/misc/ion | grep heap; mount -t debugfs d /sys/kernel/debug; cat /sys/kernel/debug/ion/heaps';
    for (const [order, expected] of [
      ['', ['h0', 'h5', 'h7', 'h31']],
      ['dmabuf,order = <7 31 0 5>;', ['h7', 'h31', 'h0', 'h5']],
    ] as const) {
      const names = (await boot(`${order}${heaps}`, script)).matchAll(/^(h\d+) /gm);
      assert.deepEqual(
        [...names].map(([, name]) => name),
        expected,
      );
    }
  });

  it('has carveouts taken from memory, which follow each other there where they do in the order', async () => {
    const size = (bytes: number) => `dmabuf,size = <${bytes}>;`;
    const heaps = [
      'dmabuf,order = <4 1 9 2 3>;',
      typed(1, 'first', 'carveout', size(0x10000)),
      typed(2, 'alone', 'carveout', size(0x8000)),
      typed(3, 'region', 'carveout', 'memory-region = <&whole>;'),
      typed(4, 'secured', 'protected', size(0x20000)),
      typed(9, 'system', 'system'),
    ].join('\n');
    // what is taken from each in turn, and how much is left of it
    const script = `
      grep -E 'heap|carveout' /sys/kernel/debug/ion/heaps
      node -e "
        const { openHeap } = require('dmabuf');
        for (const name of ['first', 'alone', 'region', 'secured']) {
          const heap = openHeap('ion', { heap: name });
          const buffer = heap.allocSync(4096);
          const { size, bytes, largestFree } = heap.stats();
          console.log('took', name, size, bytes, largestFree);
          buffer.close();
          heap.close();
        }
      "`;
    const said = await boot(heaps, script);
    const [, secured, first, alone, region] = said.split('\n').map((line) => line.trim().split(/\s+/));
    const places = [secured, first, alone, region].map((words) => [
      words?.[0],
      Number(words?.[6]),
      Number(words?.at(-1)),
    ]);
    const from = places[0]?.[2] as number;
    assert.deepEqual(places.slice(0, 2), [
      ['secured', 0x20000, from],
      ['first', 0x10000, from + 0x20000],
    ]);
    assert.deepEqual(places[2]?.slice(0, 2), ['alone', 0x8000]);
    assert.deepEqual(places[3], ['region', 0x100000, 0x60000000]);
    assert.deepEqual(said.match(/^took .*$/gm), [
      `took first ${0x10000} 4096 ${0x10000 - 4096}`,
      `took alone ${0x8000} 4096 ${0x8000 - 4096}`,
      `took region ${0x100000} 4096 ${0x100000 - 4096}`,
      `took secured ${0x20000} 4096 ${0x20000 - 4096}`,
    ]);
  });

  // Two machines at a time, of cma_mem's as of ion_lite's.
  for (let i = 0; i < wrongMemory.length; i += 2) {
    const pair = wrongMemory.slice(i, i + 2);
    it(`gives cma_mem no memory ${pair.map(({ what }) => what).join(', or ')}`, async () => {
      const script = 'rmmod cma_mem; if modprobe cma_mem; then exit 9; fi; dmesg | grep "cma_mem: "';
      const boots = pair.map(({ region, options = [] }) => {
        const nodes = cmaMem('cma-off', 'memory-region = <&whole>; status = "disabled";') + cmaMem('cma-mem', region);
        return boot(typed(0, 'any', 'system'), script, [...options, '--module', 'cma_mem region=N'], nodes);
      });
      for (const [at, said] of (await Promise.all(boots)).entries()) {
        assert.match(said, new RegExp(`cma_mem: /cma-mem: ${pair[at]?.why}$`, 'm'));
      }
    });
  }

  for (let i = 0; i < wrong.length; i += 2) {
    const pair = wrong.slice(i, i + 2);
    it(`is refused that has ${pair.map(({ what }) => what).join(', or ')}`, async () => {
      const script = 'rmmod ion_lite; if modprobe ion_lite; then exit 9; fi; dmesg | grep "ion_lite: "';
      const loaded = ['--module', 'ion_lite heaps=0:system:any'];
      const boots = pair.map(({ heaps, options = [] }) => boot(heaps, script, [...loaded, ...options]));
      for (const [at, said] of (await Promise.all(boots)).entries()) assert.match(said, pair[at]?.why as RegExp);
    });
  }
});
