// A picture's bytes looked at before they are decoded, and decoded without anything being made nicer.
import { flatten } from "./pixels.js";

const MAX_PIXELS = 25_000_000;
const MAX_BYTES = 20 * 1024 * 1024;
const FAINT = 16; // a picture whose values are no further apart is one shade to people
const BAND_PIXELS = 4_000_000; // phones bound how large a canvas may be: a picture is read in bands

const SENTENCES = {
  old: "This browser is too old: it takes Chrome or Edge 91, Firefox 113, Safari 16.4 or newer.",
  missing: "{file} cannot be loaded: {why}.",
  mixed: "{file} is not the file that this folder was made with: it is damaged, or of another export; copy the whole folder anew.",
  unable: "This browser cannot run the network: {why}",
  nan: "The network's answer is no number.",
  empty: "The file is empty; choose a picture.",
  bytes: "The file is over the limit of 20 MiB; scale it down first.",
  pixels: "The picture has {size} pixels, over the limit of 25,000,000; scale it down first.",
  damaged: "The picture is damaged or cut short; save it again.",
  cmyk: "The picture is in CMYK, which browsers turn to RGB each in its own way; save it as RGB.",
  heic: "This browser cannot read HEIC pictures; save it as JPEG (on an iPhone: Settings, Camera, Most Compatible).",
  unknown: "That is no picture that this browser reads; known: JPEG, PNG, WebP, GIF, AVIF, BMP.",
  levels: "The picture has 16 bits of grey, of which a browser keeps 8; `cnnkit predict` reads all.",
  range: "Few of the picture's 16 bits of grey are used: what is black and white is not known; bring it to 8 bits first.",
  nothing: "There is no picture yet (its width is 0).",
};

/** Put values into a sentence's {places}. */
export const filled = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, key) => values[key]);

/** Something expected that went wrong, told in one sentence; `code` and `values` name it for translations. */
export class ClassifierError extends Error {
  name = "ClassifierError";
  constructor(code, values = {}) {
    super(filled(SENTENCES[code], values));
    Object.assign(this, { code, values });
  }
}

export function refuse(code, values) {
  throw new ClassifierError(code, values);
}

const text = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));

function refuseSize(width, height) {
  if (width * height > MAX_PIXELS) refuse("pixels", { size: `${width}×${height}` });
}


/** Refuse a file that nowhere has the bytes that end its kind. */
function refuseCut(bytes, end) {
  let at = bytes.length;
  do at = bytes.lastIndexOf(end[0], at - 1);
  while (at > 0 && end.some((byte, i) => bytes[at + i] !== byte));
  if (at <= 1) refuse("damaged");
}

function lookAtJpeg(bytes, view) {
  refuseCut(bytes, [0xff, 0xd9]);
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      refuseSize(view.getUint16(at + 7), view.getUint16(at + 5));
      if (bytes[at + 9] === 4) refuse("cmyk");
      return;
    }
    at += marker === 0xff ? 1 : 2 + view.getUint16(at + 2);
  }
}

function lookAtPng(bytes, view) {
  if (bytes.length < 33) refuse("damaged");
  refuseSize(view.getUint32(16), view.getUint32(20));
  refuseCut(bytes, [73, 69, 78, 68]); // IEND
  return bytes[24] === 16 && bytes[25] === 0; // 16 bits of grey, whose range matters
}

/** Refuse what cannot be classified before it is decoded; tell whether it is grey of more than 8 bits. */
function lookAt(bytes) {
  if (!bytes.length) refuse("empty");
  if (bytes.length > MAX_BYTES) refuse("bytes");
  const view = new DataView(bytes.buffer);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) lookAtJpeg(bytes, view);
  return text(bytes, 1, 4) === "PNG" && lookAtPng(bytes, view);
}

/** Refuse what the browser does not decode, with what it seems to be. */
function refuseKind(bytes) {
  if (/^ftyp(hei|hev|mif1|msf1)/.test(text(bytes, 4, 12))) refuse("heic");
  refuse(bytes[0] === 0xff || /PNG|GIF8|RIFF|BM/.test(text(bytes, 0, 4)) ? "damaged" : "unknown");
}

/** Lay the RGBA pixels that `read` gives, with their first row, on white; on black where there they would be
 * one shade, as a white figure is. */
function laid(width, height, channels, read) {
  refuseSize(width, height);
  const data = new Uint8Array(width * height * channels);
  const isSeen = (paper) => {
    const range = [255, 255, 255, 0, 0, 0];
    read((rgba, top = 0) => flatten(rgba, channels, data, paper, range, top * width));
    return range.some((low, c) => range[c + 3] - low > FAINT);
  };
  isSeen(255) || isSeen(0) || isSeen(255);
  return { width, height, channels, data };
}

/** Read a drawable's pixels, laid on paper, with as many channels as asked for. */
function pixelsOf(source, width, height, channels) {
  return laid(width, height, channels, (lay) => {
    const rows = Math.max(1, Math.min(height, Math.floor(BAND_PIXELS / width)));
    const context = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
    for (let top = 0; top < height; top += rows) {
      context.clearRect(0, 0, width, rows);
      context.drawImage(source, 0, -top);
      lay(context.getImageData(0, 0, width, Math.min(rows, height - top)).data, top);
    }
  });
}

async function fromBytes(blob, how) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const wide = lookAt(bytes);
  if (wide && how.levels) refuse("levels");
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    refuseKind(bytes);
  }
  try {
    const picture = pixelsOf(bitmap, bitmap.width, bitmap.height, how.channels);
    const most = wide ? picture.data.reduce((a, b) => Math.max(a, b), 0) : 255;
    if (most > 0 && most < 128) refuse("range");
    return picture;
  } finally {
    bitmap.close();
  }
}

/** Decode anything that shows a picture, upright, on paper, with the network's number of channels. */
export async function decode(source, how) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) source = new Blob([source]);
  if (source instanceof Blob) return fromBytes(source, how);
  if (source instanceof ImageData) {
    return laid(source.width, source.height, how.channels, (lay) => lay(source.data));
  }
  const width = source?.videoWidth || source?.naturalWidth || source?.width;
  const height = source?.videoHeight || source?.naturalHeight || source?.height;
  if (!width || !height) refuse("nothing");
  return pixelsOf(source, width, height, how.channels);
}
