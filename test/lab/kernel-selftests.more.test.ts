// SPDX-License-Identifier: MIT
/**
 * The kernel's own selftests, compiled from Debian's sources of it: ION's, from the last kernel that had ION,
 * against our /dev/ion, and those of dma-heaps against those of ion_lite on stock kernels and against the lab
 * kernel's own.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dmabufHeapsSelftests, ionSelftests } from '../../scripts/src/kernel-selftests.ts';
import { type Architecture, architectures } from '../../scripts/src/machines.ts';
import { guest } from './run-guest.ts';

/** The types of heaps to ask for, by ION's numbers: those its own script knows. */
const ionHeaps = ['SYSTEM', 'SYSTEM_CONTIG'];
const SIZE = 4096;

const keep = `
set -e
# keep NAME PROGRAM ARGUMENT…: what a program says and how it ends, as files in /share
keep() {
	name=$1 code=0
	shift
	"$@" >"/share/$name.out" 2>"/share/$name.err" || code=$?
	echo "$code" >"/share/$name.code"
}
modprobe vgem
cd /share
`;

// The importer believes that its socket has something for it when its standard input has: that must stay silent.
const ionScript = `${keep}
mkfifo /tmp/silent
for heap in ${[...ionHeaps.keys()].join(' ')}; do
	keep export-$heap ./ionapp_export -i $heap -s ${SIZE} 0<>/tmp/silent &
	# As the kernel shows a socket on which somebody listens.
	until grep -q ' 00010000 .* /tmp/ion_socket$' /proc/net/unix; do sleep 0.1; done
	keep import-$heap ./ionapp_import 0<>/tmp/silent
	wait
done
keep map ./ionmap_test
`;

const heapsScript = `${keep}
ls /dev/dma_heap >heaps
ls -d /sys/class/dma_heap/*/bytes >ours 2>/dev/null || true
keep dmabuf-heap ./dmabuf-heap
`;

/** Runs a script in a guest, the programs and itself in /share, and returns the files that are there then. */
async function inGuest(options: string[], programs: string, script: string): Promise<Map<string, string>> {
  const share = mkdtempSync(join(tmpdir(), 'dmabuf-selftests-'));
  try {
    cpSync(programs, share, { recursive: true });
    const { code, stderr } = await guest([
      ...options,
      '--share',
      share,
      '--timeout',
      '300',
      '--',
      'bash',
      '-c',
      script,
    ]);
    assert.equal(code, 0, stderr);
    return new Map(readdirSync(share).map((name) => [name, readFileSync(join(share, name), 'latin1')]));
  } finally {
    rmSync(share, { recursive: true });
  }
}

const bytes = (title: string) => `${title} buffer content:\n${'0xfd '.repeat(SIZE)}\n`;

const machines = [
  { arch: 'armhf', kernel: '6.1', programs: 'armhf' },
  { arch: 'arm64', kernel: '7.2', programs: 'arm64' },
  { arch: 'arm64', kernel: '6.12', programs: 'armhf' },
  { arch: 'armhf', kernel: '5.10', programs: 'armhf' },
  { arch: 'armhf', kernel: 'lab', programs: 'armhf' },
];

/** With little time the first of them and another, each in its turn. */
const { DMABUF_TURN: turn } = process.env;
const [first, ...others] = machines;
const chosen = turn === undefined ? machines : [first, others[Number(turn) % others.length]];

for (const { arch, kernel, programs } of chosen.filter((machine) => machine !== undefined)) {
  describe(`selftests of the kernel: ${programs} programs, kernel ${kernel}, ${arch}`, function () {
    // A lab kernel may have to be built first.
    this.timeout(1_800_000);
    const target = architectures[programs] as Architecture;
    const options = ['--arch', arch, '--kernel', kernel];

    describe('ION on our /dev/ion', () => {
      let said: Map<string, string>;
      before(async () => {
        said = await inGuest(options, await ionSelftests(target), ionScript);
      });

      for (const [type, heap] of ionHeaps.entries()) {
        it(`exports a buffer of the ${heap} heap to another process`, () => {
          assert.equal(said.get(`export-${type}.err`), '');
          assert.equal(said.get(`export-${type}.code`), '0\n');
          const [first, ...rest] = said.get(`export-${type}.out`)?.split(/^(?=Fill|Sharing)/m) ?? [];
          assert.equal(first, `heap_type: ${type}, heap_size: ${SIZE}\n`);
          assert.equal(rest[0], bytes('Fill'));
          assert.match(rest[1] ?? '', /^Sharing fd: \d+, Client fd: \d+\n$/);
        });

        it(`finds in that of the ${heap} heap what the other process wrote`, () => {
          assert.equal(said.get(`import-${type}.err`), '');
          assert.equal(said.get(`import-${type}.code`), '0\n');
          const [first, ...rest] = said.get(`import-${type}.out`)?.split(/^(?=Fill|Read)/m) ?? [];
          assert.match(first ?? '', /^Received buffer fd: [1-9]\d*\n$/);
          assert.deepEqual(rest, [bytes('Read'), bytes('Fill')]);
        });
      }

      it('maps a buffer that vgem imported', () => {
        assert.equal(said.get('map.err'), '');
        assert.equal(said.get('map.out'), 'done.\n');
        assert.equal(said.get('map.code'), '0\n');
      });
    });

    it(`dma-heaps: every test passes on every heap of ${kernel === 'lab' ? 'the kernel' : 'ion_lite'}`, async () => {
      const said = await inGuest(options, await dmabufHeapsSelftests(target), heapsScript);
      const out = said.get('dmabuf-heap.out') ?? '';
      assert.equal(said.get('dmabuf-heap.err'), '');
      assert.equal(said.get('dmabuf-heap.code'), '0\n', out);
      assert.equal(said.get('heaps'), 'reserved\nsystem\n');
      assert.equal(said.get('ours') !== '', kernel !== 'lab', 'whose heaps they are');
      for (const heap of ['reserved', 'system']) assert.match(out, new RegExp(`^# Testing heap: ${heap}$`, 'm'));
      assert.match(out, /^# Totals: pass:22 fail:0 xfail:0 xpass:0 skip:0 error:0$/m);
    });
  });
}
