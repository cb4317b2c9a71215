// The same network by WebGPU: taken where it answers this folder's proof as its checkpoint did, and sooner than wasm.
const SCRIPT = "ort.webgpu.min.mjs";
const WASM = "ort-wasm-simd-threaded.asyncify.wasm.gz";

async function tried(net, { module, wasmOf, graph, anyhow }) {
  if (!(await navigator.gpu?.requestAdapter())) return "this browser offers no adapter";
  const ort = await module(SCRIPT);
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: await wasmOf(WASM) });
  // channels last, its own choice, answered 0 of 64 pictures right (1.30.0, Chromium 156, two LeNets)
  const executionProviders = [{ name: "webgpu", preferredLayout: "NCHW" }];
  const session = await ort.InferenceSession.create(graph, { executionProviders });
  const plain = { ort: net.ort, session: net.session };
  const before = await net.time();
  Object.assign(net, { ort, session });
  const found = await net.verify().catch((error) => ({ images: 1, agree: 0, error }));
  const times = () => `${found.latency_ms.toPrecision(2)} ms, and ${before.toPrecision(2)} by wasm`;
  const why =
    (found.error && `it fails: ${found.error.message}`) ||
    (found.agree < found.images && `only ${found.agree} of ${found.images} answers agree`) ||
    (found.latency_ms >= before && !anyhow && `it agrees and is no faster (${times()})`);
  const left = why ? session : plain.session;
  if (why) Object.assign(net, plain);
  else net.provider = "webgpu";
  await left.release();
  return why || null;
}

/** Bring a network onto WebGPU, or say in `gpuWhy` why it stays where it is. */
export async function upgrade(net, how) {
  net.gpuWhy = await tried(net, how).catch((error) => `it fails: ${error.message ?? error}`);
}
