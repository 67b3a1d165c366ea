// SPDX-License-Identifier: MIT
/**
 * Whether the debug kernel, and what looks for leaks in it, see mistakes: each is put into a scratch copy of the
 * modules, which then do a little of what they are for. DMABUF_DEBUG_ARCH names the architecture,
 * DMABUF_DEBUG_PROGRAMS the directory with the programs in C, DMABUF_TURN which half of them is meant: all by default.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildModules } from '../../scripts/src/build.ts';
import { kernelFiles } from '../../scripts/src/kernel.ts';
import { chooseMachine } from '../../scripts/src/machines.ts';
import { type Ended, guest, projectRoot } from './run-guest.ts';

const { DMABUF_DEBUG_ARCH: arch = 'armhf', DMABUF_DEBUG_PROGRAMS: programs, DMABUF_TURN: turn } = process.env;
const machine = chooseMachine(arch, 'debug');

/** What is exchanged for what in a file of kernel-modules/. */
interface Edit {
  file: string;
  from: string;
  to: string;
}

const cma = (from: string, to: string): Edit => ({ file: 'cma_mem/device.c', from, to });
const regions = (from: string, to: string): Edit => ({ file: 'cma_mem/regions.c', from, to });
const exporter = (from: string, to: string): Edit => ({ file: 'exporter/exporter.c', from, to });
const memory = (from: string, to: string): Edit => ({ file: 'core/memory.c', from, to });
const pool = (from: string, to: string): Edit => ({ file: 'core/pool.c', from, to });
const kept = (from: string, to: string): Edit => ({ file: 'core/kept.c', from, to });
const debugfs = (from: string, to: string): Edit => ({ file: 'core/debugfs.c', from, to });

/** The end of cmem_regions_close(). */
const CLOSE_ACCOUNT = '\tdmabuf_account_close(regions->account);\n';
const LAST_PUT = `${CLOSE_ACCOUNT}\tput_regions(regions);\n}\n`;
const SHARE = '\tdmabuf = dmabuf_buffer_share(buffer, file->f_flags & O_ACCMODE);\n';

/** Takes a buffer of several pages and gives it back. */
const ALLOCATE = '/share/c/ion-garbage-mask';

interface Mistake {
  title: string;
  edits: Edit[];
  /** What has to be reported. */
  report: RegExp;
  /** The exit code of the guest: 1 where the program or the look at what is left found it, 99 where the kernel did. */
  code: 1 | 99 | 'either';
  /** What to do, if not only to open and to close. */
  command?: string;
  /** The kernel reports it at once: nobody looks for what is left. */
  atOnce?: true;
}

const mistakes: Mistake[] = [
  {
    title: 'memory nobody frees',
    edits: [regions(LAST_PUT, `${CLOSE_ACCOUNT}}\n`)],
    report: /left behind: .*\[cma_mem\][\s\S]*kmemleak: 1 new suspected memory leaks/,
    code: 99,
  },
  {
    title: 'pages nobody frees',
    edits: [
      memory(
        '\t\tif (!dmabuf_pool_give(pool, page, order))\n',
        '\t\tif (pfn + pages != end && !dmabuf_pool_give(pool, page, order))\n',
      ),
    ],
    report: /left behind: \d+ pages of buffers, [\s\S]*\[dmabuf_core\]/,
    code: 1,
    command: ALLOCATE,
  },
  {
    title: 'a page a module keeps when it is unloaded',
    edits: [
      exporter(
        '\tdmabuf_device_unregister(&exporter_device);\n\tdmabuf_buffer_put(buffer);\n',
        '\tdmabuf_device_unregister(&exporter_device);\n',
      ),
    ],
    report: /left behind: 1 pages of buffers, not 0:/,
    code: 99,
  },
  {
    title: "somebody else's bytes",
    edits: [
      memory('(GFP_HIGHUSER | __GFP_ZERO | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)', '(GFP_HIGHUSER | __GFP_NOWARN)'),
    ],
    report: /byte \d+ of \d+ fresh ones is 0x/,
    code: 1,
    command: '/share/c/fuzz --calls 3000',
  },
  {
    title: 'what a block of the pool held before',
    edits: [pool('\t\tif (!poisoned)\n\t\t\tzero_block(page, dmabuf_orders[i]);\n\t\tspin_lock(', '\t\tspin_lock(')],
    report: /churn: bytes of somebody else at \d+ of \d+/,
    code: 1,
    command: '/share/c/churn 64',
  },
  {
    title: 'what the last buffer of an open file held',
    edits: [
      kept('\tif (wanted)\n\t\tdmabuf_memory_zero(&kept->memory);\n', ''),
      kept('\telse if (kept->dirty)\n\t\tret = dmabuf_memory_zero(&kept->memory);\n', ''),
    ],
    report: /races: kept, .*page \d+ holds /,
    code: 1,
    command: 'rmmod ion_lite; insmod /share/ion_lite.ko; /share/c/races --rounds 20 kept',
  },
  {
    title: 'blocks a pool keeps when its device is gone',
    edits: [
      pool(
        '\tcompat_shrinker_destroy(pool->shrinker);\n\tdmabuf_pool_drain(pool);\n',
        '\tcompat_shrinker_destroy(pool->shrinker);\n',
      ),
      // Else the look at what is left would empty it.
      debugfs('\tdmabuf_pool_drain(device->pool);\n\n\treturn size;', '\treturn device->pool ? size : 0;'),
    ],
    report: /\d+ pages of buffers, not 0:/,
    code: 'either',
    command: ALLOCATE,
  },
  {
    title: 'a page that is in a pipe and in a buffer',
    edits: [
      pool('page_count(page) != 1 || ', ''),
      memory('heap->direct_io ? NULL : heap->device->pool', 'heap->device->pool'),
    ],
    report: /pins: a buffer has a page that is held/,
    code: 1,
    command:
      'rmmod ion_lite; insmod /share/ion_lite.ko heaps=0:system:direct direct_io=1; ' +
      'echo | /share/c/pins vmsplice 1',
  },
  {
    title: 'a page that two buffers have',
    edits: [
      {
        file: 'core/carveout.c',
        from: 'bitmap_set(carveout->used, first, pages);',
        to: 'bitmap_set(carveout->used, first, 1);',
      },
    ],
    report: /races: carveouts, .*page \d+ holds /,
    // Two that write back the same page at a time are misuse of the DMA API.
    code: 'either',
    // The race loads them itself, from where modules are installed.
    command:
      'to=/lib/modules/$(uname -r); mount -t tmpfs modules $to; mkdir $to/extra; cp /share/*.ko $to/extra; ' +
      '/share/c/races carveouts',
  },
  {
    title: 'use after free',
    edits: [
      regions(
        '\tif (regions->owner) {\n\t\tlist_del(',
        '\tput_regions(regions);\n\tif (regions->owner) {\n\t\tlist_del(',
      ),
      regions(LAST_PUT, `${CLOSE_ACCOUNT}}\n`),
    ],
    report: /BUG: KASAN: slab-use-after-free in /,
    code: 99,
    atOnce: true,
  },
  {
    // As a device would: the compiler puts no check there.
    title: 'a write to a page that was given back',
    edits: [
      exporter(
        SHARE,
        '\t{\n\t\tstruct page *page = alloc_page(GFP_KERNEL);\n\n\t\t__free_page(page);\n' +
          '\t\twritel(0, page_address(page));\n\t\t__free_page(alloc_page(GFP_KERNEL));\n\t}\n' +
          SHARE,
      ),
      exporter('#include <linux/fs.h>\n', '#include <linux/fs.h>\n#include <linux/gfp.h>\n#include <linux/io.h>\n'),
    ],
    report: /pagealloc: (memory corruption|single bit error)/,
    code: 99,
    atOnce: true,
  },
  {
    title: 'locks taken in two orders',
    edits: [
      exporter(
        'static int exporter_open(',
        'static DEFINE_MUTEX(one);\nstatic DEFINE_MUTEX(other);\n\nstatic int exporter_open(',
      ),
      exporter(
        SHARE,
        `\tmutex_lock(&one);\n\tmutex_lock(&other);\n\tmutex_unlock(&other);\n\tmutex_unlock(&one);\n${SHARE}`,
      ),
      exporter(
        '\tdma_buf_put(file->private_data);\n',
        '\tmutex_lock(&other);\n\tmutex_lock(&one);\n\tmutex_unlock(&one);\n\tmutex_unlock(&other);\n' +
          '\tdma_buf_put(file->private_data);\n',
      ),
    ],
    report: /WARNING: possible circular locking dependency detected/,
    code: 99,
    atOnce: true,
  },
  {
    title: 'sleep where none is allowed',
    edits: [
      exporter('static int exporter_open(', 'static DEFINE_SPINLOCK(held);\n\nstatic int exporter_open('),
      exporter(SHARE, `\tspin_lock(&held);\n${SHARE}\tspin_unlock(&held);\n`),
    ],
    report: /BUG: (sleeping function called from invalid context|scheduling while atomic)/,
    code: 99,
    atOnce: true,
  },
  {
    title: 'DMA mapped as a page and unmapped as two',
    edits: [
      memory(
        '\t\tdma_unmap_page(dev, dma, bytes, direction);\n',
        '\t\tdma_unmap_page(dev, dma, 2 * PAGE_SIZE, direction);\n',
      ),
    ],
    // Of a size that fits none: the memory itself is the DMA API's, at the same address, and it takes neither for meant.
    report: /DMA-API: .*device driver (frees DMA memory with different size|tries to free DMA memory it has not alloc)/,
    code: 99,
    atOnce: true,
    command: '/share/c/cma-frame',
  },
  {
    title: 'an allocation nobody checks',
    edits: [cma('\tif (!region) {\n', '\tif (!region && !info) {\n')],
    report: /Unable to handle kernel (NULL pointer dereference|paging request)|KASAN: null-ptr-deref/,
    code: 99,
    atOnce: true,
    command: '/share/c/fail-nth "CMEM_ALLOCATE a page"',
  },
];

/** Every command has done its work when it says so. */
const DONE = 'the command has come to its end';

const script = (command: string, look: boolean) => `
set -e
insmod /share/dmabuf_core.ko
insmod /share/exporter.ko
insmod /share/ion_lite.ko ignore_heap_mask=1
insmod /share/cma_mem.ko
cat >/tmp/command <<'end'
for name in exporter cma_mem; do exec 3<>/dev/$name; exec 3<&-; done
${command}
echo ${DONE}
end
exec ${look ? 'test/debug/watched.sh' : ''} sh -e /tmp/command
`;

/** Builds a copy of the modules with these edits and runs them in a guest, which may look for what they left. */
async function tried(edits: Edit[], command: string, look = true): Promise<Ended> {
  const share = mkdtempSync(join(tmpdir(), 'dmabuf-detectors-'));
  try {
    const source = join(share, 'kernel-modules');
    cpSync(join(projectRoot, 'kernel-modules'), source, { recursive: true });
    for (const { file, from, to } of edits) {
      const text = readFileSync(join(source, file), 'utf8');
      assert.equal(text.split(from).length, 2, `${file} does not have this once: ${from}`);
      writeFileSync(join(source, file), text.replace(from, to));
    }
    const kernel = await kernelFiles(machine.kernel, machine.architecture);
    const modules = join(
      await buildModules(kernel, machine.architecture, source),
      'lib/modules',
      kernel.release,
      'extra',
    );
    for (const name of ['dmabuf_core', 'exporter', 'ion_lite', 'cma_mem']) {
      cpSync(join(modules, `${name}.ko`), join(share, `${name}.ko`));
    }
    mkdirSync(join(share, 'c'));
    if (programs !== undefined) cpSync(programs, join(share, 'c'), { recursive: true });
    const options = [
      '--arch',
      arch,
      '--kernel',
      'debug',
      '--smp',
      '1',
      '--no-modules',
      '--share',
      share,
      '--timeout',
      '600',
    ];
    return await guest([...options, '--append', 'init_on_alloc=0', '--', 'sh', '-c', script(command, look)]);
  } finally {
    rmSync(share, { recursive: true });
  }
}

describe('a kernel that reports its own bugs', function () {
  // The kernel may have to be built first.
  this.timeout(1_800_000);
  this.slow(300_000);

  it('has nothing to say of the modules as they are', async () => {
    const { code, stdout, stderr } = await tried([], ALLOCATE);
    assert.equal(code, 0, stderr);
    assert.match(`${stdout}`, new RegExp(DONE));
  });

  const chosen = mistakes.filter((_, i) => turn === undefined || i % 2 === Number(turn) % 2);
  for (const { title, edits, report, code, command = 'true', atOnce } of chosen) {
    it(`reports ${title}`, async () => {
      const ended = await tried(edits, command, !atOnce);
      assert.match(ended.stderr, report);
      if (code === 'either') assert(ended.code === 1 || ended.code === 99, `${ended.code}`);
      else assert.equal(ended.code, code);
    });
  }
});
