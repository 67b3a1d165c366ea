// SPDX-License-Identifier: MIT
/** Controls and events of a camera, vivid's, which has one of each type. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { release } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Capture, type Control } from 'dmabuf/v4l2';
import { describeModules } from './support.ts';
import { openCamera, take, withVivid } from './v4l2.ts';

const run = promisify(execFile);

/** vivid of 5.10 has none that can only be read. */
const hasReadOnly = !release().startsWith('5.10.');

describeModules('the controls of a camera', () => {
  withVivid(['single']);

  it('have types, ranges and menus', () => {
    using camera = Capture.open();
    const controls = new Map(camera.controls().map((control) => [control.key, control]));
    const of = (key: string) => controls.get(key) as Control;
    const { type, minimum, maximum, step, default: first, name } = of('brightness');
    assert.deepEqual(
      { type, minimum, maximum, step, first, name },
      { type: 'integer', minimum: 0, maximum: 255, step: 1, first: 128, name: 'Brightness' },
    );
    assert.equal(of('integer_64_bits').type, 'integer64');
    assert.equal(typeof of('integer_64_bits').maximum, 'bigint');
    assert.deepEqual(
      of('menu').menu.map(({ name }) => name),
      ['Menu Item 1', 'Menu Item 3', 'Menu Item 4'],
    );
    assert.deepEqual(
      of('integer_menu')
        .menu.slice(0, 4)
        .map(({ value }) => value),
      // 1 and 42 are left out by later ones
      of('integer_menu').menu[0]?.value === 1 ? [1, 1, 2, 3] : [2, 3, 5, 8],
    );
    assert.deepEqual(of('u16_8x16_matrix').dimensions, [8, 16]);
    assert.equal(of('brightness').readOnly, false);
    assert.equal(
      [...controls.values()].some(({ readOnly }) => readOnly),
      hasReadOnly,
    );
    assert.equal(of('inject_vidioc_qbuf_error').type, 'button');
    assert.equal(controls.has('user_controls'), false);
  });

  it('are set and read by their types', () => {
    using camera = Capture.open();
    for (const [control, value] of [
      ['brightness', 17],
      ['boolean', false],
      ['menu', 'Menu Item 4'],
      ['integer_menu', 8],
      ['integer_64_bits', -(2n ** 40n)],
      ['integer_32_bits', -5],
      ['bitmask', 0x80002000],
      ['string', 'ab'],
    ] as const) {
      camera.setControls({ [control]: value });
      assert.equal(camera.getControl(control), value, control);
    }
    const matrix = camera.getControl('u16_8x16_matrix');
    assert(matrix instanceof Uint8Array && matrix.length === 8 * 16 * 2);
    matrix[0] = 0x20;
    camera.setControls({ u16_8x16_matrix: matrix });
    assert.deepEqual(camera.getControl('u16_8x16_matrix'), matrix);
    camera.setControls({ menu: 1, Contrast: 3, button: true });
    assert.deepEqual([camera.getControl('menu'), camera.getControl('contrast')], ['Menu Item 1', 3]);
  });

  it('refuse what is none of their values, and change nothing then', () => {
    using camera = Capture.open();
    camera.setControls({ brightness: 1, contrast: 2 });
    const refused = (values: Parameters<typeof camera.setControls>[0], error: object) => {
      assert.throws(() => camera.setControls(values), error);
      assert.deepEqual([camera.getControl('brightness'), camera.getControl('contrast')], [1, 2]);
    };
    refused({ brightness: 9, contrast: 256 }, { code: 'ERR_OUT_OF_RANGE', message: /"contrast".*from 0 to 255/ });
    refused({ brightness: 9, menu: 'Menu Item 2' }, { message: /Menu Item 1, Menu Item 3, Menu Item 4/ });
    refused({ brightness: 9, boolean: 1 }, { code: 'ERR_INVALID_ARG_TYPE' });
    refused({ brightness: 9, integer_64_bits: 1 }, { code: 'ERR_INVALID_ARG_TYPE' });
    refused({ brightness: 9, string: 'a' }, { code: 'ERR_OUT_OF_RANGE' });
    refused({ brightness: 9, u16_8x16_matrix: new Uint8Array(3) }, { code: 'ERR_OUT_OF_RANGE', message: /256 bytes/ });
    assert.throws(() => camera.getControl('flux'), { code: 'EINVAL' });
    refused({ brightness: 9, flux: 1 }, { code: 'EINVAL', message: /no control 'flux': there are brightness, / });
    if (!hasReadOnly) return;
    for (const values of [
      { read_only_integer_32_bits: 1 },
      { brightness: 9, read_only_integer_32_bits: 1 },
      { read_only_integer_32_bits: 1, brightness: 9, contrast: 9 },
    ]) {
      // and no other
      refused(values, { code: 'EACCES', message: /'\. The control read_only_integer_32_bits can only be read\.$/ });
    }
  });

  it('are named where frames that stream forbid them, among others that are fine', async () => {
    using camera = openCamera();
    const stream = camera.frames({ count: 2 });
    (await stream.next()).value?.close();
    const grabbed = camera.controls().find((control) => control.grabbed && !control.readOnly);
    // what vivid of some kernels has
    if (grabbed !== undefined) {
      assert.throws(
        () => camera.setControls({ brightness: 9, [grabbed.key]: camera.getControl(grabbed.key), contrast: 9 }),
        { code: 'EBUSY', message: new RegExp(`'\\. The control ${grabbed.key} cannot be set now: `) },
      );
    }
    stream.close();
  });

  it('are arrays of as many values as are set, where they are dynamic', function () {
    using camera = Capture.open();
    const [dynamic] = camera.controls().filter((control) => control.dynamic);
    // vivid has one since 6.0
    if (dynamic === undefined) return this.skip();
    const { key, type, dimensions } = dynamic;
    assert.deepEqual([type, dimensions], ['u32', [100]]);
    for (const count of [3, 100, 1]) {
      const value = new Uint8Array(Uint32Array.from({ length: count }, (_, i) => 20 + (i % 50)).buffer);
      camera.setControls({ [key]: value });
      assert.deepEqual(new Uint8Array(camera.getControl(key) as Uint8Array), value);
    }
    for (const bytes of [0, 3, 404]) {
      assert.throws(() => camera.setControls({ [key]: new Uint8Array(bytes) }), {
        code: 'ERR_OUT_OF_RANGE',
        message: /a multiple of 4 bytes up to 400/,
      });
    }
  });

  it('change the picture', async () => {
    using camera = openCamera();
    camera.setControls({ test_pattern: '100% Red' });
    const pixel = (bytes: Uint8Array) => [...bytes.subarray(3000, 3003)];
    assert.deepEqual(await take(camera.frames({ count: 2 }), 1, (frame) => frame.read(pixel)), [[255, 0, 0]]);
    camera.setControls({ test_pattern: '100% Green' });
    assert.deepEqual(await take(camera.frames({ count: 2 }), 1, (frame) => frame.read(pixel)), [[0, 255, 0]]);
  });

  it('tell of their changes', async () => {
    using camera = Capture.open();
    using other = Capture.open(camera.path);
    const { id } = camera.controls().find(({ key }) => key === 'brightness') as Control;
    camera.setControls({ brightness: 5 });
    const heard = [];
    const events = camera.events(['control'], { control: 'Brightness' });
    const waiting = events.next();
    other.setControls({ brightness: 6 });
    heard.push((await waiting).value);
    other.setControls({ brightness: 7 });
    heard.push((await events.next()).value);
    await events.return?.();
    assert.deepEqual(
      heard.map((event) => event?.type === 'control' && [event.control, event.value, event.changes]),
      [6, 7].map((value) => [id, value, ['value']]),
    );
    const [first, second] = heard;
    assert(first && second && second.timestamp >= first.timestamp);
    // all of it, as the kernel has it
    assert(heard.some((event) => event !== undefined && event.timestamp % 1000n !== 0n));
    assert.throws(() => camera.events(['control'], { control: 'flux' }), {
      code: 'EINVAL',
      message: /no control 'flux'/,
    });
    assert.throws(() => camera.events(['control'], { control: true as never }), { code: 'ERR_INVALID_ARG_TYPE' });
    assert(process.hrtime.bigint() - first.timestamp < 60_000_000_000n);
    assert.throws(() => camera.events(['control']), { code: 'ERR_INVALID_ARG_VALUE' });
    assert.throws(() => camera.events(['noise' as 'control']), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /source-change/,
    });
  });

  it('tell of each change that the loop of the thread turns between, and how many there were of others', async () => {
    using camera = Capture.open();
    using other = Capture.open(camera.path);
    other.setControls({ brightness: 1 });
    const events = camera.events(['control'], { control: 'brightness' });
    const next = async () => {
      const { value: event } = await events.next();
      assert(event?.type === 'control');
      return [event.value, event.missed];
    };
    // nobody asks
    for (const brightness of [2, 3, 4]) {
      other.setControls({ brightness });
      await sleep(50);
    }
    assert.deepEqual(
      [await next(), await next(), await next()],
      [
        [2, 0],
        [3, 0],
        [4, 0],
      ],
    );
    // nobody can be asked
    for (const brightness of [5, 6, 7]) other.setControls({ brightness });
    assert.deepEqual(await next(), [7, 2]);
    await events.return?.();
  });

  it('do not keep a process that asks for none', async () => {
    const script = `
      import { Capture } from 'dmabuf/v4l2';
      const camera = Capture.open();
      const events = camera.events(['control'], { control: 'brightness' });
      camera.setControls({ brightness: 40 });
      camera.setControls({ brightness: 41 });
      console.log((await events.next()).value.value);`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { timeout: 60_000 });
    assert.equal(stdout, '41\n');
  });

  it('tell of all bits of a value', async () => {
    using camera = Capture.open();
    using other = Capture.open(camera.path);
    for (const [key, values] of [
      // neither is a double's
      ['integer_64_bits', [2n ** 62n + 1n, -(2n ** 62n) - 1n]],
      // whose highest bit is no sign
      ['bitmask', [0x2000, 0x80002000]],
      ['integer_32_bits', [7, -7]],
      ['boolean', [false, true]],
    ] as const) {
      const { id } = camera.controls().find((control) => control.key === key) as Control;
      const heard = [];
      other.setControls({ [key]: camera.getControl(key) === values[0] ? values[1] : values[0] });
      const events = camera.events(['control'], { control: id });
      const wanted = other.getControl(key) === values[0] ? [values[1], values[0]] : values;
      for (const value of wanted) {
        const next = events.next();
        other.setControls({ [key]: value });
        const { value: event } = await next;
        heard.push(event?.type === 'control' && event.value);
      }
      await events.return?.();
      assert.deepEqual(heard, key === 'boolean' ? wanted.map(Number) : wanted, key);
    }
  });

  it('tell each of several loops of all it has asked for', async () => {
    using camera = openCamera();
    using other = Capture.open(camera.path);
    const [brightness, contrast] = ['brightness', 'contrast'].map((key) => {
      return (camera.controls().find((control) => control.key === key) as Control).id;
    }) as [number, number];
    const listen = (control: number) => camera.events(['control'], { control });
    const loops = [listen(brightness), listen(contrast), listen(brightness)] as const;
    const waiting = loops.map((loop) => loop.next());
    const set = (values: Record<string, number>) => other.setControls(values);
    set({ brightness: 31, contrast: 41 });
    const heard = (await Promise.all(waiting)).map(({ value }) => value?.type === 'control' && value.value);
    assert.deepEqual(heard, [31, 41, 31]);
    // One that is left takes nothing from the rest, and hears of no more.
    await loops[0].return?.();
    const third = loops[2].next();
    set({ brightness: 32 });
    const { value: event } = await third;
    assert.deepEqual(event?.type === 'control' && event.value, 32);
    assert.deepEqual(await loops[0].next(), { value: undefined, done: true });
    // What one does not ask for waits, as far as there is room.
    const quiet = listen(brightness);
    for (let value = 100; value < 170; value++) {
      const next = loops[2].next();
      set({ brightness: value });
      await next;
    }
    const late: unknown[] = [];
    let missed = 0;
    while (late.at(-1) !== 169) {
      const { value } = await quiet.next();
      late.push(value?.type === 'control' && value.value);
      missed += value?.missed ?? 0;
    }
    assert.deepEqual([late.length, late[0]], [64, 106]);
    assert.equal(missed, 6);
    for (const loop of [...loops, quiet]) await loop.return?.();
  });

  it('end a wait for their changes when the camera is closed, or by a signal', async () => {
    const camera = Capture.open();
    const { id } = camera.controls()[0] as Control;
    const waiting = camera.events(['control'], { control: id }).next();
    const closed = assert.rejects(waiting, { code: 'ERR_DMABUF_CLOSED' });
    camera.close();
    await closed;
    using again = Capture.open();
    const controller = new AbortController();
    const aborted = again.events(['control'], { control: id, signal: controller.signal }).next();
    const ended = assert.rejects(aborted, /enough/);
    controller.abort(new Error('enough'));
    await ended;
  });
});
