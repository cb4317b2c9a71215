// The page around the classifier: draw, choose, photograph, paste or drop a picture; see the answer.
import { filled, load } from "./classifier.js";

const $ = (id) => document.getElementById(id);
const language = /^zh/i.test(navigator.language) ? "zh" : "en";
const words = JSON.parse($("words").textContent)[language];
const say = (name, values = {}) => filled(words[name], values);
const percent = (share) => share.toLocaleString(navigator.language, { style: "percent", maximumFractionDigits: 1 });
const digits = (value) =>
  value === null ? "–" : value && value < 0.001 ? value.toExponential(1) : `${Number(value.toPrecision(2))}`;

const state = document.documentElement.dataset; // for styles and tests
const paper = $("paper");
const pen = paper.getContext("2d", { willReadFrequently: true });
let net = null;
let source = null; // what was last classified
let stream = null;
let timer;
let asked = 0;
let turn = 0; // of what is on the stage

/** Make an element with text or other elements in it. */
function make(tag, ...inside) {
  const made = document.createElement(tag);
  made.append(...inside);
  return made;
}

function translate() {
  document.documentElement.lang = language;
  for (const place of document.querySelectorAll("[data-say]")) place.textContent = say(place.dataset.say);
  for (const place of document.querySelectorAll("[data-label]")) place.setAttribute("aria-label", say(place.dataset.label));
}

/** Tell what went wrong in one sentence; an empty one takes the last away. */
function trouble(error) {
  const place = $("trouble");
  place.hidden = !error;
  if (!error) return;
  const said = words.errors?.[error.code];
  place.textContent = said ? filled(said, error.values) : error.message;
  if (error.stack && !error.values) console.error(error); // nothing that was expected
}

function none(name) {
  $("answer").className = "answer none";
  $("answer").textContent = say(name);
  $("bars").replaceChildren();
}

function showSeen({ width, height, channels, data, inverted }) {
  const canvas = Object.assign($("seen"), { width, height });
  canvas.parentElement.hidden = false;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const [red, green = red, blue = red] = data.subarray(i * channels, (i + 1) * channels);
    image.data.set([red, green, blue, 255], i * 4);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  $("size").textContent = say(channels > 1 ? "colours" : "greys", { size: `${width} × ${height}` });
  $("invert").checked = inverted;
}

function bar({ label, probability }) {
  const share = make("b");
  share.style.transform = `scaleX(${probability})`;
  return make("li", make("span", label), make("i", share), make("span", percent(probability)));
}

/** Classify, of quick changes only the last one. */
async function classify(image, invert = "auto") {
  source = image;
  const mine = ++asked;
  if (!net) return;
  try {
    const found = await net.classify(image, { invert });
    if (mine !== asked) return;
    trouble(null);
    $("answer").className = "answer";
    $("answer").textContent = say("is", { label: found.label, share: percent(found.probability) });
    $("bars").replaceChildren(...found.top.map(bar));
    showSeen(found.seen);
    clearTimeout(timer);
    if (!$("speed").textContent) timer = setTimeout(showSpeed, 400); // not while answers of a drawing run, too
  } catch (error) {
    if (mine === asked) {
      none("nothing");
      trouble(error);
    }
  }
}

const onThreads = ({ provider, threads }) =>
  provider === "webgpu" ? "WebGPU" : say(threads > 1 ? "threads" : "thread", { count: threads });

async function showSpeed() {
  $("speed").textContent = say("speed", { ms: digits(await net.time()), threads: onThreads(net) });
}

/* drawing */

function clearPaper() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, paper.width, paper.height);
  $("hint").hidden = false;
}

function drawing() {
  let last = null;
  let waiting = false;
  const point = (event) => {
    const box = paper.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top].map((along) => (along * paper.width) / box.width);
  };
  const stroke = (to) => {
    $("hint").hidden = true;
    pen.strokeStyle = "#000";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = Number($("pen").value);
    pen.beginPath();
    pen.moveTo(...last);
    pen.lineTo(...to);
    pen.stroke();
    last = to;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      classify(paper);
    });
  };
  paper.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    paper.setPointerCapture(event.pointerId);
    last = point(event);
    stroke(last);
  });
  paper.addEventListener("pointermove", (event) => {
    if (!last) return;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const one of between.length ? between : [event]) stroke(point(one));
  });
  for (const end of ["pointerup", "pointercancel"]) paper.addEventListener(end, () => (last = null));
  // with the keyboard: arrows move the pen, space puts it down and lifts it
  let at = [paper.width / 2, paper.height / 2];
  let down = false;
  paper.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8], " ": [0, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    if (event.key === " ") down = !down;
    last = at;
    at = at.map((value, axis) => Math.min(paper.width, Math.max(0, value + step[axis])));
    if (down) stroke(at);
    last = null;
  });
}

/* where pictures come from */

function show(mode) {
  turn++;
  for (const name of ["paper", "photo", "video"]) $(name).hidden = name !== mode;
  const draws = mode === "paper";
  $("hint").hidden = !draws || source === paper;
  for (const [id, name] of [["draw", "paper"], ["camera", "video"]]) $(id).setAttribute("aria-pressed", mode === name);
  $("shoot").hidden = mode !== "video";
  $("clear").hidden = $("pen").parentElement.hidden = !draws;
  if (mode === "video") return;
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
}

function showPhoto(image) {
  const { width, height } = image;
  const canvas = $("photo");
  const scale = Math.min(1, 1024 / Math.max(width, height));
  [canvas.width, canvas.height] = [width, height].map((side) => Math.max(1, side * scale));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  show("photo");
}

async function take(file) {
  if (!file) return;
  const was = turn;
  await classify(file);
  if (!$("trouble").hidden) return;
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  // not over a paper, a camera or another picture that was asked for meanwhile
  if (bitmap && source === file && turn === was) showPhoto(bitmap);
}

async function camera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    $("video").srcObject = stream;
    await $("video").play();
    trouble(null);
    show("video");
  } catch (error) {
    // without https there is nothing to call, which is a TypeError
    const whys = { NotAllowedError: "cameraRefused", TypeError: "cameraHttps" };
    trouble({ message: say(whys[error.name] ?? "cameraNone") });
  }
}

async function shoot() {
  const video = $("video");
  const frame = Object.assign(make("canvas"), { width: video.videoWidth, height: video.videoHeight });
  frame.getContext("2d").drawImage(video, 0, 0);
  showPhoto(frame); // which ends the camera
  await classify(frame);
}

async function paste() {
  try {
    for (const item of await navigator.clipboard.read()) {
      const kind = item.types.find((type) => type.startsWith("image/"));
      if (kind) return take(await item.getType(kind));
    }
    trouble({ message: say("noPicture") });
  } catch {
    trouble({ message: say("pasteKeys") });
  }
}

function listen() {
  const clear = () => {
    clearPaper();
    asked++;
    source = null;
    none("start");
  };
  const acts = { draw: () => show("paper"), choose: () => $("file").click(), camera, shoot, paste, clear, verify };
  for (const [id, act] of Object.entries(acts)) $(id).onclick = act;
  $("file").onchange = () => take($("file").files[0]).then(() => ($("file").value = ""));
  $("paste").hidden = !navigator.clipboard?.read;
  $("invert").onchange = ({ target }) => source && classify(source, target.checked);
  addEventListener("paste", (event) => take([...(event.clipboardData?.files ?? [])][0]));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("over").hidden = false;
  });
  addEventListener("dragleave", (event) => event.relatedTarget || ($("over").hidden = true));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("over").hidden = true;
    const [file] = event.dataTransfer.files;
    if (file) take(file);
    else trouble({ message: say("noFile") });
  });
  addEventListener("hashchange", () => location.hash.startsWith("#verify") && net && verify());
}

/* the proof and the card */

async function verify() {
  const place = $("verdict");
  $("verify").disabled = true;
  place.className = "verdict";
  try {
    const progress = (done, images) => (place.textContent = say("proving", { done, images }));
    const found = await net.verify({ progress });
    place.classList.toggle("bad", found.agree < found.images);
    const where = `${machine(found)} · ${onThreads(found)} · ONNX Runtime Web ${found.onnxruntime_web}`;
    const told = say("verdict", { ...found, apart: digits(found.max_abs_diff), ms: digits(found.latency_ms) });
    place.replaceChildren(told, make("small", where));
    await report(found);
  } catch (error) {
    place.textContent = "";
    trouble(error);
    await report({ error: error.message });
  } finally {
    $("verify").disabled = false;
  }
}

function machine({ browser, cores }) {
  // Edge and Opera say that they are Chrome, too
  const [, word = "?", release = ""] = /(Firefox|Edg|OPR|Chrome|Version)\/([\d.]+)(?!.*(Edg|OPR)\/)/.exec(browser) ?? [];
  const name = { Edg: "Edge", OPR: "Opera", Version: "Safari" }[word] ?? word;
  const [, system = ""] = /\(([^;)]+(?:; [^;)]+)?)/.exec(browser) ?? [];
  return `${name} ${release} · ${system} · ${say("cores", { count: cores ?? "?" })}`;
}

/** `cnnkit verify` waits on this device for the record: its address carries a word that nobody else has. */
async function report(found) {
  const word = /^#verify=(\w+)$/.exec(location.hash)?.[1];
  if (word) await fetch(`record/${word}`, { method: "POST", body: JSON.stringify(found) }).catch(() => {});
}

function showCard() {
  const { passport, about } = net;
  const { metrics } = passport;
  const { size, resize, interpolation } = passport.preprocessing;
  const [low, high] = metrics.test_accuracy_ci95 ?? [];
  const interval = low == null ? "" : ` (95%: ${percent(low)} – ${percent(high)})`;
  const row = ([name, value]) => make("div", make("dt", words[name] ?? name), make("dd", value));
  const rows = Object.entries({
    model: passport.model,
    classes: passport.classes.join(", "),
    accuracy: metrics.test_accuracy == null ? "–"
      : say("accuracyOf", { share: percent(metrics.test_accuracy) + interval, images: metrics.test_images?.toLocaleString() ?? "–" }),
    data: passport.dataset?.name ?? "–",
    precision: about.why ? `${passport.precision} – ${about.why}` : passport.precision,
    input: [size.join(" × "), resize, interpolation].join(", "),
    runtime: `ONNX Runtime Web ${about.onnxruntime_web} (${net.provider === "webgpu" ? "WebGPU" : "WebAssembly, SIMD"}), ${about.tool}`,
    ...(net.gpuWhy && { WebGPU: net.gpuWhy }),
    unchanged: say(net.checked ? "hashesGood" : "hashesUnknown"),
    sha: passport.sha256,
  });
  $("card").replaceChildren(...rows.map(row));
}

/** Keep the folder on the device, or say why it is not kept. */
async function keep() {
  const tell = (name) => ($("kept").textContent = say(name));
  if (!navigator.serviceWorker) return tell(isSecureContext ? "notKeptPrivate" : "notKeptHttps");
  navigator.serviceWorker.addEventListener("message", ({ data }) => {
    if (data.notKept) tell(data.notKept === "QuotaExceededError" ? "notKeptFull" : "notKept");
  });
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    tell("kept");
    state.kept = "yes";
  } catch (error) {
    tell(error.name === "SecurityError" ? "notKeptPrivate" : "notKept");
  }
}

async function start() {
  translate();
  clearPaper();
  drawing();
  listen();
  try {
    net = await load(".", { threads: Number(/threads=(\d+)/.exec(location.search)?.[1]) });
  } catch (error) {
    none("nothing");
    trouble(error);
    state.state = "trouble";
    return report({ error: error.message });
  }
  showCard();
  $("verify").disabled = false;
  state.state = "ready";
  if (source) await classify(source);
  else none("start");
  if (location.hash.startsWith("#verify")) return verify();
  keep();
}

start();
