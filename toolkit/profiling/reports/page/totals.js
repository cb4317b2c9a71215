// where the time goes: a bar a column, in parts by type or stage, and the parts as a table
function drawTotals(run, body) {
  const timed = run.columns.filter((column) => column.timed);
  if (!timed.length) return;
  let by = "type";
  const place = el("div");
  const controls = el("div", { class: "controls" },
    choice("Totals", [["type", "By layer type"], ["stage", "By stage of the network"]], by, (key) => { by = key; draw(); }));
  body.replaceChildren(controls, place);

  function groups() {
    const found = new Map();
    run[by].forEach((name, i) => {
      if (!found.has(name)) found.set(name, []);
      found.get(name).push(i);
    });
    const cost = (rows) => sum(timed.map((c) => sum(rows.map((i) => c.share[i])))) ?? 0;
    const list = [...found].map(([name, rows]) => ({ name, rows, cost: cost(rows) }));
    if (by === "stage") return list;
    list.sort((a, b) => b.cost - a.cost);
    if (list.length <= 8) return list;
    const small = list.slice(7);
    return [...list.slice(0, 7), { name: `${small.length} other types`, rows: small.flatMap((one) => one.rows) }];
  }

  function draw() {
    const parts = groups();
    const wholes = timed.map((column) => sum(column.ms) ?? 0);
    const most = Math.max(...wholes, 1e-12);
    const colour = (index) => `c${index % 8}`;
    const bars = el("div", { class: "stacks" });
    timed.forEach((column, which) => {
      const stack = el("div", { class: "stack", style: `width:${100 * wholes[which] / most}%` });
      parts.forEach((part, index) => {
        const ms = sum(part.rows.map((i) => column.ms[i]));
        if (!ms) return;
        const segment = el("i", { class: colour(index), style: `flex-grow:${ms / wholes[which]}` });
        stack.append(telling(segment, `${part.name}: ${msText(ms)} ms, ${percentText(ms / wholes[which])} of ${column.key}`));
      });
      bars.append(el("div", { class: "line" }, el("div", { class: "of" }, column.key), el("div", { class: "track" }, stack), el("div", { class: "n" }, `${msText(wholes[which])} ms`)));
    });
    const head = el("tr", {}, el("th", { scope: "col" }, by === "type" ? "layer type" : "stage"), el("th", { scope: "col", class: "n" }, "rows"));
    for (const column of timed) head.append(el("th", { scope: "col", class: "n" }, `${column.key} ms`), el("th", { scope: "col", class: "n" }, "%"));
    const rows = parts.map((part, index) => {
      const row = el("tr", {}, el("th", { scope: "row" }, el("i", { class: `swatch ${colour(index)}` }), part.name), el("td", { class: "n" }, String(part.rows.length)));
      for (const column of timed) {
        row.append(el("td", { class: "n" }, msText(sum(part.rows.map((i) => column.ms[i])))), el("td", { class: "n soft" }, percentText(sum(part.rows.map((i) => column.share[i])))));
      }
      return row;
    });
    const table = el("table", { class: "totals" }, el("thead", {}, head), el("tbody", {}, ...rows));
    bars.setAttribute("aria-hidden", "true"); // the table says the same
    place.replaceChildren(bars, el("div", { class: "wide", role: "region", tabindex: "0", "aria-label": `totals by ${by}, batch ${run.batch}` }, table));
  }
  draw();
}
