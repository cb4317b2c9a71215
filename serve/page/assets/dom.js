// Elements by their names, text that stays text, and figures as people read them.

export const $ = (name) => document.getElementById(`ck-${name}`);

/** Return an element with text or other elements in it; no text is ever read as HTML. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Return text in parts, so that no line breaks within an option such as `--epochs`. */
export const unbroken = (text) =>
  text.split(/(--[\w-]+)/).map((part) => (part.startsWith("--") ? make("span", { class: "ck-word" }, part) : part));

export function say(name, text) {
  const element = $(name);
  element.textContent = text || "";
  if (element.matches(".ck-why, .ck-error, [data-optional]")) element.hidden = !text;
}

export const percent = (share) => `${(share * 100).toFixed(1)} %`;

export function milliseconds(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 0.1 ? `${(ms * 1000).toFixed(1)} µs` : ms < 10 ? `${ms.toFixed(2)} ms` : `${ms.toFixed(0)} ms`;
}

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  for (const unit of ["kB", "MB", "GB"]) {
    count /= 1000;
    if (count < 1000) return `${count < 10 ? count.toFixed(1) : count.toFixed(0)} ${unit}`;
  }
  return `${count.toFixed(0)} TB`;
}

/** Make a row of tabs work by mouse and arrow keys; `shown` hears of each change. */
export function tabs(names, shown = () => {}) {
  const select = (name, focus) => {
    for (const one of names) {
      const on = one === name;
      const tab = $(`tab-${one}`);
      tab.setAttribute("aria-selected", on);
      tab.tabIndex = on ? 0 : -1;
      $(one).hidden = !on;
      if (on && focus) tab.focus();
    }
    shown(name);
  };
  names.forEach((name, at) => {
    $(`tab-${name}`).addEventListener("click", () => select(name));
    $(`tab-${name}`).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const to = event.key === "Home" ? 0 : event.key === "End" ? names.length - 1 : step ? at + step : null;
      if (to === null) return;
      event.preventDefault();
      select(names[(to + names.length) % names.length], true);
    });
  });
  return select;
}

/** Return the bytes of base64 text. */
export const unpack = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
