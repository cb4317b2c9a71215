// Many pictures: asked one after the other, shown as a table, filtered, ordered, saved as CSV in the browser.

import { ask, AskError } from "./asking.js";
import { $, make, percent, say } from "./dom.js";

const HEADER = ["file", "label", "probability", "second", "second probability", "inverted", "trouble"];
// what a spreadsheet takes for the beginning of a formula
const FORMULA = /^[=+\-@\t\r\n]/;
// rows that a table can show and a phone can bear; the CSV holds all
const SHOWN = 400;
const WAIT_MS = 60_000;

function cell(value) {
  let text = value === null || value === undefined ? "" : String(value);
  if (typeof value === "string" && FORMULA.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csvOf(rows) {
  const lines = rows.map((row) => [row.file, row.label, row.probability, row.second, row.secondProbability,
    row.trouble ? "" : row.inverted ? "yes" : "no", row.trouble]);
  return [HEADER, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

export class Files {
  /** `query()` says which model and how; `model()` is what the page knows of it. */
  constructor(query, model) {
    this.query = query;
    this.model = model;
    this.rows = [];
    this.turn = 0;
    for (const name of ["class", "most", "order"]) $(`many-${name}`).addEventListener("input", () => this.show());
    $("csv").addEventListener("click", () => this.save());
    $("many-stop").addEventListener("click", () => this.stop("Stopped. "));
  }

  clear() {
    this.stop();
    this.rows = [];
    $("many-tools").hidden = $("many-table").hidden = true;
    say("many-note", "They go to this server one by one, and none of them is kept.");
  }

  stop(said) {
    this.turn++;
    $("many-stop").hidden = true;
    if (said) say("many-note", said + this.counted());
  }

  async take(files) {
    if (!files.length) return;
    this.clear();
    const turn = ++this.turn;
    const query = this.query();
    $("many-stop").hidden = false;
    this.classes();
    for (const file of files) {
      const row = await this.one(file, query, turn);
      if (turn !== this.turn) return;
      this.rows.push(row);
      say("many-note", `${this.rows.length} of ${files.length} …`);
      if (this.rows.length % 20 === 0) this.show();
    }
    this.show();
    this.stop(" ");
  }

  async one(file, query, turn) {
    const row = { file: file.name, thumbnail: null, label: "", probability: null, second: "", secondProbability: null };
    const end = Date.now() + WAIT_MS;
    for (;;) {
      try {
        const most = this.model().maxBytes;
        if (file.size > most) throw new AskError(`${file.name} is over the limit of ${most.toLocaleString("en")} bytes`);
        const told = await ask("answer", { ...query, thumbnail: 1 }, file);
        if (told.nothing) return { ...row, trouble: told.nothing };
        const [[label, probability], second] = told.answers[0].top;
        return { ...row, thumbnail: told.thumbnail, label, probability: round(probability), second: second?.[0] || "",
          secondProbability: second ? round(second[1]) : null, inverted: told.seen.inverted, trouble: "" };
      } catch (error) {
        if (error.again && Date.now() < end && turn === this.turn) {
          say("many-note", error.message);
          await new Promise((resolve) => setTimeout(resolve, error.again));
          continue;
        }
        return { ...row, trouble: error.message };
      }
    }
  }

  counted() {
    const bad = this.rows.filter((row) => row.trouble).length;
    const good = this.rows.length - bad;
    return `${good} picture${good === 1 ? "" : "s"} labelled by ${this.query().model}` +
      (bad ? `, ${bad} could not be answered` : "");
  }

  classes() {
    const options = this.model().classes.map((name) => make("option", { value: name }, name));
    $("many-class").replaceChildren(make("option", { value: "" }, "all"), ...options,
      make("option", { value: "\0trouble" }, "not answered"));
  }

  picked() {
    const wanted = $("many-class").value;
    const most = Number($("many-most").value || 100) / 100;
    const rows = this.rows.filter((row) => {
      if (wanted === "\0trouble") return row.trouble;
      return (!wanted || row.label === wanted) && (row.trouble ? most >= 1 && !wanted : row.probability <= most);
    });
    const order = $("many-order").value;
    if (order === "name") return rows.sort((a, b) => a.file.localeCompare(b.file));
    const sign = order === "sure" ? -1 : 1;
    // what could not be answered is the least sure of all
    return rows.sort((a, b) => sign * ((a.trouble ? -1 : a.probability) - (b.trouble ? -1 : b.probability)));
  }

  show() {
    const rows = this.picked();
    const body = rows.slice(0, SHOWN).map((row) => make("tr", {},
      make("td", {}, row.thumbnail ? make("img", { src: row.thumbnail, alt: "", loading: "lazy" }) : "–"),
      make("td", {}, row.file),
      make("td", {}, row.trouble || row.label),
      make("td", { class: "ck-num" }, row.trouble ? "–" : percent(row.probability)),
      make("td", {}, row.second || "–"),
      make("td", { class: "ck-num" }, row.secondProbability === null ? "–" : percent(row.secondProbability))));
    const head = ["", "File", "Label", "Confidence", "Second", "Confidence"].map((text, at) =>
      make("th", { scope: "col", class: at === 3 || at === 5 ? "ck-num" : null }, text || make("span", { class: "ck-hidden" }, "Picture")));
    const more = rows.length > SHOWN
      ? [make("caption", {}, `${SHOWN} of ${rows.length} rows are shown; the CSV holds all of them`)] : [];
    $("many-table").replaceChildren(make("table", {}, ...more, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
    $("many-tools").hidden = $("many-table").hidden = this.rows.length === 0;
  }

  save() {
    URL.revokeObjectURL($("csv").href);
    $("csv").href = URL.createObjectURL(new Blob([csvOf(this.picked())], { type: "text/csv" }));
  }
}

const round = (share) => Math.round(share * 10_000) / 10_000;
