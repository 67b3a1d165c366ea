// SPDX-License-Identifier: MIT
/** The calls of `dmabuf/v4l2` for api-fuzz.mjs: those that want a device where there is one. */
import * as v4l2 from 'dmabuf/v4l2';

const { Capture, Codec, fourccCode, fourccName, Output, pipelineReport, videoDevices } = v4l2;

/** What a world keeps of it; what is first is closed first. */
export const videoKinds = ['frames', 'canvases', 'streams', 'sinks', 'videos'];

/** So many at a time: whoever waits for one that is dropped open would wait for ever. */
const OPEN = 6;

const classOf = { capture: Capture, output: Output, m2m: Codec };

const there = videoDevices().filter(({ kind }) => kind !== 'other');

const formats = ['RGB3', 'YUYV', 'GREY', 'NM12', 'FWHT', 'H264', 'x', undefined];

/** Small: what is random is to be the calls, and not the memory that is left. */
const format = (n, wrong) => ({
  width: [64, 320, 640, 1, wrong][n % 5],
  height: [64, 180, 360, 1, undefined][(n * 3) % 5],
  pixelFormat: formats[(n * 7) % formats.length],
  planes: n % 4 === 0 ? [{ stride: wrong }] : undefined,
});

const without = [
  function video(_, { on }, [which]) {
    if (on === 0) videoDevices();
    [Capture, Output, Codec][on % 3].open(which).close();
  },
  function fourcc(_, __, [one, other]) {
    fourccCode(one);
    fourccName(other);
  },
  function report(w, { on }, [first, ...others]) {
    if (on < 10) pipelineReport(w.pick('streams', on) ?? w.pick('sinks', on), w.pick('sinks', on));
    else pipelineReport(first, ...others);
  },
];

/** The side of a device whose format it has. */
function sideOf(w, on) {
  const video = w.pick('videos', on);
  return video instanceof Codec ? [video.input, video.output][on % 2] : video;
}

const withDevice = [
  function openVideo(w, { on }) {
    if (w.videos.length >= OPEN) return;
    const { path, kind } = there[on % there.length];
    w.keep('videos', classOf[kind].open(path));
  },
  function describeVideo(w, { on }, [value, ...values]) {
    const side = sideOf(w, on);
    side?.formats();
    side?.sizes(value);
    w.pick('videos', on)?.intervals?.(value, ...values);
    return [side?.format, side?.picture, w.pick('videos', on)?.interval] && undefined;
  },
  function formatVideo(w, { on, call }, [value]) {
    const side = sideOf(w, on);
    side?.[['setFormat', 'tryFormat'][call % 2]](on < 5 ? value : format(on, value));
  },
  function intervalVideo(w, { on }, [value]) {
    w.pick('videos', on)?.setInterval?.(on < 5 ? value : { numerator: 1, denominator: on < 10 ? value : 60 });
  },
  function inputVideo(w, { on }, [value]) {
    const video = w.pick('videos', on);
    video?.inputs?.();
    if (on < 3) video?.setInput?.(value);
  },
  function controlVideo(w, { on, call }, [value]) {
    const video = w.pick('videos', on);
    if (video === undefined) return;
    const controls = video.controls();
    if (controls.length === 0) return;
    const { key } = controls[call % controls.length];
    // Nobody can open it until all have closed it.
    if (key === 'disconnect') return;
    if (on < 10) video.getControl(on < 2 ? value : key);
    else video.setControls(on < 12 ? value : { [key]: value });
  },
  async function hear(w, { on, call }, [types, options]) {
    const video = w.pick('videos', on);
    const id = video?.controls()[0]?.id;
    const events = on < 5 ? video?.events(types, options) : video?.events(['control'], { control: id });
    const heard = events?.next();
    if (call % 2 === 0) await events?.return?.();
    await heard;
  },
  function frames(w, { on }, [options]) {
    const video = w.pick('videos', on);
    const own = { count: 1 + (on % 4), ...(on % 2 ? { heap: w.pick('heaps', on) } : {}), latest: on % 3 === 0 };
    if (video instanceof Capture) w.keep('streams', video.frames(on < 5 ? options : own));
  },
  function framesOfOurs(w, { on }, [value]) {
    const video = w.pick('videos', on);
    const buffers = on < 3 ? value : [w.pick('buffers', on), w.pick('buffers', on + 1)];
    if (video instanceof Capture) w.keep('streams', video.frames({ buffers }));
  },
  function encode(w, { on, inner }, values) {
    const video = w.pick('videos', on);
    if (!(video instanceof Codec)) return;
    const source = function* () {
      if (inner) w.step(inner);
      yield* on < 8 ? values : [w.pick('buffers', on), new Uint8Array(1000), w.pick('frames', on)];
    };
    w.keep('streams', video.process(on === 9 ? values[0] : source(), { count: 2, heap: w.pick('heaps', on) }));
  },
  async function nextFrame(w, { on }) {
    w.keep('frames', (await w.pick('streams', on)?.next())?.value);
  },
  async function loopOverFrames(w, { on, inner }) {
    const stream = w.pick('streams', on);
    if (stream === undefined) return;
    let left = 3;
    for await (const frame of stream) {
      if (inner) w.step(inner);
      if (on % 2) frame.close();
      else w.keep('frames', frame);
      if (--left === 0) break;
    }
  },
  function readFrame(w, { on, inner }, [plane]) {
    const frame = w.pick('frames', on);
    frame?.read(w.callback(inner), on < 10 ? plane : 0);
    return frame && void [frame.timestamp, frame.damaged, frame.monotonic, frame.keyframe, frame.buffers];
  },
  async function lendFrame(w, { on }) {
    const buffers = w.pick('frames', on)?.buffers;
    if (buffers) await w.pick('sockets', on)?.send('frame', buffers);
  },
  function closeFrame(w, { on }) {
    w.pick('frames', on)?.close();
  },
  function closeStream(w, { on }) {
    w.pick('streams', on)?.close();
    if (on === 0) w.pick('sinks', on)?.close();
  },
  function sink(w, { on }, [options]) {
    const video = w.pick('videos', on);
    if (!(video instanceof Output)) return;
    w.keep('sinks', video.sink(on < 5 ? options : { count: 1 + (on % 3), heap: w.pick('heaps', on) }));
  },
  async function canvas(w, { on }) {
    w.keep('canvases', await w.pick('sinks', on)?.acquire());
  },
  function draw(w, { on, inner }, [plane, info]) {
    const one = w.pick('canvases', on);
    one?.write(w.callback(inner), on < 10 ? plane : 0);
    one?.show(on < 10 ? info : undefined);
  },
  function closeCanvas(w, { on }) {
    w.pick('canvases', on)?.close();
  },
  async function finish(w, { on }) {
    await w.pick('sinks', on)?.finish();
  },
  async function play(w, { on }, [frames, options]) {
    const video = w.pick('videos', on);
    if (video instanceof Output) await video.play(on < 5 ? frames : w.pick('streams', on), on < 10 ? options : {});
  },
  function closeVideo(w, { on }) {
    if (on < 4) w.pick('videos', on)?.close();
    w.videos = w.videos.filter(({ closed }) => !closed);
  },
];

/** Often enough for what needs several of them, one after the other. */
const often = [withDevice, withDevice, withDevice].flat();

export const videoCalls = there.length > 0 ? [...without, ...often] : without;

/** What a world begins with: each device open, and each camera streaming. */
export function beginVideo(w) {
  for (const { path, kind } of there.slice(0, OPEN - 2)) {
    const video = classOf[kind].open(path);
    w.keep('videos', video);
    if (kind === 'capture') w.keep('streams', video.frames({ count: 3 }));
    if (kind === 'output') w.keep('sinks', video.sink({ count: 2 }));
  }
}
