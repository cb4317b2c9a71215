"use strict";
// what every part of the page shares: the data, elements, figures as people read them, the column in focus
const DATA = JSON.parse(document.getElementById("data").textContent);
const UNKNOWN = "–";
const NARROW = matchMedia("(max-width: 44rem)");

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "rect", "circle", "text", "title"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const fixed = (value, places) => value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
const known = (value) => value !== null && value !== undefined;

function msText(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  return fixed(value, size < 1 ? 4 : size < 10 ? 3 : size < 100 ? 2 : 1);
}
function percentText(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  return fixed(100 * value, size > 0 && size < 0.095 ? 1 : 0) + "%";
}
const changeText = (value) => known(value) ? (value > 0 ? "+" : value < 0 ? "−" : "±") + fixed(Math.abs(100 * value), 1) + "%" : UNKNOWN;
function scaled(value, units, exact) {
  if (!known(value)) return UNKNOWN;
  if (Math.abs(value) < 1000) return fixed(value, 0) + exact;
  let place = -1;
  while (Math.abs(value) >= 1000 && place < units.length - 1) { value /= 1000; place += 1; }
  return fixed(value, units[place] === "GB" ? 2 : 1) + " " + units[place];
}
const bytesText = (value) => scaled(value, ["kB", "MB", "GB"], " B");
const countText = (value) => scaled(value, ["k", "M", "G"], "");
const sum = (values) => { const found = values.filter(known); return found.length ? found.reduce((a, b) => a + b, 0) : null; };

// a name in so many letters: its later modules become a number, then its middle goes
function cutMiddle(text, width) {
  if (text.length <= width) return text;
  const end = Math.floor((width - 1) * 3 / 4);
  return text.slice(0, width - 1 - end) + "…" + text.slice(text.length - end);
}
function fitted(text, width) {
  if (text.length <= width) return text;
  const [first, ...later] = text.split(" + ");
  return cutMiddle(later.length ? `${first} +${later.length}` : first, width);
}
// on a narrow screen a name may go on in the next line behind a dot or a slash
const breakable = (text) => !NARROW.matches ? [text] : text.split(/(?<=[./])/).flatMap((piece, place) => place ? [el("wbr"), piece] : [piece]);

// one bubble for whatever says more than fits: by mouse, by tap
const tip = document.getElementById("tip");
function tell(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const x = Math.min(event.clientX + 12, innerWidth - box.width - 8);
  const y = event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 18;
  tip.style.left = `${Math.max(8, x)}px`;
  tip.style.top = `${Math.max(8, y)}px`;
}
const hush = () => { tip.hidden = true; };
function telling(node, text) {
  node.addEventListener("pointermove", (event) => tell(event, text));
  node.addEventListener("click", (event) => tell(event, text));
  node.addEventListener("pointerleave", hush);
  return node;
}
addEventListener("scroll", hush, { passive: true });
addEventListener("keydown", (event) => event.key === "Escape" && hush());

// buttons of which one is pressed
function choice(label, options, value, change) {
  const group = el("div", { class: "choice", role: "group", "aria-label": label });
  for (const [key, text] of options) {
    group.append(el("button", {
      type: "button", "aria-pressed": String(key === value), onclick: (event) => {
        for (const other of group.children) other.setAttribute("aria-pressed", String(other === event.currentTarget));
        change(key);
      },
    }, text));
  }
  return group;
}

// the column and the batch that tables and charts are of, and who draws them anew
const fastest = (run) => run.columns.reduce((best, column) => {
  const whole = (one) => one.timed ? sum(one.ms) ?? Infinity : Infinity;
  return best === null || whole(column) < whole(best) ? column : best;
}, null);
const state = { batch: 0, focus: DATA.runs.length ? fastest(DATA.runs[0])?.key : null, drawers: [] };
const focused = (run) => run.columns.find((column) => column.key === state.focus) ?? run.columns[0];
const colours = new Map();
function colourOf(run, type) {
  if (!colours.has(run)) {
    const totals = new Map();
    run.type.forEach((name, i) => totals.set(name, (totals.get(name) ?? 0) + (sum(run.columns.map((c) => c.share[i])) ?? 0)));
    colours.set(run, new Map([...totals].sort((a, b) => b[1] - a[1]).map(([name], place) => [name, Math.min(place, 7)])));
  }
  return colours.get(run).get(type) ?? 7;
}
function redraw() { for (const draw of state.drawers) draw(); }
function drawing(draw) { state.drawers.push(draw); draw(); }

// draws a chart anew whenever its place gets another width
function sized(place, draw) {
  let last = 0;
  new ResizeObserver(() => {
    const width = Math.floor(place.clientWidth);
    if (width && width !== last) { last = width; draw(width); }
  }).observe(place);
  return () => last && draw(last);
}
