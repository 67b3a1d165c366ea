// SPDX-License-Identifier: MIT
/**
 * An evening at a lake: what the tour draws. A pixel is red, green, blue and alpha in this
 * order in memory (DRM_FORMAT_ABGR8888); alpha 255 says that it was drawn.
 */

type Colour = readonly [red: number, green: number, blue: number];

const OPAQUE = 0xff000000;

const pack = (red: number, green: number, blue: number): number => ((blue << 16) | (green << 8) | red | OPAQUE) >>> 0;

function mix(a: Colour, b: Colour, t: number): Colour {
  return [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t];
}

/** The colour at `t` from 0 to 1 of a row of colours. */
function gradient(colours: readonly Colour[], t: number): Colour {
  const at = Math.min(Math.max(t, 0), 1) * (colours.length - 1);
  const index = Math.min(Math.floor(at), colours.length - 2);
  return mix(colours[index] as Colour, colours[index + 1] as Colour, at - index);
}

const SKY: readonly Colour[] = [
  [18, 16, 58],
  [48, 28, 92],
  [118, 44, 110],
  [205, 76, 96],
  [246, 140, 86],
  [255, 206, 128],
];
const GLOW: Colour = [255, 226, 170];
const HAZE: Colour = [214, 104, 112];
const NEAR: Colour = [14, 12, 38];

/** Where the lake begins, as a part of the height. */
const SHORE = 0.7;
const RANGES = 6;
/** How far the sun shines, and how large it is, in pixels. */
const HALO = 230;
const DISC = 34;

/** Differences of a colour from its neighbours that the eye takes for none: no bands in the sky. */
const DITHER = [0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5].map((level) => level / 16);

function drawSky(pixels: Uint32Array, width: number, shore: number): void {
  const sunX = Math.round(width * 0.5);
  const sunY = Math.round(shore * 0.52);
  const halo = Float32Array.from({ length: HALO + 1 }, (_, radius) => {
    const fade = 1 - radius / HALO;
    return radius <= DISC ? 1 : 0.75 * fade * fade;
  });
  for (let y = 0; y < shore; y++) {
    const [red, green, blue] = gradient(SKY, y / shore);
    for (let x = 0; x < width; x++) {
      const dither = DITHER[(y & 3) * 4 + (x & 3)] as number;
      const dx = x - sunX;
      const dy = y - sunY;
      const square = dx * dx + dy * dy;
      const light = square < HALO * HALO ? (halo[Math.sqrt(square) | 0] as number) : 0;
      pixels[y * width + x] = pack(
        (red + (GLOW[0] - red) * light + dither) | 0,
        (green + (GLOW[1] - green) * light + dither) | 0,
        (blue + (GLOW[2] - blue) * light + dither) | 0,
      );
    }
  }
}

function drawStars(pixels: Uint32Array, width: number, shore: number): void {
  let state = 7;
  const next = (below: number): number => {
    state = (state * 48271) % 0x7fffffff;
    return state % below;
  };
  for (let star = 0; star < 170; star++) {
    const y = next(Math.round(shore * 0.5));
    const at = y * width + next(width);
    const brightness = (90 + next(165)) * (1 - y / (shore * 0.5));
    const pixel = pixels[at] as number;
    const lit = (shift: number) => Math.min(255, ((pixel >>> shift) & 255) + brightness) | 0;
    pixels[at] = pack(lit(0), lit(8), lit(16));
  }
}

/** Mountains, the farthest first, each range darker than the one behind it and misty at its foot. */
function drawRanges(pixels: Uint32Array, width: number, shore: number): void {
  for (let range = 0; range < RANGES; range++) {
    const depth = range / (RANGES - 1);
    const base = shore * (0.6 + 0.33 * depth);
    const relief = shore * (0.15 - 0.075 * depth);
    const ridge = Int16Array.from({ length: width }, (_, x) => {
      const u = (x / width) * (3 + 2.6 * depth) + range * 7.3;
      const slopes = Math.sin(u * 2.1) + 0.5 * Math.sin(u * 5.3 + 1.7) + 0.25 * Math.sin(u * 11.9 + range);
      const rocks = 0.1 * Math.sin(u * 29) + 0.06 * Math.sin(u * 61 + range) + 0.03 * Math.sin(u * 127);
      return Math.round(base - relief * (slopes + rocks) * 0.62);
    });
    const top = ridge.reduce((least, y) => Math.min(least, y), shore);
    const dark = mix(HAZE, NEAR, 0.25 + 0.75 * depth);
    const misty = mix(dark, HAZE, 0.5 * (1 - depth) + 0.08);
    for (let y = Math.max(top, 0); y < shore; y++) {
      const colour = pack(...mix(dark, misty, Math.min(1, (y - top) / (shore * 0.32))));
      const row = y * width;
      for (let x = 0; x < width; x++) if (y >= (ridge[x] as number)) pixels[row + x] = colour;
    }
  }
}

/** The lake shows what is above it, darker and in waves: it is read back from the frame. */
function drawLake(pixels: Uint32Array, width: number, height: number, shore: number): void {
  const depth = height - shore;
  for (let y = shore; y < height; y++) {
    const below = (y - shore) / depth;
    const wave = Math.sin(y * 0.9 + 14 / (below + 0.08)) * (1 + 5 * below);
    const source = Math.max(0, shore - 1 - Math.round((y - shore) * 2 + wave)) * width;
    const shift = Math.round(wave * 1.6);
    // 256ths: shifts instead of multiplications with fractions
    const keep = Math.round(205 - 95 * below);
    const row = y * width;
    for (let x = 0; x < width; x++) {
      const at = Math.min(Math.max(x + shift, 0), width - 1);
      const pixel = pixels[source + at] as number;
      const red = ((pixel & 255) * keep) >> 8;
      const green = (((pixel >>> 8) & 255) * keep) >> 8;
      const blue = ((((pixel >>> 16) & 255) * keep) >> 8) + 10;
      pixels[row + x] = pack(red, green, blue);
    }
  }
}

/** Draws the whole frame. */
export function drawLandscape(pixels: Uint32Array, width: number, height: number): void {
  const shore = Math.round(height * SHORE);
  drawSky(pixels, width, shore);
  drawStars(pixels, width, shore);
  drawRanges(pixels, width, shore);
  drawLake(pixels, width, height, shore);
}

/** Pixels that were drawn; fresh memory has none. */
export function countDrawn(pixels: Uint32Array): number {
  let drawn = 0;
  for (const pixel of pixels) drawn += Number(pixel >>> 24 === 255);
  return drawn;
}

/** A sum that depends on every pixel and on its place. */
export function checksum(pixels: Uint32Array): number {
  let sum = 0;
  for (const pixel of pixels) sum = (Math.imul(sum, 31) + pixel) >>> 0;
  return sum;
}
