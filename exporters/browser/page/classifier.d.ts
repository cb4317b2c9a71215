/** A network in the browser, as `cnnkit export MODEL --format web` writes it. */

/** Whatever shows a picture. Blobs and bytes are decoded upright, without colour conversion. */
export type Picture =
  | Blob
  | ArrayBuffer
  | ArrayBufferView
  | ImageData
  | ImageBitmap
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | HTMLVideoElement;

export interface Answer {
  label: string;
  /** Between 0 and 1. */
  probability: number;
  index: number;
}

/** A picture as the network sees it: rows of pixels, `channels` values each. */
export interface Seen {
  width: number;
  height: number;
  channels: 1 | 3;
  data: Uint8Array;
  inverted: boolean;
}

export interface Classified extends Answer {
  /** The likeliest, likeliest first. */
  top: Answer[];
  probabilities: Float64Array;
  seen: Seen;
  inverted: boolean;
  /** Milliseconds; the clocks of browsers are coarse, `time()` averages. */
  ms: { prepare: number; run: number };
}

/** How the folder's proof was answered here. */
export interface ProofRecord {
  images: number;
  agree: number;
  /** Numbers of the pictures that disagree. */
  wrong: number[];
  /** null where an answer was no number. */
  max_abs_diff: number | null;
  tolerance: number;
  latency_ms: number;
  batch: number;
  provider: "wasm" | "webgpu";
  /** Why WebGPU was tried and not taken. */
  gpu_why?: string | null;
  threads: number;
  cores: number | null;
  browser: string;
  precision: string;
  onnxruntime_web: string;
}

export interface Preprocessing {
  size: [number, number];
  channels: 1 | 3;
  order: "rgb" | "bgr";
  resize: "pad" | "crop" | "squash";
  crop_share: number;
  interpolation: "box-bilinear" | "bilinear" | "bicubic" | "nearest";
  scale: number;
  mean: number[];
  std: number[];
  invert: boolean;
  ground: "dark" | "light" | "mixed" | null;
  formula: "multiply" | "divide";
  levels: [number, number] | null;
}

export interface Tensor {
  name: string;
  /** null for an open batch. */
  shape: (number | null)[];
  dtype: string;
  layout: string | null;
}

/** What is read of the passport; its file holds more. */
export interface Passport {
  model: string;
  precision: "fp32" | "fp16" | "int8";
  classes: string[];
  preprocessing: Preprocessing;
  input: Tensor;
  output: Tensor;
  softmax?: boolean;
  sha256: string;
  proof_sha256: string;
  [key: string]: unknown;
}

export interface LoadOptions {
  /** Counts on pages that are cross-origin isolated; else one. */
  threads?: number;
  /** Of a folder with WebGPU: never (false), or wherever it answers the proof (true); else where it is sooner, too. */
  webgpu?: boolean;
}

export interface ClassifyOptions {
  /** How many answers `top` holds; 5 by default. */
  top?: number;
  /** Whether light and dark change places; "auto" where the ground is not the one that was learned. */
  invert?: "auto" | boolean;
}

export interface Classifier {
  readonly passport: Passport;
  readonly threads: number;
  readonly provider: "wasm" | "webgpu";
  /** Why WebGPU was tried and not taken. */
  readonly gpuWhy?: string | null;
  /** Whether the files' hashes could be compared, which takes https (or localhost). */
  readonly checked: boolean;
  classify(image: Picture, options?: ClassifyOptions): Promise<Classified>;
  prepare(image: Picture, options?: ClassifyOptions): Promise<Seen>;
  /** The network alone: one input as it goes in, its scores. */
  run(values: Float32Array | Uint8Array): Promise<Float32Array>;
  /** Milliseconds of one answer. */
  time(input?: Float32Array | Uint8Array): Promise<number>;
  verify(options?: { progress?: (done: number, images: number) => void }): Promise<ProofRecord>;
  dispose(): Promise<void>;
}

/** Something expected that went wrong, in one sentence. */
export class ClassifierError extends Error {
  readonly code: string;
  readonly values: Record<string, string>;
}

/** Open the folder at `base`, relative to the page. */
export function load(base?: string, options?: LoadOptions): Promise<Classifier>;
