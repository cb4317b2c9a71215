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

/** Resize along one axis; `step` and `stride` tell how pixels of that axis and the lines beside it lie. */
function pass(picture, size, across, filter) {
  const { width, height, channels, data } = picture;
  const made = across
    ? { width: size, height, channels, data: new Uint8Array(size * height * channels) }
    : { width, height: size, channels, data: new Uint8Array(width * size * channels) };
  const rows = weightsOf(across ? width : height, size, filter);
  const step = across ? channels : width * channels;
  const lines = across ? height : width;
  const from = across ? width * channels : channels;
  const to = across ? size * channels : channels;
  for (let i = 0; i < size; i++) {
    const { first, weights } = rows[i];
    const count = weights.length;
    for (let line = 0; line < lines; line++) {
      for (let c = 0; c < channels; c++) {
        let at = line * from + first * step + c;
        let sum = 2 ** (BITS - 1);
        for (let k = 0; k < count; k++, at += step) sum += data[at] * weights[k];
        const value = Math.floor(sum / 2 ** BITS);
        made.data[line * to + i * step + c] = value < 0 ? 0 : value > 255 ? 255 : value;
      }
    }
  }
  return made;
}

function nearest(picture, width, height) {
  const { channels, data } = picture;
  // Pillow adds the step up pixel by pixel, and so rounds
  const places = (old, size) => {
    const step = old / size;
    const found = new Int32Array(size);
    for (let i = 0, at = step * 0.5; i < size; i++, at += step) found[i] = Math.min(old - 1, Math.trunc(at));
    return found;
  };
  const xs = places(picture.width, width);
  const ys = places(picture.height, height);
  const made = new Uint8Array(width * height * channels);
  let at = 0;
  for (const y of ys) {
    for (const x of xs) {
      for (let c = 0; c < channels; c++) made[at++] = data[(y * picture.width + x) * channels + c];
    }
  }
  return { width, height, channels, data: made };
}

/** Resize to width × height by the interpolation that a passport names. */
export function resized(picture, width, height, interpolation) {
  if (picture.width === width && picture.height === height) return picture;
  if (interpolation === "nearest") return nearest(picture, width, height);
  const down = width < picture.width || height < picture.height;
  const filter = FILTERS[interpolation === "box-bilinear" ? (down ? "box" : "bilinear") : interpolation];
  let made = picture;
  if (width !== made.width) made = pass(made, width, true, filter);
  if (height !== made.height) made = pass(made, height, false, filter);
  return made;
}

/** The median of each channel along the picture's border, corners counted twice; halves are kept. */
function border({ width, height, channels, data }) {
  const counts = Array.from({ length: channels }, () => new Uint32Array(256));
  const count = (x, y) => {
    for (let c = 0; c < channels; c++) counts[c][data[(y * width + x) * channels + c]]++;
  };
  for (let x = 0; x < width; x++) {
    count(x, 0);
    count(x, height - 1);
  }
  for (let y = 0; y < height; y++) {
    count(0, y);
    count(width - 1, y);
  }
  const half = width + height;
  return counts.map((found) => {
    let seen = 0;
    let low = -1;
    for (let value = 0; value < 256; value++) {
      seen += found[value];
      if (low < 0 && seen >= half) low = value;
      if (seen > half) return (low + value) / 2;
    }
    return low;
  });
}

function place(onto, picture, left, top) {
  const { channels } = onto;
  for (let y = Math.max(0, -top); y < picture.height && y + top < onto.height; y++) {
    for (let x = Math.max(0, -left); x < picture.width && x + left < onto.width; x++) {
      for (let c = 0; c < channels; c++) {
        onto.data[((y + top) * onto.width + x + left) * channels + c] =
          picture.data[(y * picture.width + x) * channels + c];
      }
    }
  }
  return onto;
}

function padded(picture, how) {
  const [height, width] = how.size;
  const scale = Math.min(width / picture.width, height / picture.height);
  const inner = [Math.max(1, even(picture.width * scale)), Math.max(1, even(picture.height * scale))];
  const small = resized(picture, inner[0], inner[1], how.interpolation);
  if (inner[0] === width && inner[1] === height) return small;
  const colour = border(picture).map(Math.trunc);
  const paper = new Uint8Array(width * height * picture.channels);
  for (let i = 0; i < paper.length; i++) paper[i] = colour[i % picture.channels];
  const left = Math.floor((width - inner[0]) / 2);
  const top = Math.floor((height - inner[1]) / 2);
  return place({ width, height, channels: picture.channels, data: paper }, small, left, top);
}

/** Sizes and offsets are rounded as torchvision's and timm's. */
function cutOut(picture, how) {
  const [height, width] = how.size;
  let tall = Math.floor(height / how.crop_share);
  let wide = Math.floor(width / how.crop_share);
  if (how.resize === "crop") {
    const short = Math.min(picture.width, picture.height);
    const long = Math.max(picture.width, picture.height);
    if (tall === wide) {
      const other = Math.trunc((tall * long) / short);
      [wide, tall] = picture.width <= picture.height ? [tall, other] : [other, tall];
    } else {
      const ratio = Math.min(picture.width / wide, picture.height / tall);
      [wide, tall] = [even(picture.width / ratio), even(picture.height / ratio)];
    }
  }
  const left = even((wide - width) / 2);
  const top = even((tall - height) / 2);
  const covering = resized(picture, wide, tall, how.interpolation);
  const paper = new Uint8Array(width * height * picture.channels);
  return place({ width, height, channels: picture.channels, data: paper }, covering, -left, -top);
}

/** Lay RGBA pixels on white, in grey or colours, into `data` from pixel `start` on. */
export function flatten(rgba, channels, data, start = 0) {
  for (let i = 0, at = start * channels; i < rgba.length; i += 4) {
    let [r, g, b] = [rgba[i], rgba[i + 1], rgba[i + 2]];
    const alpha = rgba[i + 3];
    if (alpha < 255) {
      const mine = alpha * 128;
      const paper = 255 * (32640 - mine) + 16384;
      const mixed = (value) => {
        const sum = value * mine + paper;
        return (((sum >> 8) + sum) >> 8) >> 7;
      };
      [r, g, b] = [mixed(r), mixed(g), mixed(b)];
    }
    if (channels === 1) {
      data[at++] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16; // ITU-R 601, as Pillow weighs it
    } else {
      data[at++] = r;
      data[at++] = g;
      data[at++] = b;
    }
  }
}

/** Whether a grey picture must be inverted to have the ground that its network learned on. */
export function groundDiffers(picture, how) {
  if (how.channels !== 1 || how.ground === "mixed") return false;
  return border(picture)[0] > 127 !== (how.ground === "light");
}

/** Bring a picture to the network's size; colours stay in the order RGB. */
export function fit(picture, how, invert = false) {
  const made = (how.resize === "pad" ? padded : cutOut)(picture, how);
  return invert ? { ...made, data: made.data.map((value) => 255 - value) } : made;
}

/** Turn pixels at the network's size into its input, NCHW or NHWC, in float32 or (raw) uint8. */
export function tensorOf(picture, how, takes) {
  const { channels, data } = picture;
  const area = picture.width * picture.height;
  const raw = takes.dtype === "uint8";
  const made = raw ? new Uint8Array(data.length) : new Float32Array(data.length);
  const last = takes.layout === "NHWC";
  const f = Math.fround;
  for (let c = 0; c < channels; c++) {
    const from = how.order === "bgr" && !raw ? channels - 1 - c : c;
    const mean = f(how.mean[how.mean.length > 1 ? c : 0]);
    const std = f(how.std[how.std.length > 1 ? c : 0]);
    const factor = f(f(how.scale) / std);
    const less = f(mean / std);
    const table = new Float32Array(256);
    for (let pixel = 0; pixel < 256; pixel++) {
      const value = how.invert ? 255 - pixel : pixel;
      if (how.formula === "divide") {
        const scaled = how.scale === 1 / 255 ? f(value / 255) : f(value * f(how.scale));
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
