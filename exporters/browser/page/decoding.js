// A picture's bytes looked at before they are decoded, and decoded without anything being made nicer.
import { flatten } from "./pixels.js";

export const MAX_PIXELS = 25_000_000;
export const MAX_BYTES = 20 * 1024 * 1024;
const BAND_PIXELS = 4_000_000; // phones bound how large a canvas may be: a picture is read in bands

/** Something expected that went wrong, told in one sentence; `code` and `values` name it for translations. */
export class ClassifierError extends Error {
  constructor(code, text, values = {}) {
    super(text);
    this.name = "ClassifierError";
    this.code = code;
    this.values = values;
  }
}

const text = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));

function refuseSize(width, height) {
  if (width * height <= MAX_PIXELS) return;
  const size = `${width}×${height}`;
  throw new ClassifierError(
    "pixels",
    `The picture has ${size} pixels, over the limit of 25,000,000; scale it down first.`,
    { size },
  );
}

function damaged() {
  return new ClassifierError("damaged", "The picture is damaged or cut short; save it again.");
}

function lookAtJpeg(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let end = bytes.length - 1;
  while (end > 0 && !(bytes[end - 1] === 0xff && bytes[end] === 0xd9)) end--;
  if (end <= 2) throw damaged();
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      refuseSize(view.getUint16(at + 7), view.getUint16(at + 5));
      if (bytes[at + 9] === 4) {
        throw new ClassifierError(
          "cmyk",
          "The picture is in CMYK, which browsers turn to RGB each in its own way; save it as RGB.",
        );
      }
      return;
    }
    at += marker === 0xff ? 1 : 2 + view.getUint16(at + 2);
  }
}

function lookAtPng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 33) throw damaged();
  refuseSize(view.getUint32(16), view.getUint32(20));
  let end = bytes.length - 4;
  while (end > 0 && text(bytes, end, end + 4) !== "IEND") end--;
  if (end <= 0) throw damaged();
  return bytes[24] === 16 && bytes[25] === 0; // 16 bits of grey, whose range matters
}

/** Refuse what cannot be classified before it is decoded; tell whether it is grey of more than 8 bits. */
function lookAt(bytes) {
  if (!bytes.length) throw new ClassifierError("empty", "The file is empty; choose a picture.");
  if (bytes.length > MAX_BYTES) {
    throw new ClassifierError("bytes", "The file is over the limit of 20 MiB; scale the picture down first.");
  }
  if (bytes[0] === 0xff && bytes[1] === 0xd8) lookAtJpeg(bytes);
  if (text(bytes, 1, 4) === "PNG") return lookAtPng(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (text(bytes, 0, 3) === "GIF" && bytes.length > 10) refuseSize(view.getUint16(6, true), view.getUint16(8, true));
  if (text(bytes, 12, 16) === "VP8X" && bytes.length > 30) {
    refuseSize((view.getUint32(24, true) & 0xffffff) + 1, (view.getUint32(26, true) >>> 8) + 1);
  }
  return false;
}

function why(bytes) {
  const brand = text(bytes, 4, 12);
  if (/^ftyp(hei|hev|mif1|msf1)/.test(brand)) {
    return new ClassifierError(
      "heic",
      "This browser cannot read HEIC pictures; save it as JPEG (on an iPhone: Settings, Camera, Most Compatible).",
    );
  }
  const known = bytes[0] === 0xff || /PNG|GIF8|RIFF|BM/.test(text(bytes, 0, 4));
  if (known) return damaged();
  return new ClassifierError(
    "unknown",
    "That is no picture that this browser reads; known: JPEG, PNG, WebP, GIF, AVIF, BMP.",
  );
}

function canvasOf(width, height) {
  if (typeof OffscreenCanvas !== "undefined") return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** Read a drawable's pixels, laid on white, with as many channels as asked for. */
function pixelsOf(source, width, height, channels) {
  refuseSize(width, height);
  const data = new Uint8Array(width * height * channels);
  const rows = Math.max(1, Math.min(height, Math.floor(BAND_PIXELS / width)));
  const canvas = canvasOf(width, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < height; top += rows) {
    const tall = Math.min(rows, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(source, 0, -top);
    flatten(context.getImageData(0, 0, width, tall).data, channels, data, top * width);
  }
  return { width, height, channels, data };
}

async function fromBytes(blob, how) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const wide = lookAt(bytes);
  if (wide && how.levels) {
    throw new ClassifierError(
      "levels",
      "The picture has 16 bits of grey, of which a browser keeps 8; `cnnkit predict` reads all of them.",
    );
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw why(bytes);
  }
  try {
    const picture = pixelsOf(bitmap, bitmap.width, bitmap.height, how.channels);
    const most = wide ? picture.data.reduce((a, b) => Math.max(a, b), 0) : 255;
    if (most > 0 && most < 128) {
      throw new ClassifierError(
        "range",
        "The picture has 16 bits of grey and uses few of them: which values are black and white is not known; bring it to 8 bits first.",
      );
    }
    return picture;
  } finally {
    bitmap.close();
  }
}

/** Decode anything that shows a picture, upright, on white, with the network's number of channels. */
export async function decode(source, how) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) source = new Blob([source]);
  if (source instanceof Blob) return fromBytes(source, how);
  if (source instanceof ImageData) {
    refuseSize(source.width, source.height);
    const data = new Uint8Array(source.width * source.height * how.channels);
    flatten(source.data, how.channels, data);
    return { width: source.width, height: source.height, channels: how.channels, data };
  }
  const width = source?.videoWidth || source?.naturalWidth || source?.width;
  const height = source?.videoHeight || source?.naturalHeight || source?.height;
  if (!width || !height) {
    throw new ClassifierError("nothing", "There is no picture yet: its width or height is 0.");
  }
  return pixelsOf(source, width, height, how.channels);
}
