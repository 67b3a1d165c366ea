// SPDX-License-Identifier: MIT
/** A buffer through a D-Bus daemon, by raw sockets: what a peer does whose format is not ours (D-Bus Specification). */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DmaBuf, FdSocket, openHeap } from 'dmabuf';
import { leavesNothing, PAGE } from '../support.ts';

/** Of a bus of the test's own, on which all may send and receive. */
const configuration = (
  path: string,
) => `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=${path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*"/><allow eavesdrop="true"/></policy>
</busconfig>`;

const METHOD_CALL = 1;
const METHOD_RETURN = 2;

/** Fields of a header, and their types. */
const fieldTypes = { 1: 'o', 2: 's', 3: 's', 4: 's', 5: 'u', 6: 's', 7: 's', 8: 'g', 9: 'u' } as const;
type Field = keyof typeof fieldTypes;
type Fields = Partial<Record<Field, string | number>>;
const [PATH, INTERFACE, MEMBER, ERROR, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE, UNIX_FDS] = [
  ...([1, 2, 3, 4, 5, 6, 7, 8, 9] as const),
];

interface Message {
  type: number;
  serial: number;
  fields: Fields;
  body: Buffer;
}

const align = (offset: number, to: number) => Math.ceil(offset / to) * to;

/** The bytes of a message, little-endian. */
function marshal({ type, serial, fields, body }: Message): Buffer {
  const parts: number[] = [];
  const pad = (to: number) => {
    while (parts.length % to !== 0) parts.push(0);
  };
  const u32 = (value: number) => {
    pad(4);
    parts.push(...new Uint8Array(Uint32Array.of(value).buffer));
  };
  parts.push('l'.charCodeAt(0), type, 0, 1);
  u32(body.length);
  u32(serial);
  u32(0);
  const start = parts.length;
  for (const [name, value] of Object.entries(fields)) {
    const kind = fieldTypes[Number(name) as Field];
    pad(8);
    parts.push(Number(name), 1, kind.charCodeAt(0), 0);
    if (typeof value === 'number') u32(value);
    else {
      const text = Buffer.from(value);
      if (kind === 'g') parts.push(text.length);
      else u32(text.length);
      parts.push(...text, 0);
    }
  }
  const length = parts.length - start;
  pad(8);
  const header = Buffer.from(parts);
  header.writeUInt32LE(length, 12);
  return Buffer.concat([header, body]);
}

/** The first message of what has come, and its length. */
function unmarshal(bytes: Buffer): [Message, number] | undefined {
  if (bytes.length < 16) return undefined;
  assert.equal(bytes.toString('latin1', 0, 1), 'l');
  const [bodyLength, serial, fieldsLength] = [4, 8, 12].map((at) => bytes.readUInt32LE(at)) as [number, number, number];
  const bodyStart = align(16 + fieldsLength, 8);
  if (bytes.length < bodyStart + bodyLength) return undefined;
  const fields: Fields = {};
  for (let at = 16; at < 16 + fieldsLength; ) {
    at = align(at, 8);
    const name = bytes[at] as Field;
    const kind = bytes.toString('latin1', at + 2, at + 3);
    at += 4;
    if (kind === 'u') {
      fields[name] = bytes.readUInt32LE(at);
      at += 4;
    } else {
      const wide = kind === 'g' ? 1 : 4;
      const length = wide === 1 ? bytes.readUInt8(at) : bytes.readUInt32LE(at);
      fields[name] = bytes.toString('utf8', at + wide, at + wide + length);
      at += wide + length + 1;
    }
  }
  const body = bytes.subarray(bodyStart, bodyStart + bodyLength);
  return [{ type: bytes[1] as number, serial, fields, body }, bodyStart + bodyLength];
}

/** A connection to the bus that may pass descriptors. */
class Bus implements Disposable {
  readonly #socket: FdSocket;
  #bytes = Buffer.alloc(0);
  #fds: number[] = [];
  #serial = 0;
  name = '';

  private constructor(socket: FdSocket) {
    this.#socket = socket;
  }

  static async connect(path: string): Promise<Bus> {
    const bus = new Bus(await FdSocket.connect(path, { format: 'raw' }));
    const uid = Buffer.from(`${process.getuid?.()}`).toString('hex');
    await bus.#socket.send(Buffer.from(`\0AUTH EXTERNAL ${uid}\r\n`));
    assert.match(await bus.#line(), /^OK [0-9a-f]+$/);
    await bus.#socket.send(Buffer.from('NEGOTIATE_UNIX_FD\r\n'));
    assert.equal(await bus.#line(), 'AGREE_UNIX_FD');
    await bus.#socket.send(Buffer.from('BEGIN\r\n'));
    const daemon = 'org.freedesktop.DBus';
    const hello = { [PATH]: '/org/freedesktop/DBus', [INTERFACE]: daemon, [MEMBER]: 'Hello', [DESTINATION]: daemon };
    await bus.send(METHOD_CALL, hello);
    const { body } = await bus.next(METHOD_RETURN);
    bus.name = body.toString('utf8', 4, 4 + body.readUInt32LE(0));
    return bus;
  }

  async #more(): Promise<void> {
    const message = await this.#socket.receive();
    assert(message, 'the daemon has closed the connection');
    this.#bytes = Buffer.concat([this.#bytes, message.value as Buffer]);
    this.#fds.push(...message.fds);
  }

  async #line(): Promise<string> {
    for (;;) {
      const end = this.#bytes.indexOf('\r\n');
      if (end < 0) {
        await this.#more();
        continue;
      }
      const line = this.#bytes.toString('latin1', 0, end);
      this.#bytes = this.#bytes.subarray(end + 2);
      return line;
    }
  }

  /** Sends a message whose body has the numbers of descriptors, type `h`. */
  async send(type: number, fields: Fields, buffers: DmaBuf[] = []): Promise<number> {
    this.#serial++;
    const withFds = buffers.length === 0 ? {} : { [SIGNATURE]: 'h'.repeat(buffers.length), [UNIX_FDS]: buffers.length };
    const body = Buffer.from(Uint32Array.from(buffers.keys()).buffer);
    const message = { type, serial: this.#serial, fields: { ...fields, ...withFds }, body };
    await this.#socket.send(marshal(message), buffers);
    return this.#serial;
  }

  /** The next message of a type, those of the daemon left out, with its descriptors. */
  async next(type: number): Promise<Message & { fds: number[] }> {
    for (;;) {
      const found = unmarshal(this.#bytes);
      if (found === undefined) {
        await this.#more();
        continue;
      }
      const [message, length] = found;
      this.#bytes = this.#bytes.subarray(length);
      const fds = this.#fds.splice(0, Number(message.fields[UNIX_FDS] ?? 0));
      assert.equal(message.fields[ERROR], undefined, message.body.toString());
      if (message.type === type) return { ...message, fds };
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

describe('a raw FdSocket and a D-Bus daemon', function () {
  if (spawnSync('dbus-daemon', ['--version']).status !== 0) {
    it('pass a buffer: needs the program dbus-daemon, of the Debian package of that name');
    return;
  }
  this.timeout(20_000);
  let folder: string;
  let path: string;
  let daemon: ChildProcess | undefined;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dmabuf-'));
    path = join(folder, 'bus');
    writeFileSync(join(folder, 'bus.conf'), configuration(path));
    const args = [`--config-file=${join(folder, 'bus.conf')}`, '--nofork', '--print-address'];
    daemon = spawn('dbus-daemon', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    daemon.stderr?.on('data', (text) => {
      said += text;
    });
    assert(daemon.stdout);
    await Promise.race([once(daemon.stdout, 'data'), once(daemon, 'exit')]);
    assert.equal(daemon.exitCode, null, said);
  });

  after(async () => {
    if (daemon === undefined) return;
    const ended = once(daemon, 'exit');
    daemon.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true });
  });

  it('pass a buffer from one connection to another, and back', async () => {
    await leavesNothing(async () => {
      using caller = await Bus.connect(path);
      using callee = await Bus.connect(path);
      assert.notEqual(caller.name, callee.name);
      using heap = openHeap('memfd');
      using frame = heap.allocSync(2 * PAGE, { name: 'frame' });
      frame.write((bytes) => bytes.fill(0x42));
      const call = { [PATH]: '/frames', [INTERFACE]: 'org.example.Frames', [MEMBER]: 'Show' };
      const serial = await caller.send(METHOD_CALL, { ...call, [DESTINATION]: callee.name }, [frame, frame]);

      const asked = await callee.next(METHOD_CALL);
      assert.deepEqual([asked.fields[SENDER], asked.fields[MEMBER]], [caller.name, 'Show']);
      assert.deepEqual([asked.fields[SIGNATURE], asked.fds.length], ['hh', 2]);
      const [one, two] = asked.fds.map((fd) => DmaBuf.fromFd(fd)) as [DmaBuf, DmaBuf];
      assert(one.isSameBuffer(frame) && two.isSameBuffer(frame));
      assert.equal(one.name, 'frame');
      one.write((bytes) => {
        assert.equal(bytes[PAGE], 0x42);
        bytes.fill(0x43);
      });
      await callee.send(METHOD_RETURN, { [REPLY_SERIAL]: asked.serial, [DESTINATION]: caller.name }, [one]);
      one.close();
      two.close();

      const answer = await caller.next(METHOD_RETURN);
      assert.deepEqual([answer.fields[REPLY_SERIAL], answer.fds.length], [serial, 1]);
      using back = DmaBuf.fromFd(answer.fds[0] as number);
      assert(back.isSameBuffer(frame));
      assert.equal(
        frame.read((bytes) => bytes[2 * PAGE - 1]),
        0x43,
      );
    });
  });
});
