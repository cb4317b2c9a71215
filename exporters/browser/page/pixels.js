// How a decoded picture becomes a network's input: Pillow's fixed-point arithmetic, value for value,
// as toolkit/preprocessing.py has it. Pictures are { width, height, channels, data }, rows of pixels.

const BITS = 22; // Pillow weighs 8-bit pixels in steps of 2 ** -22

const FILTERS = {
  box: { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    at(x) {
      const far = Math.abs(x);
      if (far < 1) return (1.5 * far - 2.5) * far * far + 1;
      return far < 2 ? (((far - 5) * far + 8) * far - 4) * -0.5 : 0;
    },
  },
};

/** Round half to even, as Python does. */
function even(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest < 0.5 ? low : rest > 0.5 ? low + 1 : low + Math.abs(low % 2);
}

/** Which pixels of an axis, and how much of each, make each pixel of the new axis. */
function weightsOf(old, size, filter) {
  const scale = old / size;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const rows = [];
  for (let i = 0; i < size; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(old, Math.trunc(centre + support + 0.5));
    const found = [];
    let sum = 0;
    for (let x = first; x < end; x++) {
      const weight = filter.at((x - centre + 0.5) * (1 / stretch));
      found.push(weight);
      sum += weight;
    }
    const whole = found.map((weight) => {
      const part = (sum ? weight / sum : weight) * 2 ** BITS;
      return Math.trunc(part < 0 ? part - 0.5 : part + 0.5);
    });
    rows.push({ first, weights: Float64Array.from(whole) });
  }
  return rows;
}

/** One pixel of the old axis for each of the new one. Pillow adds the step up pixel by pixel, and so rounds. */
function nearestOf(old, size) {
  const step = old / size;
  const rows = [];
  for (let at = step * 0.5; rows.length < size; at += step) {
    rows.push({ first: Math.min(old - 1, Math.trunc(at)), weights: [2 ** BITS] });
  }
  return rows;
}

/** Resize along one axis; `step` and `from` tell how far its pixels, and the lines beside it, lie apart. */
function pass(picture, size, across, filter) {
  const { width, height, channels, data } = picture;
  const made = { ...picture, [across ? "width" : "height"]: size };
  made.data = new Uint8ClampedArray(made.width * made.height * channels);
  const rows = (filter ? weightsOf : nearestOf)(across ? width : height, size, filter);
  const lines = across ? height : width;
  const [step, from, to] = across ? [channels, width * channels, size * channels] : [width * channels, channels, channels];
  for (let i = 0; i < size; i++) {
    const { first, weights } = rows[i];
    const count = weights.length;
    for (let line = 0; line < lines; line++) {
      for (let c = 0; c < channels; c++) {
        let at = line * from + first * step + c;
        let sum = 2 ** (BITS - 1);
        for (let k = 0; k < count; k++, at += step) sum += data[at] * weights[k];
        made.data[line * to + i * step + c] = Math.floor(sum / 2 ** BITS);
      }
    }
  }
  return made;
}

/** Resize to width × height by the interpolation that a passport names. */
function resized(picture, width, height, interpolation) {
  if (picture.width === width && picture.height === height) return picture;
  const down = width < picture.width || height < picture.height;
  const filter = FILTERS[interpolation === "box-bilinear" ? (down ? "box" : "bilinear") : interpolation];
  const made = width === picture.width ? picture : pass(picture, width, true, filter);
  return height === made.height ? made : pass(made, height, false, filter);
}

/** The median of each channel along the picture's border, corners counted twice; halves are kept. */
function border({ width, height, channels, data }) {
  const half = width + height;
  return Array.from({ length: channels }, (_, c) => {
    const found = [];
    const take = (x, y) => found.push(data[(y * width + x) * channels + c]);
    for (let x = 0; x < width; x++) take(x, 0), take(x, height - 1);
    for (let y = 0; y < height; y++) take(0, y), take(width - 1, y);
    found.sort((a, b) => a - b);
    return (found[half - 1] + found[half]) / 2;
  });
}

/** The size at which the whole picture is within the network's. */
function inside(picture, [height, width]) {
  const scale = Math.min(width / picture.width, height / picture.height);
  return [picture.width, picture.height].map((side) => Math.max(1, even(side * scale)));
}

/** The size of which the network's is cut out; rounded as torchvision and timm do. */
function covering(picture, how) {
  const [tall, wide] = how.size.map((side) => Math.floor(side / how.crop_share));
  if (how.resize !== "crop") return [wide, tall];
  const { width, height } = picture;
  if (tall !== wide) {
    const ratio = Math.min(width / wide, height / tall);
    return [even(width / ratio), even(height / ratio)];
  }
  const other = Math.trunc((tall * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? [tall, other] : [other, tall];
}

/** Bring a picture to the network's size; colours stay in the order RGB. */
export function fit(picture, how) {
  const [height, width] = how.size;
  const { channels } = picture;
  const pad = how.resize === "pad";
  const [wide, tall] = pad ? inside(picture, how.size) : covering(picture, how);
  const from = resized(picture, wide, tall, how.interpolation);
  const shift = (room, side) => (pad ? Math.floor((room - side) / 2) : -even((side - room) / 2));
  const [left, top] = [shift(width, wide), shift(height, tall)];
  const ground = pad ? border(picture).map(Math.trunc) : [0, 0, 0];
  const data = new Uint8Array(width * height * channels);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [column, row] = [x - left, y - top];
      const outside = column < 0 || row < 0 || column >= wide || row >= tall;
      for (let c = 0; c < channels; c++, at++) {
        data[at] = outside ? ground[c] : from.data[(row * wide + column) * channels + c];
      }
    }
  }
  return { width, height, channels, data };
}

/** Lay RGBA pixels on paper of a grey, in grey or colours, into `data` from pixel `start` on.
 * `range` is widened to the least red, green and blue, and to the greatest. */
export function flatten(rgba, channels, data, paper, range, start = 0) {
  const mixed = [0, 0, 0];
  for (let i = 0, at = start * channels; i < rgba.length; i += 4) {
    const mine = rgba[i + 3] * 128;
    const rest = paper * (32640 - mine) + 16384;
    for (let c = 0; c < 3; c++) {
      const sum = rgba[i + c] * mine + rest;
      const value = (mixed[c] = (((sum >> 8) + sum) >> 8) >> 7);
      range[c] = Math.min(range[c], value);
      range[c + 3] = Math.max(range[c + 3], value);
      if (channels > 1) data[at++] = value;
    }
    const [r, g, b] = mixed;
    if (channels < 2) data[at++] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16; // ITU-R 601, as in Pillow
  }
}

/** Whether a grey picture, at the network's size, must be inverted to have the ground that its network learned on. */
export function groundDiffers(fitted, how) {
  if (how.channels !== 1 || how.ground === "mixed") return false;
  return border(fitted)[0] > 127 !== (how.ground === "light");
}

/** Turn dark-on-light into light-on-dark. */
export function turned(picture) {
  return { ...picture, data: picture.data.map((value) => 255 - value) };
}

/** Turn pixels at the network's size into its input, NCHW or NHWC, in float32 or (raw) uint8. */
export function tensorOf(picture, how, takes) {
  const { channels, data } = picture;
  const area = picture.width * picture.height;
  const raw = takes.dtype === "uint8";
  const made = new (raw ? Uint8Array : Float32Array)(data.length);
  const last = takes.layout === "NHWC";
  const f = Math.fround;
  for (let c = 0; c < channels; c++) {
    const from = how.order === "bgr" && !raw ? channels - 1 - c : c;
    const mean = f(how.mean[c] ?? how.mean[0]);
    const std = f(how.std[c] ?? how.std[0]);
    const factor = f(f(how.scale) / std);
    const less = f(mean / std);
    const table = new Float32Array(256);
    for (let pixel = 0; pixel < 256; pixel++) {
      const value = how.invert ? 255 - pixel : pixel;
      if (how.formula === "divide") {
        const scaled = f(how.scale === 1 / 255 ? value / 255 : value * f(how.scale));
        table[pixel] = f(f(scaled - mean) / std);
      } else {
        table[pixel] = f(f(value * factor) - less);
      }
    }
    for (let i = 0; i < area; i++) {
      const pixel = data[i * channels + from];
      made[last ? i * channels + c : c * area + i] = raw ? pixel : table[pixel];
    }
  }
  return made;
}
