// A network in the browser: `const net = await load("."); await net.classify(image)`. No server answers,
// nothing leaves the device. Types stand in classifier.d.ts.
import { ClassifierError, decode, filled, refuse } from "./decoding.js";
import { fit, groundDiffers, tensorOf, turned } from "./pixels.js";

export { ClassifierError, filled };

// a module of one function that needs v128
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
const SCRIPT = "ort.wasm.min.mjs";
const WASM = "ort-wasm-simd-threaded.wasm.gz";
const PROOF = "proof.safetensors";
const WINDOW_MS = 100; // clocks of browsers are coarse: times are means over so long

async function fetched(url) {
  const reply = await fetch(url).catch(() => null);
  if (reply?.ok) return new Uint8Array(await reply.arrayBuffer());
  const why = reply ? `the host answers ${reply.status}` : "there is no network";
  refuse("missing", { file: url.pathname.split("/").pop(), why });
}

/** Unpack what a host has not unpacked already on the way here. */
async function unpacked(file, bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    refuse("mixed", { file });
  }
}

/** Compare bytes with their SHA-256; return false where a page without https cannot. */
async function checked(file, bytes, wanted) {
  if (!globalThis.crypto?.subtle) return false;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  if (Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("") !== wanted) refuse("mixed", { file });
  return true;
}

function parsed(file, bytes) {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    refuse("mixed", { file });
  }
}

/** Open the folder at `base`, beside the page by default. */
export async function load(base = ".", options = {}) {
  const able = globalThis.WebAssembly?.validate(new Uint8Array(SIMD)) && globalThis.DecompressionStream;
  if (!able) refuse("old");
  const root = new URL(base.endsWith("/") ? base : `${base}/`, globalThis.document?.baseURI ?? location.href);
  const at = (file) => new URL(file, root);
  const module = (file) =>
    import(/* webpackIgnore: true */ /* @vite-ignore */ at(file).href).catch((error) => {
      refuse("missing", { file, why: error.message });
    });
  const facts = fetched(at("web.json")).then((bytes) => parsed("web.json", bytes));
  const wasmOf = async (file) => {
    const bytes = await unpacked(file, await fetched(at(file)));
    await checked(file, bytes, (await facts).sha256[file]);
    return bytes.buffer;
  };
  const [ort, about, wasm, said, graph] = await Promise.all([
    module(SCRIPT), facts, wasmOf(WASM), fetched(at("passport.json")), fetched(at("model.onnx")),
  ]);
  const sure = await checked("passport.json", said, about.sha256["passport.json"]);
  const known = parsed("passport.json", said);
  await checked("model.onnx", graph, known.sha256);
  const threads = globalThis.crossOriginIsolated ? options.threads || about.threads : 1;
  Object.assign(ort.env.wasm, { numThreads: threads, wasmBinary: wasm });
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] }).catch((error) => {
    refuse("unable", { why: error.message ?? error });
  });
  ort.env.wasm.wasmBinary = undefined;
  const net = new Classifier({ ort, session, passport: known, about, threads, root, checked: sure, provider: "wasm" });
  if (about.webgpu && options.webgpu !== false) {
    const { upgrade } = await module("webgpu.js");
    await upgrade(net, { module, wasmOf, graph, anyhow: options.webgpu });
  }
  return net;
}

/** A network that is ready to answer; `load` makes one. */
class Classifier {
  constructor(parts) {
    Object.assign(this, parts);
    const { shape } = this.passport.input;
    this.batch = shape[0] ?? 1; // where a network takes no other
    this.shape = shape.slice(1);
    this.turn = Promise.resolve();
  }

  /** Answer one input, as it goes into the network; return its scores, K of them. */
  async run(values) {
    const { ort, batch } = this;
    const { input, output } = this.passport;
    let given = values;
    if (batch > 1) {
      given = new values.constructor(values.length * batch);
      for (let i = 0; i < batch; i++) given.set(values, i * values.length);
    }
    const feeds = { [input.name]: new ort.Tensor(input.dtype, given, [batch, ...this.shape]) };
    const mine = this.turn.then(() => this.session.run(feeds, [output.name]));
    this.turn = mine.catch(() => {});
    const scores = (await mine)[output.name].data;
    return scores.subarray(0, scores.length / batch);
  }

  /** Turn scores into probabilities, one a class. */
  probabilities(scores) {
    if (!scores.every(Number.isFinite)) refuse("nan");
    if (scores.length === 1) {
      const likely = this.passport.softmax ? scores[0] : 1 / (1 + Math.exp(-scores[0]));
      return Float64Array.of(1 - likely, likely);
    }
    if (this.passport.softmax) return Float64Array.from(scores);
    const most = Math.max(...scores);
    const weights = Float64Array.from(scores, (score) => Math.exp(score - most));
    const sum = weights.reduce((a, b) => a + b);
    return weights.map((weight) => weight / sum);
  }

  /** Bring a picture to the network's size; `inverted` tells whether its ground was turned. */
  async prepare(image, { invert = "auto" } = {}) {
    const how = this.passport.preprocessing;
    const seen = fit(await decode(image, how), how);
    const inverted = invert === "auto" ? groundDiffers(seen, how) : invert === true || invert === "yes";
    return { ...(inverted ? turned(seen) : seen), inverted };
  }

  /** Classify a picture: a Blob, an <img>, <canvas> or <video>, an ImageBitmap, ImageData, encoded bytes. */
  async classify(image, { top = 5, invert = "auto" } = {}) {
    const start = performance.now();
    const seen = await this.prepare(image, { invert });
    const input = tensorOf(seen, this.passport.preprocessing, this.passport.input);
    const ready = performance.now();
    const probabilities = this.probabilities(await this.run(input));
    const ms = { prepare: ready - start, run: performance.now() - ready };
    const classes = this.passport.classes;
    const ranked = Array.from(probabilities, (probability, index) => ({ label: classes[index], probability, index }));
    ranked.sort((a, b) => b.probability - a.probability || a.index - b.index);
    return { ...ranked[0], top: ranked.slice(0, top), probabilities, seen, inverted: seen.inverted, ms };
  }

  /** Milliseconds of one answer: the median of five means over a tenth of a second each. */
  async time(input = this.blank()) {
    for (let i = 0; i < 3; i++) await this.run(input);
    const means = [];
    while (means.length < 5) {
      const start = performance.now();
      let [runs, spent] = [0, 0];
      for (; spent < WINDOW_MS; spent = performance.now() - start, runs++) await this.run(input);
      means.push(spent / runs);
    }
    return means.sort((a, b) => a - b)[2];
  }

  blank() {
    const size = this.shape.reduce((a, b) => a * b, 1);
    return new (this.passport.input.dtype === "uint8" ? Uint8Array : Float32Array)(size);
  }

  /** Answer the proof that lies in the folder, and compare with what its checkpoint answered. */
  async verify({ progress = () => {} } = {}) {
    const proof = await this.proof();
    const wrong = [];
    let most = 0;
    for (let i = 0; i < proof.images; i++) {
      const scores = await this.run(proof.input(i));
      const wanted = proof.logits(i);
      const apart = scores.reduce((far, score, k) => Math.max(far, Math.abs(score - wanted[k])), 0);
      most = Number.isNaN(apart) ? apart : Math.max(most, apart);
      if (!agrees(scores, wanted, apart, proof.tolerance, this.passport.softmax)) wrong.push(i);
      progress(i + 1, proof.images);
    }
    const latency = await this.time(proof.input(0));
    return {
      images: proof.images,
      agree: proof.images - wrong.length,
      wrong,
      max_abs_diff: Number.isFinite(most) ? most : null,
      tolerance: proof.tolerance,
      latency_ms: latency,
      batch: this.batch,
      provider: this.provider,
      gpu_why: this.gpuWhy,
      threads: this.threads,
      cores: navigator.hardwareConcurrency ?? null,
      browser: navigator.userAgent,
      precision: this.passport.precision,
      onnxruntime_web: this.about.onnxruntime_web,
    };
  }

  /** Read `proof.safetensors`. */
  async proof() {
    const bytes = await fetched(new URL(PROOF, this.root));
    await checked(PROOF, bytes, this.passport.proof_sha256);
    const start = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const head = parsed(PROOF, bytes.subarray(8, start));
    const part = (name) => bytes.slice(...head[name].data_offsets.map((offset) => start + offset));
    const [images, channels, height, width] = head.given.shape;
    const pixels = head.given.dtype === "U8";
    const given = pixels ? part("given") : new Float32Array(part("given").buffer);
    const logits = new Float32Array(part("logits").buffer);
    const row = (values, i) => values.slice((i * values.length) / images, ((i + 1) * values.length) / images);
    return {
      images,
      tolerance: Number(head.__metadata__.tolerance),
      logits: (i) => row(logits, i),
      input: (i) => {
        const one = row(given, i);
        if (!pixels) return one;
        const area = height * width;
        const data = one.map((_, at) => one[(at % channels) * area + Math.floor(at / channels)]);
        return tensorOf({ width, height, channels, data }, this.passport.preprocessing, this.passport.input);
      },
    };
  }

  /** Give the memory back. */
  async dispose() {
    await this.turn;
    await this.session.release();
  }
}

/** The rule of `cnnkit verify`: within the tolerance, and the same class or one that was near. */
function agrees(scores, wanted, apart, tolerance, probable) {
  const sorted = Float64Array.from(wanted).sort();
  const second = sorted.length > 1 ? sorted[sorted.length - 2] : probable ? 0.5 : 0;
  const near = Math.abs(sorted[sorted.length - 1] - second) <= 2 * tolerance;
  const decide = (row) => (row.length > 1 ? row.indexOf(Math.max(...row)) : row[0] > (probable ? 0.5 : 0));
  return apart <= tolerance && (near || decide(scores) === decide(wanted));
}
