const mostChanges = () => NARROW.matches ? 12 : 25;
const FEW_QUIET = 5;
// two runs: a bar for each module, to the left where it became faster, to the right where it became slower
function drawComparison(body) {
  const told = DATA.differences;
  if (!told?.row.length) return;
  const all = told.row.map((_, i) => Object.fromEntries(Object.entries(told).map(([name, values]) => [name, values[i]])));
  const backends = [...new Set(all.map((entry) => entry.backend))];
  const batches = [...new Set(all.map((entry) => entry.batch))];
  const changes = (key) => all.filter((entry) => entry.backend === key && entry.verdict !== "no change").length;
  const view = { backend: backends.reduce((a, b) => changes(b) > changes(a) ? b : a), batch: batches[0], unit: "ms", all: false, filter: "" };
  const place = el("div");
  const controls = el("div", { class: "controls" });
  if (backends.length > 1) controls.append(choice("Column compared", backends.map((key) => [key, key]), view.backend, (key) => { view.backend = key; draw(); }));
  if (batches.length > 1) controls.append(choice("Batch compared", batches.map((key) => [key, `batch ${key}`]), view.batch, (key) => { view.batch = key; draw(); }));
  controls.append(
    choice("Bars of", [["ms", "Milliseconds"], ["share", "Per cent"]], view.unit, (key) => { view.unit = key; draw(); }),
    el("label", { class: "grow" }, el("span", {}, "Filter"), el("input", { type: "search", oninput: (event) => { view.filter = event.target.value.toLowerCase(); draw(); } })));
  body.replaceChildren(controls, place);

  const delta = (entry) => (entry.after ?? 0) - (entry.before ?? 0);
  const size = (entry) => view.unit === "ms" ? delta(entry) : entry.change ?? Math.sign(delta(entry));
  const bounds = (entry) => {
    if (!known(entry.low)) return null;
    return view.unit === "ms" ? [entry.low * (entry.before ?? 0), entry.high * (entry.before ?? 0)] : [entry.low, entry.high];
  };
  const rank = { slower: 0, faster: 0, "only before": 1, "only after": 1, "no change": 3 };

  function draw() {
    const own = all.filter((entry) => entry.backend === view.backend && entry.batch === view.batch && (entry.whole || entry.row.toLowerCase().includes(view.filter)));
    const order = (entry) => entry.whole ? -1 : rank[entry.verdict] ?? 2;
    own.sort((a, b) => order(a) - order(b) || Math.abs(size(b)) - Math.abs(size(a)));
    // what changed stands first: as much of it as is read at once, and a few of the others beside it
    const quiet = own.filter((entry) => !entry.whole && entry.verdict === "no change");
    const lines = view.all ? own : own.slice(0, Math.min(mostChanges(), own.length - quiet.length + FEW_QUIET));
    // one row of half a second must not make all others invisible: the call as a whole has its own scale
    const rows = lines.filter((entry) => !entry.whole);
    const most = (list) => 1.1 * Math.max(...list.map((entry) => Math.abs(size(entry))), 1e-9);
    const scale = most(rows.length ? rows : lines);
    const text = (value) => view.unit === "ms" ? `${value > 0 ? "+" : value < 0 ? "−" : ""}${msText(Math.abs(value))} ms` : changeText(value);
    const bar = (entry) => {
      const reach = entry.whole ? most([entry]) : scale;
      const at = (value) => 50 + 50 * Math.max(-1, Math.min(1, value / reach));
      const value = size(entry), range = bounds(entry);
      const [from, to] = [Math.min(50, at(value)), Math.max(50, at(value))];
      const track = el("div", { class: "diverging" }, el("i", { class: "fill", style: `left:${from}%;width:${to - from}%` }));
      if (range) track.append(el("i", { class: "whisker", style: `left:${at(range[0])}%;width:${at(range[1]) - at(range[0])}%` }));
      return telling(track, `${entry.row}: ${msText(entry.before)} → ${msText(entry.after)} ms, ${changeText(entry.change)}${known(entry.low) ? ` (${changeText(entry.low)} … ${changeText(entry.high)})` : ""}; ${entry.said}`);
    };
    const mark = { slower: "▲ ", faster: "▼ " };
    const width = NARROW.matches ? 44 : Math.max(24, Math.floor((place.clientWidth || 600) / 24));
    const body = lines.map((entry) => el("tr", { class: `${entry.verdict.replaceAll(" ", "-")}${entry.whole ? " whole" : ""}` },
      el("th", { scope: "row" }, telling(el("span", {}, ...breakable(fitted(entry.row, width))), entry.row)),
      el("td", { class: "track" }, bar(entry)),
      el("td", { class: "n" }, changeText(entry.change)),
      el("td", { class: "n wide-only" }, msText(entry.before)),
      el("td", { class: "n wide-only" }, msText(entry.after)),
      el("td", { class: "words wide-only" }, `${mark[entry.verdict] ?? ""}${entry.said}`)));
    const axis = el("span", { class: "scale" }, ...[text(-scale), "0", text(scale)].map((one) => el("span", {}, NARROW.matches ? one.replace(" ms", "") : one)));
    const head = el("tr", {}, el("th", { scope: "col" }, "module"),
      el("th", { scope: "col", class: "track" }, el("span", { class: "sides" }, el("span", {}, "◀ faster"), el("span", {}, "slower ▶")), axis),
      el("th", { scope: "col", class: "n" }, "change"),
      ...["before ms", "after ms"].map((name) => el("th", { scope: "col", class: "n wide-only" }, name)),
      el("th", { scope: "col", class: "wide-only" }, "verdict"));
    const hidden = own.length - lines.length;
    const more = hidden || view.all ? el("button", { type: "button", class: "more", onclick: () => { view.all = !view.all; draw(); } }, view.all ? "Show fewer" : `Show ${hidden} more`) : null;
    place.replaceChildren(el("div", { class: "wide", role: "region", tabindex: "0", "aria-label": "modules compared" },
      el("table", { class: "changes" }, el("thead", {}, head), el("tbody", {}, ...body))), ...(more ? [more] : []));
  }
  drawing(draw);
  sized(place, draw);
}
