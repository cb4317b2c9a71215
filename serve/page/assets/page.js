// The page: one picture, one truth. Whatever is shown belongs to the picture, model and switches of now.
//
// `state.epoch` changes with the picture's source, the model and every switch: what was shown is cleared, and
// answers that come late are thrown away. `state.turn` changes with each line that is drawn, too: what is shown
// is then replaced as soon as the next answer is there, and dimmed until the newest is. `state.strokes` changes with
// each line, too, and with each picture from elsewhere: the drawing that was being packed then is none to show.

import { ask, newest } from "./asking.js";
import { $, bytes, make, milliseconds, percent, say, tabs, unbroken } from "./dom.js";
import { Files } from "./files.js";
import { Paper } from "./paper.js";
import { Camera, wireFiles } from "./sources.js";
import { describe, paint, paintHeat, Work } from "./work.js";

const NOTHING_YET = "Draw something, or pick one of the pictures above.";
// a drawing is brought to lie as in training unless that is switched off; a picture from elsewhere goes as it is,
// as in the API and in `cnnkit predict`
const centre = { paper: true, elsewhere: false };
const state = { epoch: 0, turn: 0, facts: null, model: null, picture: null, picked: null, layer: null, page: 0, strokes: 0, failing: false };
let paper, camera, files, work, selectSource, askers;

function query(more = {}) {
  const ours = state.picture?.ours ? 1 : null;
  return { model: state.model.name, invert: $("invert").value, ours,
    centre: state.picture && centre[kindOf(state.picture.from)] && !$("centre").disabled ? 1 : null, ...more };
}

/* ---- what is shown ---- */

const PANELS = ["result", "layers", "large", "engines"];

function clearShown(text = "") {
  $("answer").textContent = text;
  $("answer").classList.toggle("ck-none", Boolean(text));
  for (const name of ["bars", "layers"]) $(name).replaceChildren();
  for (const name of ["truth", "seen-note", "heat-note", "work-note", "said"]) say(name, "");
  for (const name of ["seen", "heat", "large"]) $(name).hidden = true;
  say("bar-label", "");
  say("bar-share", "");
  $("input").removeAttribute("src");
  work.clear();
  forgetTimes();
  showEngines([]);
  for (const name of PANELS) freshen(name);
}

const freshen = (name, turn = state.turn) => turn === state.turn && delete $(name).dataset.stale;
const stale = () => PANELS.forEach((name) => ($(name).dataset.stale = ""));

function showAnswer(told, turn) {
  calm();
  if (told.nothing) return clearShown(told.nothing);
  const [first] = told.answers;
  if (first.why_not) return fail(new Error(first.why_not));
  const [label, share] = first.top[0];
  $("answer").classList.remove("ck-none");
  $("answer").textContent = label;
  $("bars").replaceChildren(...first.top.map(([name, value]) => make("li", {}, make("span", {}, name),
    make("i", { "aria-hidden": "true" }, make("b", { style: `width:${value * 100}%` })), make("span", {}, percent(value)))));
  const truth = state.picture?.truth;
  say("truth", truth === undefined ? "" : truth === label ? `Right: its label says ${truth}.` : `Wrong: its label says ${truth}.`);
  showSeen(told, first);
  showEngines(told.answers);
  for (const name of ["result", "engines"]) freshen(name, turn);
  say("bar-label", label);
  say("bar-share", percent(share));
  announce(`${told.model} says ${label}, ${percent(share)}`);
  if (told.served !== state.facts.served) again();
  return undefined;
}

function showSeen(told, first) {
  const { seen } = told;
  $("seen").hidden = false;
  $("input").src = seen.png;
  $("input").alt = `The picture as ${told.model} saw it, after scaling to ${seen.height}×${seen.width}`;
  $("save").href = seen.png;
  say("seen-title", `What ${told.model} saw, ${seen.height}×${seen.width}`);
  const engine = state.model.engines.find((one) => one.id === first.engine);
  const done = [];
  if (seen.enlarged) done.push(seen.enlarged > 1.03 ? `enlarged ${seen.enlarged.toFixed(1)} times` : seen.enlarged < 0.97 ? `made ${(1 / seen.enlarged).toFixed(1)} times smaller` : "", seen.moved ? "moved to the middle" : "");
  done.push(seen.inverted ? "inverted" : "not inverted");
  say("seen-note", `${capital(done.filter(Boolean).join(", "))}. ${engine.title} ${engine.precision}: decoded in ` +
    `${milliseconds(first.decode_ms)}, prepared in ${milliseconds(first.preprocess_ms)}, answered in ${milliseconds(first.infer_ms)}.`);
}

const exponent = (value) => (value === 0 ? "0" : value.toExponential(1));
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function showEngines(answers) {
  const rows = state.model.engines.map((engine) => {
    const said = answers.find((one) => one.engine === engine.id);
    const name = make("div", {}, `${engine.title} ${engine.precision}`, engine.serves ? make("span", { class: "ck-badge" }, "serves") : null,
      make("small", {}, `${engine.file}, ${bytes(engine.bytes)}`));
    if (said?.why_not) return make("div", { class: "ck-engine" }, name, make("div", { class: "ck-wide" }, said.why_not));
    const top = said?.top?.[0];
    const difference = said && said.difference !== null ? exponent(said.difference) : said ? "–" : "";
    return make("div", { class: "ck-engine" }, name, make("div", {}, top ? top[0] : ""),
      make("div", { class: "ck-num" }, top ? percent(top[1]) : ""),
      make("div", { class: "ck-num", "data-what": difference ? "difference" : null }, difference),
      make("div", { class: "ck-num" }, said ? milliseconds(said.infer_ms) : ""));
  });
  const head = make("div", { class: "ck-engine ck-headrow" }, ...["Runtime and precision", "Answer", "Probability", "Largest difference", $("compare").checked ? "Median time" : "Time"]
    .map((text, at) => make("div", { class: at > 1 ? "ck-num" : null }, text)));
  $("engines").replaceChildren(head, ...rows);
}

function showInside(told, turn) {
  freshen("layers", turn);
  if (told.nothing) return work.clear();
  work.show(told.layers);
  work.expand(state.layer);
  say("work-note", `What each layer of ${told.model} makes of this picture (${told.file}): each channel is a tile, ` +
    "bright is strong, grey-blue is below zero.");
  return undefined;
}

function showHeat(told) {
  $("heat").hidden = !told.heat;
  if (told.heat) paintHeat($("heat"), told);
  say("heat-note", told.said);
}

function showLarge(layer, turn) {
  freshen("large", turn);
  $("large").hidden = false;
  say("large-title", `${layer.name} (${layer.type})`);
  say("large-note", `${capital(describe(layer))}.`);
  const vector = layer.height * layer.width === 1;
  const room = Math.max(260, $("layers").clientWidth);
  const scale = vector ? 14 : Math.max(1, Math.min(8, Math.floor(96 / layer.width)));
  const columns = Math.max(1, Math.min(layer.shown, Math.floor(room / ((vector ? 1 : layer.width) * scale + 3))));
  paint($("large-canvas"), layer, { columns, scale, gap: 3 });
  $("large-canvas").setAttribute("aria-label", `Every channel of ${layer.name}`);
  work.expand(layer.name);
}

let announcing;
function announce(text) {
  clearTimeout(announcing);
  announcing = setTimeout(() => say("said", text), 600);
}

/* ---- what goes wrong ---- */

function fail(error) {
  clearTimeout(announcing);
  clearShown();
  say("error", error.message);
  state.failing = true;
  if (error.again) {
    const { epoch } = state;
    setTimeout(() => epoch === state.epoch && state.failing && retry(), error.again);
  }
}

function calm() {
  if (state.failing) say("error", "");
  state.failing = false;
}

/** After the server was away: it may serve other files now. */
async function retry() {
  try {
    await learn();
  } catch (error) {
    return fail(error);
  }
  calm();
  return changed();
}

/* ---- what changes ---- */

/** The picture's source, the model or a switch changed: nothing that is shown counts any more. */
function changed() {
  state.epoch++;
  state.turn++;
  calm();
  say("error", "");
  clearShown(state.picture ? "" : NOTHING_YET);
  return poke();
}

/** The drawing or the camera's picture goes on. */
function moved() {
  state.turn++;
  stale();
  return poke();
}

const poke = () => Promise.all(Object.values(askers).map((one) => one()));

function setPicture(picture, goesOn = false) {
  // a test picture says nothing of why another source gave none, and the one on arrival comes by itself
  if (picture?.from !== "example") say("source-why", "");
  if (picture && picture.from !== "example") showCentre(picture.from);
  const same = goesOn && state.picture?.from === picture?.from;
  state.picked = null;
  state.picture = picture;
  pressExample(picture?.index);
  return same && !state.failing ? moved() : changed();
}

async function drawn(isEmpty) {
  const strokes = ++state.strokes;
  if (isEmpty) return setPicture(null);
  // the answer that stands is of the picture before, also while the new one is being packed
  if (state.picture) {
    state.turn++;
    stale();
  }
  const blob = await paper.picture();
  // a stroke that went on meanwhile brings a newer picture; a picture that was picked or taken meanwhile is newer
  if (strokes === state.strokes) return setPicture({ blob, from: "paper" }, true);
  return undefined;
}

function take(blob, name, goesOn = false) {
  state.strokes++;
  if (blob.size > state.facts.max_bytes) {
    state.picture = state.picked = null;
    changed();
    return say("error", `${name} is over the limit of ${state.facts.max_bytes.toLocaleString("en")} bytes; scale it down first.`);
  }
  if (name !== "the camera") {
    selectSource("upload");
    showPhoto(blob, name);
  }
  return setPicture({ blob, from: name }, goesOn);
}

const kindOf = (from) => (from === "paper" ? "paper" : "elsewhere");

function showCentre(from) {
  $("centre").dataset.kind = kindOf(from);
  $("centre").checked = centre[kindOf(from)];
}

function showPhoto(blob, name) {
  const photo = $("photo");
  URL.revokeObjectURL(photo.src);
  photo.hidden = false;
  photo.src = URL.createObjectURL(blob);
  photo.onerror = () => (photo.hidden = true); // some kinds only the server can read
  $("photo-note").textContent = `${name}. Drop, paste or choose another one:`;
}

/* ---- examples ---- */

async function pick(example) {
  camera.stop(); // its next frame would take the example's place
  state.strokes++;
  state.picture = null;
  state.picked = example;
  state.epoch++;
  clearShown();
  pressExample(example.index);
  try {
    const reply = await fetch(exampleUrl(example));
    if (!reply.ok) throw new Error("This test picture is not there any more.");
    const blob = await reply.blob();
    // whatever else changed meanwhile, unless another picture came
    if (state.picked === example) setPicture({ blob, from: "example", ours: true, truth: example.label, index: example.index });
  } catch (error) {
    if (state.picked !== example) return;
    const gone = error instanceof TypeError;
    fail(gone ? Object.assign(new Error("The server does not answer. The page goes on by itself when it is back."), { again: 1500 }) : error);
  }
}

const exampleUrl = ({ index }) => `page/example?${new URLSearchParams({ model: state.model.name, index })}`;

function showExamples() {
  const { model } = state;
  const first = new Set(model.examples.map(({ label }) => label)).size;
  const pages = first ? Math.ceil(model.examples.length / first) : 0;
  const from = (state.page % (pages || 1)) * first;
  const shown = model.examples.slice(from, from + Math.min(first, 40));
  const known = new Set(model.examples.map(({ label }) => label));
  const bare = model.classes.filter((name) => !known.has(name));
  const button = (example) => make("button", { type: "button", "aria-pressed": "false", "data-index": example.index, onclick: () => { say("source-why", ""); pick(example); } },
    make("img", { src: exampleUrl(example), alt: "", loading: "lazy", width: 56, height: 56 }), make("span", {}, example.label));
  $("examples").replaceChildren(...shown.map(button));
  $("examples").hidden = !shown.length;
  $("more").hidden = pages < 2;
  const few = bare.length > 60 ? [...bare.slice(0, 60), `and ${bare.length - 60} more`] : bare;
  say("examples-note", model.examples.length
    ? `${model.classes.length} classes. Pick one: the network never saw these pictures in training (${model.examples_from}).` + (bare.length ? ` Also ${few.join(", ")}.` : "")
    : `${few.join(", ")}. ${capital(model.examples_from)}.`);
  pressExample(state.picture?.index);
}

function pressExample(index) {
  for (const one of $("examples").children) one.setAttribute("aria-pressed", Number(one.dataset.index) === index);
}

/* ---- models ---- */

/** Learn what is served and return whether that is new; the model that is shown stays, where it is still there. */
async function learn() {
  const told = await ask("about");
  const isNew = told.served !== state.facts?.served;
  const differs = JSON.stringify(told) !== JSON.stringify(state.facts);
  state.facts = told;
  if (isNew) state.layer = null;
  // a button that is made anew between press and release loses its click, a text its selection
  if (!differs) return isNew;
  const name = state.model?.name;
  $("model").replaceChildren(...state.facts.models.map((model) => make("option", { value: model.name }, model.name)));
  $("models").hidden = state.facts.models.length < 2;
  useModel(state.facts.models.find((model) => model.name === name) || state.facts.models[0]);
  return isNew;
}

function useModel(model) {
  if (model.name !== state.model?.name) state.layer = state.picked = null;
  state.model = { ...model, maxBytes: state.facts.max_bytes };
  $("model").value = model.name;
  document.title = `${model.name} · cnnkit`;
  say("name", model.name);
  say("line", `${model.takes} · ${model.summary}`);
  showExamples();
  const centre = $("centre");
  centre.disabled = Boolean(model.figure_why);
  say("centre-why", model.figure_why ? `Small drawings are not centred: ${model.figure_why}.` : "");
  $("centre-why").hidden = !model.figure_why;
  $("invert").parentElement.hidden = model.colours;
  $("heat-on").disabled = Boolean(model.heat_why);
  if (model.heat_why) $("heat-on").checked = false;
  $("measure").hidden = false;
  say("choice", model.choice);
  $("choice").hidden = !model.choice;
  $("absent").replaceChildren(...model.absent.map((text) => make("li", {}, text)));
  $("facts").replaceChildren(...model.card.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, make("code", {}, ...unbroken(value))))));
  if (!$("profile").hidden) showReport();
}

function forgetTimes() {
  work.timed(null);
  say("times-note", "");
}

/** Look whether other files are served by now: what is shown is of those that were. */
async function again() {
  try {
    if (await learn()) await changed();
  } catch (error) {
    fail(error);
  }
}

const showReport = () => ($("report").src = `page/report?${new URLSearchParams({ model: state.model.name })}`);

async function measure() {
  const { epoch, model, picture } = state;
  if (!picture) return say("times-note", NOTHING_YET);
  const serving = model.engines.find((engine) => engine.serves);
  $("measure").disabled = true;
  say("times-note", `Measuring ${serving.title} ${serving.precision} …`);
  try {
    const told = await ask("times", query({ engine: serving.id }), picture.blob);
    if (state.epoch !== epoch) return undefined;
    work.timed(told);
    const moving = told.steps.filter((step) => !step.layers.length).reduce((sum, step) => sum + step.ms, 0);
    say("times-note", `${serving.title} ${serving.precision} under its own profiler, which slows it down: medians of ${told.runs} runs on ` +
      `this picture; moving data between layers ${milliseconds(moving)}. "With" marks what the runtime computes in one step.`);
  } catch (error) {
    if (state.epoch === epoch) say("times-note", error.message);
  } finally {
    $("measure").disabled = false;
  }
  return undefined;
}

/* ---- wiring ---- */

function makeAskers() {
  const engines = () => ($("compare").checked ? state.model.engines.map((engine) => engine.id) : null);
  const blob = () => state.picture?.blob ?? null;
  const quietly = (name) => (error) => (error.again ? fail(error) : say(name, error.message));
  return {
    answer: newest(state, () => blob() && ask("answer", query({ engine: engines() }), blob()), showAnswer, fail),
    inside: newest(state, () => blob() && !state.model.inside_why ? ask("inside", query(), blob()) : null, showInside,
      (error) => { work.clear(); quietly("work-note")(error); }),
    heat: newest(state, () => blob() && $("heat-on").checked ? ask("heat", query(), blob()) : null, showHeat,
      (error) => { $("heat").hidden = true; quietly("heat-note")(error); }, () => $("heat-on").checked),
    large: newest(state, () => blob() && state.layer ? ask("layer", query({ layer: state.layer }), blob()) : null, showLarge,
      (error) => { $("large").hidden = true; quietly("work-note")(error); }, () => state.layer),
  };
}

/** Look closer at a layer, at none for null: what was opened last may be of another picture, and waits unseen. */
function look(name) {
  state.layer = name;
  work.expand(name);
  if (name === null) $("large").hidden = true;
  $("large").dataset.stale = "";
  return askers.large();
}

function wire() {
  work = new Work((name) => look(state.layer === name ? null : name));
  askers = makeAskers();
  paper = new Paper(drawn);
  camera = new Camera(take);
  files = new Files(() => query({ ours: null, centre: null }), () => state.model);
  wireFiles(take, (many) => files.take(many));
  tabs(["try", "files", "profile", "card"], (name) => {
    if (name === "profile") showReport();
    if (name === "card" || name === "profile") again();
    if (name !== "try") camera.stop();
  });
  selectSource = tabs(["draw", "upload", "camera"], (name) => {
    say("source-why", "");
    showCentre(name === "draw" ? "paper" : name);
    if (name !== "camera") camera.stop();
  });
  $("invert").addEventListener("change", changed);
  $("centre").addEventListener("change", () => {
    centre[$("centre").dataset.kind || "paper"] = $("centre").checked;
    changed();
  });
  $("compare").addEventListener("change", () => { showEngines([]); changed(); });
  $("heat-on").addEventListener("change", () => {
    if (!$("heat-on").checked) { $("heat").hidden = true; say("heat-note", ""); }
    askers.heat();
  });
  $("model").addEventListener("change", (event) => {
    state.page = 0;
    files.clear();
    useModel(state.facts.models.find((model) => model.name === event.target.value));
    // a test picture of another model's data says nothing of this one
    if (state.picture?.ours && state.model.examples.length) return pick(arrival(state.model));
    return changed();
  });
  $("more").addEventListener("click", () => { state.page++; showExamples(); });
  $("measure").addEventListener("click", measure);
  $("large-close").addEventListener("click", () => look(null));
  const theme = $("theme");
  const name = () => (theme.textContent = document.body.classList.contains("dark") ? "Light colours" : "Dark colours");
  theme.addEventListener("click", () => { document.body.classList.toggle("dark"); name(); });
  name();
}

/** On a phone the answer stays in sight while one draws above it. */
function keepInSight() {
  const hidden = (entries) => ($("bar").hidden = entries[0].isIntersecting || $("try").hidden || entries[0].boundingClientRect.top < 0);
  new IntersectionObserver(hidden, { threshold: 0.15 }).observe($("result"));
}

/** The example that is answered on arrival: the last class's, so that it differs from what people try first. */
const arrival = (model) => model.examples.findLast((example, at) => at < new Set(model.examples.map(({ label }) => label)).size) || model.examples[0];

async function arrive() {
  try {
    await learn();
  } catch (error) {
    say("error", error.message);
    if (error.again) setTimeout(arrive, error.again);
    return;
  }
  say("error", "");
  document.getElementById("cnnkit").dataset.state = "ready";
  if (state.model.inside_why) say("work-note", `${capital(state.model.inside_why)}.`);
  if (state.model.heat_why) say("heat-note", `${capital(state.model.heat_why)}.`);
  if (state.model.examples.length && !state.picture) await pick(arrival(state.model));
  else clearShown(NOTHING_YET);
}

/** Gradio draws the frame when it likes; the page begins as soon as its markup is there. */
function begin() {
  if (!document.getElementById("cnnkit") || begin.done) return;
  begin.done = true;
  waiting.disconnect();
  wire();
  keepInSight();
  arrive();
}
const waiting = new MutationObserver(begin);
waiting.observe(document, { childList: true, subtree: true });
begin();
