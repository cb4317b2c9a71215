// The page around the classifier: draw, choose, photograph, paste or drop a picture; see the answer.
import { ClassifierError, load } from "./classifier.js";
import { CHINESE, ENGLISH } from "./words.js";

const chinese = /^zh/i.test(navigator.language);
const words = chinese ? { ...ENGLISH, ...CHINESE } : ENGLISH;
const $ = (id) => document.getElementById(id);
const say = (name, values = {}) => words[name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
const percent = (share) => share.toLocaleString(navigator.language, { style: "percent", maximumFractionDigits: 1 });
const digits = (value) => {
  if (value === null) return "–";
  return value && value < 0.001 ? value.toExponential(1) : Number(value.toPrecision(2)).toString();
};

const paper = $("paper");
const pen = paper.getContext("2d", { willReadFrequently: true });
let net = null;
let source = null; // what was last classified
let stream = null;
let asked = 0;
let latency = null;

function translate() {
  document.documentElement.lang = chinese ? "zh" : "en";
  for (const place of document.querySelectorAll("[data-say]")) place.textContent = say(place.dataset.say);
  paper.setAttribute("aria-label", say("paper"));
  $("photo").setAttribute("aria-label", say("yours"));
  $("seen").setAttribute("aria-label", say("seen"));
}

/** Tell what went wrong in one sentence; an empty one takes the last away. */
function trouble(error) {
  const place = $("trouble");
  place.hidden = !error;
  if (!error) return;
  const known = error instanceof ClassifierError;
  place.textContent = (known && chinese && CHINESE.errors[error.code]?.(error.values)) || error.message;
  if (!known) console.error(error);
}

function none(name) {
  $("answer").className = "answer none";
  $("answer").textContent = say(name);
  $("bars").replaceChildren();
}

function showSeen(seen) {
  const canvas = $("seen");
  canvas.parentElement.hidden = false;
  canvas.width = seen.width;
  canvas.height = seen.height;
  const image = new ImageData(seen.width, seen.height);
  for (let i = 0; i < seen.width * seen.height; i++) {
    for (let c = 0; c < 3; c++) image.data[i * 4 + c] = seen.data[i * seen.channels + (seen.channels > 1 ? c : 0)];
    image.data[i * 4 + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  const size = `${seen.width} × ${seen.height}`;
  $("size").textContent = say(seen.channels > 1 ? "colours" : "greys", { size });
  $("invert").checked = seen.inverted;
}

function bar({ label, probability }) {
  const row = document.createElement("li");
  const [name, track, filled, share] = ["span", "i", "b", "span"].map((tag) => document.createElement(tag));
  name.textContent = label;
  filled.style.transform = `scaleX(${probability})`;
  track.append(filled);
  share.textContent = percent(probability);
  row.append(name, track, share);
  return row;
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
    if (latency === null) showSpeed();
  } catch (error) {
    if (mine === asked) {
      none("nothing");
      trouble(error);
    }
  }
}

async function showSpeed() {
  latency = 0;
  latency = await net.time();
  const threads = net.threads > 1 ? say("threads", { count: net.threads }) : say("thread");
  $("speed").textContent = say("speed", { ms: digits(latency), threads });
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
    return [((event.clientX - box.left) / box.width) * paper.width, ((event.clientY - box.top) / box.height) * paper.height];
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
    const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
    if (event.key === " ") down = !down;
    if (!step && event.key !== " ") return;
    event.preventDefault();
    last = at;
    at = at.map((value, axis) => Math.min(paper.width, Math.max(0, value + (step?.[axis] ?? 0))));
    if (down) stroke(at);
    last = null;
  });
}

/* where pictures come from */

function show(mode) {
  for (const [name, place] of [["draw", paper], ["photo", $("photo")], ["video", $("video")]]) place.hidden = name !== mode;
  $("hint").hidden = mode !== "draw" || source === paper;
  $("draw").setAttribute("aria-pressed", mode === "draw");
  $("camera").setAttribute("aria-pressed", mode === "video");
  $("shoot").hidden = mode !== "video";
  $("clear").hidden = $("pen").parentElement.hidden = mode !== "draw";
  if (mode !== "video") stream?.getTracks().forEach((track) => track.stop());
  if (mode !== "video") stream = null;
}

function showPhoto(drawable, width, height) {
  const canvas = $("photo");
  const scale = Math.min(1, 1024 / Math.max(width, height));
  canvas.width = Math.max(1, width * scale);
  canvas.height = Math.max(1, height * scale);
  canvas.getContext("2d").drawImage(drawable, 0, 0, canvas.width, canvas.height);
  show("photo");
}

async function take(file) {
  if (!file) return;
  await classify(file);
  if (!$("trouble").hidden) return;
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  if (bitmap) showPhoto(bitmap, bitmap.width, bitmap.height);
}

async function openCamera() {
  try {
    if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    $("video").srcObject = stream;
    await $("video").play();
    trouble(null);
    show("video");
  } catch (error) {
    const why = { NotAllowedError: "cameraRefused", SecurityError: "cameraHttps" }[error.name] ?? "cameraNone";
    trouble(new ClassifierError("camera", say(why)));
  }
}

async function shoot() {
  const video = $("video");
  const frame = document.createElement("canvas");
  [frame.width, frame.height] = [video.videoWidth, video.videoHeight];
  frame.getContext("2d").drawImage(video, 0, 0);
  showPhoto(frame, frame.width, frame.height); // which ends the camera
  await classify(frame);
}

async function paste() {
  try {
    for (const item of await navigator.clipboard.read()) {
      const kind = item.types.find((type) => type.startsWith("image/"));
      if (kind) return take(await item.getType(kind));
    }
    trouble(new ClassifierError("paste", say("noPicture")));
  } catch {
    trouble(new ClassifierError("paste", say("pasteKeys")));
  }
}

function listen() {
  $("draw").onclick = () => show("draw");
  $("choose").onclick = () => $("file").click();
  $("file").onchange = () => take($("file").files[0]).then(() => ($("file").value = ""));
  $("camera").onclick = openCamera;
  $("shoot").onclick = shoot;
  $("paste").onclick = paste;
  $("paste").hidden = !navigator.clipboard?.read;
  $("clear").onclick = () => {
    clearPaper();
    asked++;
    source = null;
    none("start");
  };
  $("invert").onchange = () => source && classify(source, $("invert").checked);
  $("verify").onclick = () => verify();
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
    else trouble(new ClassifierError("drop", say("noFile")));
  });
  addEventListener("hashchange", () => location.hash.startsWith("#verify") && net && verify());
}

/* the proof and the card */

async function verify() {
  const place = $("verdict");
  $("verify").disabled = true;
  place.className = "verdict";
  try {
    const progress = (done, images) => done % 8 || (place.textContent = say("proving", { done, images }));
    const found = await net.verify({ progress });
    const good = found.agree === found.images;
    place.classList.toggle("bad", !good);
    place.textContent = say("verdict", {
      agree: found.agree,
      images: found.images,
      apart: digits(found.max_abs_diff),
      ms: digits(found.latency_ms),
    });
    const small = document.createElement("small");
    const threads = found.threads > 1 ? say("threads", { count: found.threads }) : say("thread");
    small.textContent = `${machine(found)} · ${threads} · ONNX Runtime Web ${found.onnxruntime_web}`;
    place.append(small);
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
  const found = /(Firefox|Edg|OPR|Chrome|Version)\/([\d.]+)/.exec(browser.replace(/Chrome\/[\d.]+(?=.*(Edg|OPR)\/)/, ""));
  const name = { Edg: "Edge", OPR: "Opera", Version: "Safari" }[found?.[1]] ?? found?.[1] ?? "?";
  const system = /\(([^;)]+(?:; [^;)]+)?)/.exec(browser)?.[1] ?? "";
  return `${name} ${found?.[2] ?? ""} · ${system} · ${say("cores", { count: cores ?? "?" })}`;
}

/** `cnnkit verify` waits on this device for the record: its address carries a word that nobody else has. */
async function report(found) {
  const word = /^#verify=(\w+)$/.exec(location.hash)?.[1];
  if (word) await fetch(`record/${word}`, { method: "POST", body: JSON.stringify(found) }).catch(() => {});
}

function showCard() {
  const { passport, about } = net;
  const metrics = passport.metrics ?? {};
  const known = metrics.test_accuracy != null;
  const [low, high] = metrics.test_accuracy_ci95 ?? [];
  const interval = low != null ? ` (95 %: ${percent(low)} – ${percent(high)})` : "";
  const rows = {
    model: passport.model,
    classes: passport.classes.join(", "),
    accuracy: known ? say("accuracyOf", { share: percent(metrics.test_accuracy) + interval, images: metrics.test_images ?? "–" }) : "–",
    data: passport.dataset?.name ?? "–",
    precision: about.why ? `${passport.precision} – ${about.why}` : passport.precision,
    input: `${passport.preprocessing.size.join(" × ")}, ${passport.preprocessing.resize}, ${passport.preprocessing.interpolation}`,
    runtime: `ONNX Runtime Web ${about.onnxruntime_web} (WebAssembly, SIMD), ${about.tool}`,
    unchanged: say(net.checked ? "hashesGood" : "hashesUnknown"),
    sha: passport.sha256,
  };
  const entries = Object.entries(rows).map(([name, value]) => {
    const [row, term, text] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    term.textContent = say(name);
    text.textContent = value;
    row.append(term, text);
    return row;
  });
  $("card").replaceChildren(...entries);
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
    document.documentElement.dataset.kept = "yes";
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
    const threads = Number(/threads=(\d+)/.exec(location.search)?.[1]);
    net = await load(".", threads ? { threads } : {});
  } catch (error) {
    none("nothing");
    trouble(error);
    document.documentElement.dataset.state = "trouble";
    return report({ error: error.message });
  }
  showCard();
  $("verify").disabled = false;
  document.documentElement.dataset.state = "ready";
  if (source) await classify(source);
  else none("start");
  if (location.hash.startsWith("#verify")) return verify();
  keep();
}

start();
