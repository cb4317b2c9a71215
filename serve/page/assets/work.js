// The network at work: each layer's channels painted on one scale, and the time that each layer takes.

import { $, make, milliseconds, percent, unpack } from "./dom.js";

// away from zero: below it towards slate, above it over the accent to white
const BELOW = [[13, 20, 18], [58, 70, 104], [128, 140, 190], [198, 206, 236]];
const ABOVE = [[13, 20, 18], [8, 92, 66], [32, 170, 112], [140, 226, 150], [250, 255, 214]];
// weak values are lifted, or a layer with one strong spot would be black
const LIFT = 0.7;
const GAP = 2;

function between(stops, share) {
  const at = Math.min(stops.length - 1.0001, Math.max(0, share * (stops.length - 1)));
  const [from, to] = [stops[Math.floor(at)], stops[Math.floor(at) + 1]];
  return from.map((value, index) => value + (to[index] - value) * (at - Math.floor(at)));
}

/** Return 256 colours for a layer's values: zero is the ground. */
function palette(low, high) {
  const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return Array.from({ length: 256 }, (_, byte) => {
    const value = low + ((high - low) * byte) / 255;
    return between(value < 0 ? BELOW : ABOVE, (Math.abs(value) / most) ** LIFT);
  });
}

/** Paint a layer's tiles side by side on a canvas whose cells are `scale` pixels. */
export function paint(canvas, layer, { columns, scale, gap = GAP }) {
  const { height, width, shown } = layer;
  const rows = Math.ceil(shown / columns);
  const spread = gap / scale;
  canvas.width = Math.max(1, Math.round((columns * (width + spread) - spread) * scale));
  canvas.height = Math.max(1, Math.round((rows * (height + spread) - spread) * scale));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  const colours = palette(layer.low, layer.high);
  const values = unpack(layer.tiles);
  const tile = new OffscreenCanvas(width, height);
  const picture = new ImageData(width, height);
  for (let index = 0; index < shown; index++) {
    for (let at = 0; at < width * height; at++) {
      const [red, green, blue] = colours[values[index * width * height + at]];
      picture.data.set([red, green, blue, 255], at * 4);
    }
    tile.getContext("2d").putImageData(picture, 0, 0);
    const left = (index % columns) * (width + spread) * scale;
    const top = Math.floor(index / columns) * (height + spread) * scale;
    pen.drawImage(tile, Math.round(left), Math.round(top), Math.round(width * scale), Math.round(height * scale));
  }
}

const isVector = (layer) => layer.height * layer.width === 1;
const shape = (layer) => layer.shape.join("×");
const number = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

function arrange(layer) {
  if (isVector(layer)) {
    const columns = Math.max(1, Math.min(layer.shown, Math.ceil(Math.sqrt(layer.shown / 2))));
    return { columns, scale: Math.max(3, Math.min(14, Math.floor(146 / Math.ceil(layer.shown / columns)))), gap: 1 };
  }
  const columns = Math.ceil(Math.sqrt(layer.shown));
  return { columns, scale: Math.max(1, Math.round(296 / columns / layer.width)), gap: 2 * GAP };
}

export function describe(layer) {
  const of = isVector(layer) ? `${layer.count} values` : `${layer.count} channels of ${layer.shape[1]}×${layer.shape[2]}`;
  const part = layer.shown < layer.count ? `, the first ${layer.shown} shown` : "";
  return `${of}${part}; from ${number(layer.low)} to ${number(layer.high)}`;
}

/** The strip of layers; its cards stay while their pictures change, so that focus and place are kept. */
export class Work {
  constructor(look) {
    this.look = look;
    this.cards = [];
    this.names = "";
    this.times = null;
  }

  show(layers) {
    const names = layers.map((layer) => `${layer.name} ${layer.shape}`).join("|");
    if (names !== this.names) this.build(layers, names);
    layers.forEach((layer, at) => {
      const { canvas, note, more } = this.cards[at];
      paint(canvas, layer, arrange(layer));
      note.textContent = `${layer.type} · ${shape(layer)}`;
      more.textContent = `${describe(layer)}. Look closer`;
    });
    this.bars();
  }

  build(layers, names) {
    this.names = names;
    this.cards = layers.map((layer) => {
      const canvas = make("canvas", { "aria-hidden": "true" });
      const note = make("small");
      const time = make("small", { class: "ck-time" });
      const more = make("span", { class: "ck-hidden" });
      const card = make("button", { type: "button", "aria-expanded": "false", onclick: () => this.look(layer.name) },
        make("span", { class: "ck-map" }, canvas), make("strong", {}, layer.name), note, time, more);
      return { name: layer.name, canvas, note, time, more, card };
    });
    $("layers").replaceChildren(...this.cards.map(({ card }) => card));
  }

  clear() {
    this.names = "";
    this.cards = [];
    $("layers").replaceChildren();
  }

  expand(name) {
    for (const one of this.cards) one.card.setAttribute("aria-expanded", one.name === name);
  }

  /** Show how long each layer took; one that was computed together with others says with which. */
  timed(times) {
    this.times = times;
    this.bars();
  }

  bars() {
    const steps = this.times?.steps || [];
    const whole = steps.reduce((sum, step) => sum + step.ms, 0) || 1;
    const most = Math.max(1e-9, ...steps.filter((step) => step.layers.length).map((step) => step.ms));
    for (const { name, time } of this.cards) {
      const own = steps.filter((step) => step.layers.includes(name));
      if (!own.length) {
        time.replaceChildren();
        continue;
      }
      if (own[0].layers[0] !== name) {
        time.replaceChildren(`with ${own[0].layers[0]}`);
        continue;
      }
      const ms = own.reduce((sum, step) => sum + step.ms, 0);
      time.replaceChildren(make("i", { style: `width:${Math.max(1, (ms / most) * 100)}%` }),
        `${milliseconds(ms)} · ${percent(ms / whole)}`);
    }
  }
}

/** Paint a heat map in red over the picture, what is cold left clear. */
export function paintHeat(canvas, { heat, height, width }) {
  const values = unpack(heat);
  const small = new OffscreenCanvas(width, height);
  const picture = new ImageData(width, height);
  values.forEach((value, at) => picture.data.set([255, 64, 32, Math.round(value * 0.68)], at * 4));
  small.getContext("2d").putImageData(picture, 0, 0);
  canvas.width = canvas.height = 336;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(small, 0, 0, 336, 336);
}
