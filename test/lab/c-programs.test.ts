// SPDX-License-Identifier: MIT
/**
 * The user programs of the tutorials these modules descend from (../guest/c), written from the
 * description of the interfaces alone: compiled here, run in one guest.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPrograms } from '../guest/c/build.ts';
import { guest } from './run-guest.ts';

const programs = ['exporter-fd', 'exporter-mmap', 'ion-garbage-mask', 'cma-frame'] as const;

/** Runs each program, and says what it printed and how it ended; then what is left. */
const script = `
for program in ${programs.join(' ')}; do
	echo "= $program"
	"/share/$program" 2>&1
	echo "exit $?"
done
echo "= left"
cat /sys/class/misc/ion/buffers /sys/class/misc/cma_mem/buffers
rmmod exporter ion_lite cma_mem dmabuf_core && echo unloaded
`;

describe('C programs of the tutorials', function () {
  this.timeout(300_000);
  let said: Map<string, string>;

  before(async () => {
    const share = mkdtempSync(join(tmpdir(), 'dmabuf-c-'));
    try {
      await buildPrograms(share);
      const parameters = ['--share', share, '--module', 'ion_lite ignore_heap_mask=1', '--append', 'init_on_alloc=0'];
      const { code, stdout, stderr } = await guest([...parameters, '--', 'sh', '-c', script]);
      assert.equal(code, 0, stderr);
      const parts = stdout
        .toString()
        .split(/^= (\S+)\n/m)
        .slice(1);
      said = new Map(parts.flatMap((name, index) => (index % 2 === 0 ? [[name, parts[index + 1] ?? '']] : [])));
    } finally {
      rmSync(share, { recursive: true });
    }
  });

  it('reads the text of /dev/exporter by a descriptor that outlives the device', () => {
    assert.equal(said.get('exporter-fd'), 'read from dmabuf: hello world\nexit 0\n');
  });

  it('reads the text by mapping /dev/exporter itself', () => {
    assert.equal(said.get('exporter-mmap'), 'read from device: hello world\nexit 0\n');
  });

  it('writes and reads three pages of /dev/ion, whatever its heap mask holds (ignore_heap_mask=1)', () => {
    const masks = ['00000000', '20000000', 'a5a5a5a4', 'ffffffff'];
    const lines = masks.map((mask) => `heap mask 0x${mask}: 12288 bytes written and read\n`);
    assert.equal(said.get('ion-garbage-mask'), `${lines.join('')}exit 0\n`);
  });

  it('writes ten ints into a frame of /dev/cma_mem and reads them back', () => {
    assert.equal(said.get('cma-frame'), '0 1 2 3 4 5 6 7 8 9\nexit 0\n');
  });

  it('leaves nothing', () => {
    assert.equal(said.get('left'), '0\n0\nunloaded\n');
  });
});
