// SPDX-License-Identifier: MIT
/** The command `dmabuf` where there are devices. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { type DmaBuf, dmabufs, type HeapInfo, type HeapStats, heaps, openHeap } from 'dmabuf';
import { type Check, dmabuf, examined, isListening, MAIN, Running, said, saidJson, shell } from '../../command.ts';
import { vgemCard, withDriver } from '../drivers.ts';
import {
  cmaMemory,
  debugfs,
  describeModules,
  devices,
  eventually,
  hasOwnDmaHeaps,
  leavesNoPage,
  load,
  moduleOf,
  PAGE,
  suiteWithParameters,
  unload,
  wholePages,
  without,
} from '../support.ts';
import { O_RDWR, Syscalls } from '../syscalls.ts';

/** A user who is nobody in particular. */
const NOBODY = 65534;
const VIDEO = 44;

/** The smallest figure the doctor is content with: a frame of 1920 by 1080 pixels of RGBA. */
const FRAME = 1920 * 1080 * 4;

/** What the doctor says of something, in one line. */
function verdictOn(name: string, found: Map<string, Check> = examined()): string {
  const check = found.get(name);
  assert(check, `${[...found.keys()]}`);
  return `${check.verdict}: ${check.found} -> ${check.cure ?? ''}`;
}

/** The words of --from and --heap for one heap. */
const from = ({ path, name }: HeapInfo) => ['--from', path, '--heap', name];

/** One heap of each kind. */
const kinds = (['ion', 'dma-heap', 'cma-mem', 'udmabuf'] as const).flatMap(
  (wanted) => heaps().findLast(({ kind, error }) => kind === wanted && error === undefined) ?? [],
);

describeModules('dmabuf', function () {
  this.timeout(240_000);
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
  });
  after(() => rmSync(folder, { recursive: true }));
  before(() => {
    debugfs('');
  });

  it('shows a buffer of each kind of heap in ps and heaps as long as it is held', async () => {
    await leavesNoPage(async () => {
      const holders = kinds.map((info) => new Running(['alloc', '5K', ...from(info), '--name', 'held', '--json']));
      try {
        const made = await Promise.all(holders.map(async (holder) => JSON.parse(await holder.line())));
        const size = wholePages(5120);
        const documents = saidJson(['ps']) as { inode: number; exporter: string }[];
        const lines = said(['ps']);
        const all: (HeapInfo & { stats?: HeapStats })[] = saidJson(['heaps']);
        for (const [index, { kind, name, path, contiguous }] of kinds.entries()) {
          const { inode, pid, fd, ...rest } = made[index];
          assert.deepEqual(rest, {
            ...{ size, length: 5120, name: 'held', dma: true, contiguous, protected: false },
            heap: { kind, name, path },
          });
          const [document, ...others] = documents.filter((one) => one.inode === inode);
          assert(document && others.length === 0);
          const { exporter, ...listed } = document;
          const held = { pid, command: 'node', fds: [fd], mappings: 0 };
          assert.deepEqual(listed, { inode, size, name: 'held', devices: [], holders: [held] });
          assert.match(
            lines,
            new RegExp(`^ *${inode} +${size / 1024} +${exporter} +held +${pid} +node +${fd} +0$`, 'm'),
          );
          const stats = all.find((one) => one.path === path && one.name === name)?.stats;
          // The kernel's own heaps are not counted; that of a dma-heap may be ion's.
          if (stats !== undefined) {
            assert([1, 2].includes(stats.buffers), `${stats.buffers}`);
            assert.equal(stats.bytes, stats.buffers * size);
          }
        }
        for (const holder of holders) holder.kill('SIGTERM');
        for (const holder of holders) assert.equal(await holder.end(), 0);
        const inodes = made.map(({ inode }) => inode);
        assert.deepEqual(
          dmabufs().filter(({ inode }) => inodes.includes(inode)),
          [],
        );
      } finally {
        for (const holder of holders) await holder[Symbol.asyncDispose]();
      }
    });
  });

  it('fills and dumps a buffer, which goes to another terminal', async () => {
    await leavesNoPage(async () => {
      const path = join(folder, 'socket');
      await using receiver = new Running([
        'recv',
        path,
        '--',
        ...shell('d dump --offset 1K --length 4; d fill 7; d dump --length 1'),
      ]);
      await eventually(() => assert(isListening(path)), 60_000);
      const script = `d fill --from - --offset 1K && d send '${path}' --json && d dump --length 1`;
      const sent = dmabuf(['alloc', '8K', '--from', 'ion', '--name', 'sent', '--', ...shell(script)], {
        input: 'abcd',
      });
      assert.equal(sent.status, 0, sent.stderr);
      const [document = '', line = ''] = sent.stdout.split('\n');
      assert.deepEqual(JSON.parse(document).buffers[0].name, 'sent');
      // Before or after the other has filled it.
      assert.match(line, /^00000000 {2}0[07] /);
      assert.match(await receiver.line(), /^00000400 {2}61 62 63 64 .*\|abcd\|$/);
      assert.equal(await receiver.line(), '00000404');
      assert.match(await receiver.line(), /^00000000 {2}07 /);
      assert.equal(await receiver.line(), '00000001');
      assert.equal(await receiver.end(), 0);
    });
  });

  it('fills and dumps what another process holds, which keeps it', async () => {
    await leavesNoPage(async () => {
      await using holder = new Running(['alloc', '8K', '--from', 'ion', '--name', 'theirs', '--json']);
      const { pid, fd } = JSON.parse(await holder.line());
      const theirs = `${pid}:${fd}`;
      assert.equal(said(['fill', '7', '--offset', '4K', '--length', '1', '--fd', theirs]), '');
      const line = `00001000  07 00${' '.repeat(43)} |..|\n00001002\n`;
      assert.equal(said(['dump', theirs, '--offset', '4K', '--length', '2']), line);
      assert.equal(dmabufs().filter(({ name }) => name === 'theirs').length, 1);
      holder.kill('SIGTERM');
      assert.equal(await holder.end(), 0);
      assert.deepEqual(
        dmabufs().filter(({ name }) => name === 'theirs'),
        [],
      );
    });
  });

  describe('with a driver that imports', () => {
    withDriver('vgem', [], 'vgem-import');

    it('shows in ps what no process holds, and the device', async function () {
      await leavesNoPage(async () => {
        await using process = await Syscalls.start(this);
        using heap = openHeap('ion');
        const buffer = heap.allocSync(PAGE, { name: 'imported' });
        const { inode } = buffer;
        const card = await process.must('open', vgemCard(), O_RDWR);
        const fd = await process.take(buffer.fd);
        buffer.close();
        // DRM_IOCTL_PRIME_FD_TO_HANDLE
        await process.must('ioctl', card, 0xc00c642e, Buffer.from(Uint32Array.of(0, 0, fd).buffer));
        await process.must('close', fd);
        assert.match(said(['ps']), new RegExp(`^ *${inode} +${PAGE / 1024} +\\w+ +imported +vgem$`, 'm'));
        assert.deepEqual(saidJson(['ps', '--pid', `${process.pid}`]), []);
        await process.must('close', card);
      });
    });
  });

  it('chooses by what is needed, and allocates what is not cached', async () => {
    await leavesNoPage(async () => {
      for (const [args, wanted] of [
        [['--contiguous', '--no-cached'], { contiguous: true }],
        [['--no-contiguous', '--heap', '0'], { contiguous: false }],
        [['--type', 'system_contig'], { contiguous: true }],
        [['--heap', 'cma_mem'], { contiguous: true }],
      ] as const) {
        await using holder = new Running(['alloc', '1', ...args, '--json']);
        const { contiguous, dma, heap } = JSON.parse(await holder.line());
        assert.deepEqual({ contiguous, dma }, { ...wanted, dma: true });
        if (args.includes('cma_mem' as never)) assert.equal(heap.kind, 'cma-mem');
      }
    });
  });

  it('says what there is where there is not that much', async () => {
    await leavesNoPage(() => {
      const much = `${Math.floor(totalmem() / 2 ** 20) - 64}M`;
      const { status, stderr } = dmabuf(['alloc', much, '--heap', 'cma_mem']);
      assert.equal(status, 1);
      assert.match(
        stderr,
        /^dmabuf alloc: ENOMEM: .*(half of this machine's memory|max_bytes|no piece of contiguous memory)/,
      );
    });
  });

  it('leaves no buffer when either end is killed', async () => {
    await leavesNoPage(async () => {
      const path = join(folder, 'killed');
      const receiver = new Running(['recv', path, '--count', '2']);
      await eventually(() => assert(isListening(path)), 60_000);
      const sender = new Running([
        'alloc',
        '1M',
        '--from',
        'ion',
        '--',
        ...shell(`d send '${path}' && echo sent && exec sleep 600`),
      ]);
      assert.equal(await sender.line(), 'sent');
      await receiver[Symbol.asyncDispose]();
      rmSync(path);
      sender.kill('SIGTERM');
      assert.equal(await sender.end(), 143);
    });
  });

  describe('with a protected heap and one of 1 MiB', () => {
    suiteWithParameters('ion', 'heaps=5:protected:secret,20:carveout:camera:1M,0:system:system');

    it('says that the CPU may not look into what is protected', async () => {
      await leavesNoPage(() => {
        const script = 'd dump; echo $?; d fill 7; echo $?';
        const { stdout, stderr } = dmabuf(['alloc', '4K', '--heap', 'secret', '--', ...shell(script)]);
        assert.equal(stdout, '1\n1\n');
        const lines = stderr.trim().split('\n');
        for (const [index, name] of ['dump', 'fill'].entries()) {
          const refused = `^dmabuf ${name}: EPERM: .*protected heap: devices may use it, the CPU may not look`;
          assert.match(lines[index] ?? '', new RegExp(refused));
        }
        assert.equal(lines.length, 2);
        assert.match(said(['heaps']), /^ion +secret +5 +protected +\/dev\/ion +contiguous, protected +0 +0 +ok$/m);
      });
    });

    it('has a doctor that says when a carveout is full', async () => {
      await leavesNoPage(() => {
        assert.match(verdictOn('/dev/ion camera'), /^ok: of 1024 KiB the largest free piece has 1024 KiB/);
        using heap = openHeap('ion', { heap: 'camera' });
        using buffer = heap.allocSync(2 ** 20);
        const said = verdictOn('/dev/ion camera');
        assert.match(said, /^warn: .* 0 KiB -> The heap camera has no piece .*Close buffers/);
        assert.equal(buffer.closed, false);
      });
    });
  });

  describe('doctor', () => {
    it('has nothing bad to say of a machine with the modules', () => {
      const found = examined();
      for (const { name, verdict, found: what } of found.values()) assert.notEqual(verdict, 'bad', `${name}: ${what}`);
      for (const name of ['dmabuf_core', ...Object.values(moduleOf)])
        assert.match(verdictOn(name, found), /^ok: is loaded/);
      for (const name of devices)
        assert.match(verdictOn(`/dev/${name}`, found), /^ok: can be opened: user 0, group root, mode 0600/);
      assert.match(verdictOn('DMA memory', found), /^ok: \/dev\/ion, .*\/dev\/cma_mem.* can be opened/);
      assert.match(verdictOn('debugfs', found), /^ok/);
      for (const name of ['ion', 'cma_mem']) assert.match(verdictOn(`/dev/${name}`, found), /^ok/);
      assert.match(verdictOn('max_bytes of ion_lite', found), /^ok: 0 KiB of \d+ KiB are handed out/);
    });

    for (const device of devices) {
      it(`says that ${moduleOf[device]} is not loaded, and how it is`, async () => {
        await without(device, () => {
          const found = examined();
          const module = moduleOf[device];
          const cure = new RegExp(`^warn: is installed and not loaded -> .*run \`modprobe ${module}\` as root`);
          assert.match(verdictOn(module, found), cure);
          assert.match(verdictOn(`/dev/${device}`, found), new RegExp(`^warn: is not there -> .*modprobe ${module}`));
          assert.match(verdictOn('DMA memory', found), /^ok/);
        });
      });
    }

    it('says that there is no DMA memory without any of them', async function () {
      if (hasOwnDmaHeaps() || existsSync('/dev/udmabuf')) this.skip();
      await without('ion', () =>
        without('cma_mem', () => {
          const found = examined();
          const said = verdictOn('DMA memory', found);
          assert.match(said, /^bad: there is no heap of it .* -> .*modprobe ion_lite.*scripts\/guest/);
          assert.match(
            verdictOn('/dev/dma_heap', found),
            /^warn: is not there -> .*CONFIG_DMABUF_HEAPS.*dma_heap_nodes/,
          );
        }),
      );
    });

    it('says that modules are not installed', async () => {
      const modules = ['exporter', 'ion_lite', 'cma_mem', 'dmabuf_core'];
      unload(...modules);
      try {
        const script = 'mount -t tmpfs none /lib/modules && exec "$0" "$1" doctor --json';
        const { stdout } = spawnSync('unshare', ['-m', 'sh', '-c', script, process.execPath, MAIN], {
          encoding: 'utf8',
        });
        const found = new Map<string, Check>(JSON.parse(stdout).checks.map((check: Check) => [check.name, check]));
        for (const name of modules) {
          assert.match(verdictOn(name, found), /^warn: is not installed for Linux .* -> .*make -C kernel-modules/);
        }
        assert.match(verdictOn('dmabuf_core'), /^warn: is installed and not loaded -> .*any of the others/);
      } finally {
        for (const device of devices) load(moduleOf[device]);
      }
    });

    it('says that dma-heaps were left out', async function () {
      if (hasOwnDmaHeaps()) this.skip();
      unload('ion_lite');
      load('ion_lite', 'dma_heap_nodes=off');
      try {
        assert.match(verdictOn('/dev/dma_heap'), /^warn: is not there -> .*dma_heap_nodes=off/);
      } finally {
        unload('ion_lite');
        load('ion_lite');
      }
    });

    it('says who may not open a device, and what group or rule would help', () => {
      const nobody = { uid: NOBODY };
      try {
        const refused = examined([], nobody);
        for (const name of devices) {
          const said = verdictOn(`/dev/${name}`, refused);
          assert.match(said, /^bad: may not be opened by user 65534 -> .*mode 0600: run as root, or .*udev rule/);
        }
        assert.match(verdictOn('DMA memory', refused), /^bad: .*this user can open -> .*udev rule/);
        assert.match(verdictOn('debugfs', refused), /^warn: .*cannot be read -> Run dmabuf ps as root/);
        chownSync('/dev/ion', 0, VIDEO);
        chmodSync('/dev/ion', 0o660);
        const group = examined([], nobody);
        const said = verdictOn('/dev/ion', group);
        assert.match(
          said,
          /^bad: .* -> .*group video, mode 0660: add this user to the group video \(`usermod -aG video/,
        );
        // Somebody who is in that group.
        const member = examined([], { uid: NOBODY, gid: VIDEO });
        assert.match(verdictOn('/dev/ion', member), /^ok: can be opened: user 0, group video, mode 0660/);
        assert.match(verdictOn('DMA memory', member), /^ok: \/dev\/ion can be opened/);
        assert.match(dmabuf(['heaps'], nobody).stdout, /^ion .* EACCES$.*usermod -aG video/ms);
      } finally {
        chownSync('/dev/ion', 0, 0);
        chmodSync('/dev/ion', 0o600);
      }
    });

    it('says that a device is none', () => {
      renameSync('/dev/ion', '/dev/ion-aside');
      try {
        writeFileSync('/dev/ion', '');
        assert.match(verdictOn('/dev/ion'), /^bad: ENOTTY: .*not a device.* -> .*modprobe ion_lite/);
      } finally {
        renameSync('/dev/ion-aside', '/dev/ion');
      }
    });

    it('says how much CMA there is, and that little is left', async () => {
      const { total } = cmaMemory();
      if (total === 0) {
        assert.match(verdictOn('CMA'), /^warn: there is none -> .*CONFIG_DMA_CMA|cma=SIZE/);
        return;
      }
      assert.match(verdictOn('CMA'), new RegExp(`^(ok|warn): \\d+ KiB of ${total / 1024} KiB are free`));
      await leavesNoPage(() => {
        using heap = openHeap('cma-mem');
        const taken: DmaBuf[] = [];
        try {
          while (cmaMemory().free >= FRAME && taken.length < total / 2 ** 20) taken.push(heap.allocSync(2 ** 21));
          const said = verdictOn('CMA');
          assert.match(said, /^warn: \d+ KiB of \d+ KiB are free, less than .* -> .*`dmabuf ps` lists.*cma=SIZE/);
        } finally {
          for (const buffer of taken) buffer.close();
        }
      });
    });

    describe('with a module that hands out 4 MiB at most', () => {
      suiteWithParameters('ion', `max_bytes=${2 ** 22}`);

      it('says that this is not much', async () => {
        await leavesNoPage(() => {
          using heap = openHeap('ion');
          using buffer = heap.allocSync(2 ** 20);
          assert.equal(buffer.size, 2 ** 20);
          const said = verdictOn('max_bytes of ion_lite');
          assert.match(said, /^warn: 1024 KiB of 4096 KiB are handed out -> .*4096 KiB .*max_bytes=\.$/);
        });
      });
    });

    it("reads this kernel's configuration where it is", () => {
      const found = examined();
      const said = verdictOn('configuration', found);
      if (!/-lab|-debug/.test(release())) return void assert.match(said, /^warn: not in|^ok: /);
      assert.match(said, /^ok: \/proc\/config\.gz/);
      for (const name of ['DMA_SHARED_BUFFER', 'MODULES', 'DMA_CMA', 'UDMABUF', 'SYNC_FILE', 'DEBUG_FS']) {
        assert.match(verdictOn(`CONFIG_${name}`, found), /^ok: y/);
      }
    });
  });
});
