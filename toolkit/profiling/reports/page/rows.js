// every row: the costliest, or the module tree; filtered, sorted, with the columns that were chosen
const TOPS = [10, 20, 50, 100];

function fieldsOf(run) {
  const fields = [
    { id: "type", name: "type", words: true, of: (i) => run.type[i], wide: true },
    { id: "shape", name: "output", words: true, of: (i) => run.shape[i], wide: true },
    { id: "macs", name: "MACs", of: (i) => run.macs[i], text: countText, wide: true, adds: true },
    { id: "parameters", name: "parameters", of: (i) => run.parameters[i], text: countText, adds: true },
  ];
  for (const column of run.columns) {
    const own = (id, name, list, text, more = {}) => fields.push({
      id: `${column.key} ${id}`, key: column.key, name: `${column.key} ${name}`, of: (i) => list[i], text, ...more,
    });
    if (column.timed) {
      own("ms", "ms", column.ms, msText, { adds: true, bar: true, shown: true, column });
      own("share", "%", column.share, percentText, { adds: true, focus: true });
    } else {
      own("dtype", "dtype", column.dtype, null, { words: true, shown: true });
    }
    own("activations", "activations", column.activations, bytesText, { adds: true, focus: true, wide: true });
    own("weights", "weights", column.weights, bytesText, { adds: true });
    own("gflops", "GFLOP/s", column.gflops, (v) => known(v) ? fixed(v, 1) : UNKNOWN);
    own("gbytes", "GB/s", column.gbytes, (v) => known(v) ? fixed(v, 1) : UNKNOWN);
    own("attainable", "of attainable", column.attainable, percentText);
    own("bound", "bound", column.bound, null, { words: true });
    own("match", "match", column.match, null, { words: true });
  }
  return fields;
}

function treeOf(run, rows) {
  const root = { path: "", label: "", children: new Map(), rows: [] };
  for (const i of rows) {
    let node = root;
    const parts = run.home[i].split(/[./]+/).filter(Boolean);
    // a row is a leaf below the modules that hold its first one
    for (const part of parts.slice(0, -1)) {
      const path = node.path ? `${node.path}.${part}` : part;
      if (!node.children.has(part)) node.children.set(part, { path, label: part, children: new Map(), rows: [] });
      node = node.children.get(part);
    }
    node.children.set(`\n${i}`, { leaf: i });
  }
  const gather = (node) => {
    if (known(node.leaf)) return [node.leaf];
    node.rows = [...node.children.values()].flatMap(gather);
    return node.rows;
  };
  gather(root);
  // what holds one thing only is one line with it
  const joined = (node) => {
    if (known(node.leaf)) return node;
    let found = node;
    while (found !== root && found.children.size === 1) {
      const [only] = found.children.values();
      if (known(only.leaf)) return only;
      found = { ...only, label: `${found.label}.${only.label}` };
    }
    found.children = new Map([...found.children].map(([key, child]) => [key, joined(child)]));
    return found;
  };
  return joined(root);
}

function drawRows(run, body, number) {
  const fields = fieldsOf(run);
  const view = { mode: "list", top: run.label.length > 30 ? 20 : 0, sort: null, down: true, filter: "", type: "", chosen: null, open: new Set(), closed: new Set(), details: new Set() };
  const controls = el("div", { class: "controls" });
  const place = el("div", { class: "wide", role: "region", tabindex: "0", "aria-label": `rows, batch ${run.batch}` });
  const said = el("p", { class: "hint", role: "status" });
  body.replaceChildren(controls, said, place);

  const focus = () => focused(run);
  const cost = (i) => focus().timed ? focus().ms[i] ?? -1 : run.macs[i] ?? -1;
  const shown = () => fields.filter((field) => {
    if (view.chosen) return view.chosen.has(field.id);
    if (field.focus && field.key !== focus().key) return false;
    if (NARROW.matches) return (field.shown && field.key === focus().key) || (field.focus && !field.wide);
    return field.wide && !field.key || field.shown || field.focus;
  });
  const fitting = () => {
    const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
    return run.label.map((_, i) => i).filter((i) => {
      if (view.type && run.type[i] !== view.type) return false;
      const text = `${run.label[i]} ${run.type[i]} ${run.shape[i]}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
  };
  const value = (i) => {
    if (view.sort === "name") return i;
    const field = fields.find((one) => one.id === view.sort);
    return field ? field.of(i) : cost(i);
  };
  const compared = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (!known(x) || x === "") return known(y) && y !== "" ? 1 : a - b;
    if (!known(y) || y === "") return -1;
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return (view.down ? -order : order) || a - b;
  };

  function drawControls() {
    const types = [...new Set(run.type)].sort();
    const chooser = el("details", { class: "chooser" }, el("summary", {}, "Columns"));
    const list = el("div", { class: "list" });
    for (const field of fields) {
      const box = el("input", { type: "checkbox", onchange: () => {
        view.chosen ??= new Set(shown().map((one) => one.id));
        if (box.checked) view.chosen.add(field.id); else view.chosen.delete(field.id);
        draw();
      } });
      box.dataset.field = field.id;
      list.append(el("label", {}, box, field.name));
    }
    chooser.append(list);
    chooser.addEventListener("toggle", () => {
      const on = new Set(shown().map((one) => one.id));
      for (const box of list.querySelectorAll("input")) box.checked = on.has(box.dataset.field);
    });
    const select = (label, options, change) => el("label", {}, el("span", {}, label), el("select", { onchange: (event) => change(event.target.value) },
      ...options.map(([key, text, on]) => el("option", { value: key, selected: on }, text))));
    const tops = [...TOPS.filter((count) => count < run.label.length).map((count) => [count, `${count} first`, count === view.top]), [0, `all ${run.label.length}`, view.top === 0]];
    const which = select("Show", tops, (key) => { view.top = Number(key); draw(); });
    which.classList.add("top");
    controls.replaceChildren(
      choice("View", [["list", "List"], ["tree", "Module tree"]], view.mode, (key) => { view.mode = key; which.hidden = key === "tree"; draw(); }),
      el("label", { class: "grow" }, el("span", {}, "Filter"), el("input", { type: "search", placeholder: "conv2, denseblock3 …", oninput: (event) => { view.filter = event.target.value; view.closed.clear(); draw(); } })),
      select("Type", [["", "all types", true], ...types.map((type) => [type, type, false])], (key) => { view.type = key; draw(); }),
      which, chooser);
  }

  const letters = () => NARROW.matches ? 48 : Math.max(24, Math.floor((place.clientWidth - 110 * shown().length) / 7.2));
  function cells(field, indices, barred = true) {
    const many = indices.length !== 1;
    const value = many ? (field.adds ? sum(indices.map(field.of)) : null) : field.of(indices[0]);
    const text = field.words ? (many ? "" : value || "") : many && !field.adds ? "" : field.text(value);
    const cell = el("td", { class: field.words ? "words" : "n" });
    if (field.bar) {
      const [i] = indices;
      const column = field.column;
      const special = many ? null : column.match[i] === "removed" ? "none" : known(column.below[i]) ? `<${column.below[i]}` : null;
      const width = view.most ? 100 * (value ?? 0) / view.most : 0;
      cell.classList.add("barred");
      cell.append(special ?? text);
      if (barred) cell.append(el("i", { class: field.key === focus().key ? "b focus" : "b", style: `width:${Math.min(100, width).toFixed(1)}%` }));
    } else cell.append(text);
    return cell;
  }
  function rowOf(i, depth, above = "") {
    const open = view.details.has(i);
    const ends = /^[./]+/;
    const within = run.kind[i] === "module" ? run.short[i].replace(ends, "").slice(above.length).replace(ends, "") : "";
    const name = above && within ? within : run.short[i];
    const button = el("button", { type: "button", class: "name", "aria-expanded": String(open), title: run.label[i], onclick: () => {
      if (open) view.details.delete(i); else view.details.add(i);
      draw(`row-${number}-${i}`);
    } }, ...breakable((run.kind[i] === "layout" ? "↳ " : "") + fitted(name, letters() - 2 * (depth ?? 0))));
    button.id = `row-${number}-${i}`;
    const head = el("th", { scope: "row", style: depth ? `padding-left:${0.6 + depth}rem` : null }, button);
    const list = shown();
    const row = el("tr", { class: run.kind[i] }, head, ...list.map((field) => cells(field, [i])));
    return open ? [row, el("tr", { class: "detail" }, el("td", { colspan: String(list.length + 1) }, detail(i)))] : [row];
  }
  function detail(i) {
    const pairs = [["row", run.label[i]], ["type", run.type[i]], ["output", run.shape[i]], ["source", run.source[i]]];
    for (const c of run.columns) {
      const rate = known(c.gflops[i]) ? `${fixed(c.gflops[i], 1)} GFLOP/s, ${known(c.gbytes[i]) ? fixed(c.gbytes[i], 1) : UNKNOWN} GB/s, ${c.bound[i] ?? "unknown"}-bound, ${percentText(c.attainable[i])} of attainable` : "";
      const memory = `weights ${bytesText(c.weights[i])}, activations ${bytesText(c.activations[i])}`;
      const time = c.match[i] === "removed" ? "nothing runs" : `${msText(c.ms[i])} ms, ${percentText(c.share[i])}`;
      pairs.push([c.key, [c.timed ? time : c.dtype[i], memory, rate].filter(Boolean).join("; ")]);
      if (c.nodes[i].length) pairs.push([`${c.key} nodes`, `${c.nodes[i].join(", ")} (found by ${c.match[i] ?? "its place"})`]);
    }
    return el("dl", {}, ...pairs.filter(([, text]) => text).map(([key, text]) => el("div", {}, el("dt", {}, key), el("dd", {}, text))));
  }
  function groupOf(node, depth) {
    // what a filter found is unfolded, until it is folded by hand
    const [set, folded] = view.filter ? [view.closed, true] : [view.open, false];
    const open = set.has(node.path) !== folded;
    const button = el("button", { type: "button", class: "name fold", "aria-expanded": String(open), title: node.path, onclick: () => {
      if (set.has(node.path)) set.delete(node.path); else set.add(node.path);
      draw(`node-${number}-${node.path}`);
    } }, `${cutMiddle(node.label, letters() - 8)} (${node.rows.length})`);
    button.id = `node-${number}-${node.path}`;
    const head = el("th", { scope: "row", style: depth ? `padding-left:${0.6 + depth}rem` : null }, button);
    const own = el("tr", { class: "group" }, head, ...shown().map((field) => cells(field, node.rows)));
    return open ? [own, ...inside(node, depth + 1)] : [own];
  }
  const first = (node) => known(node.leaf) ? node.leaf : node.rows[0];
  function inside(node, depth) {
    const children = [...node.children.values()];
    if (view.sort && view.sort !== "name") {
      const field = fields.find((one) => one.id === view.sort);
      const of = (child) => known(child.leaf) ? field.of(child.leaf) : field.adds ? sum(child.rows.map(field.of)) : null;
      children.sort((a, b) => {
        const [x, y] = [of(a), of(b)];
        const order = typeof x === "string" && typeof y === "string" ? x.localeCompare(y) : (x ?? -1) - (y ?? -1);
        return view.down ? -order : order;
      });
    } else children.sort((a, b) => view.sort && view.down ? first(b) - first(a) : first(a) - first(b));
    return children.flatMap((child) => known(child.leaf) ? rowOf(child.leaf, depth, node.path) : groupOf(child, depth));
  }
  // the tree is opened, its largest branches first, until as much stands there as is read at once
  function unfold(root) {
    const lines = [...root.children.values()];
    while (lines.length < 14) {
      const closed = lines.filter((node) => !known(node.leaf) && !view.open.has(node.path));
      const largest = closed.sort((a, b) => sum(b.rows.map(cost)) - sum(a.rows.map(cost)))[0];
      if (!largest || lines.length + largest.children.size > 24) break;
      view.open.add(largest.path);
      lines.push(...largest.children.values());
    }
  }
  function headOf() {
    const heading = (id, name, words) => {
      const sorted = view.sort === id || (view.sort === null && view.mode === "list" && id === `${focus().key} ms`);
      return el("th", { scope: "col", class: words ? null : "n", "aria-sort": sorted ? (view.down ? "descending" : "ascending") : null },
        el("button", { type: "button", onclick: () => {
          view.down = sorted ? !view.down : id !== "name" && !words;
          view.sort = id;
          draw(`head-${number}-${id}`);
        }, id: `head-${number}-${id}` }, name));
    };
    return el("tr", {}, heading("name", "module", true), ...shown().map((field) => heading(field.id, field.name, field.words)));
  }

  function draw(refocus) {
    const rows = fitting();
    const bars = fields.filter((field) => field.bar && shown().includes(field));
    view.most = Math.max(0, ...bars.flatMap((field) => rows.map((i) => field.of(i) ?? 0)));
    let lines;
    if (view.mode === "tree") {
      const tree = treeOf(run, rows);
      if (!view.unfolded) { unfold(tree); view.unfolded = true; }
      view.most = Math.max(0, ...bars.flatMap((field) => [...tree.children.values()].map((node) => known(node.leaf) ? field.of(node.leaf) ?? 0 : sum(node.rows.map(field.of)) ?? 0)));
      lines = inside(tree, 0);
      said.textContent = `${rows.length} of ${run.label.length} rows by module, in the network's order; press a name for more.`;
    } else {
      const ordered = [...rows].sort(compared);
      const top = view.top && view.top < ordered.length ? view.top : ordered.length;
      lines = ordered.slice(0, top).flatMap((i) => rowOf(i, null));
      const others = ordered.slice(top);
      if (others.length) {
        const more = el("button", { type: "button", class: "name", onclick: () => { view.top = 0; controls.querySelector(".top select").value = "0"; draw(); } }, `${others.length} other rows: show`);
        lines.push(el("tr", { class: "others" }, el("th", { scope: "row" }, more), ...shown().map((field) => cells(field, others, false))));
      }
      const order = view.sort === null ? (focus().timed ? `costliest in ${focus().key} first` : "most multiply-adds first") : view.sort === "name" ? "in the network's order" : `by ${fields.find((field) => field.id === view.sort).name}`;
      said.textContent = `${Math.min(top, ordered.length)} of ${run.label.length} rows, ${order}; press a heading to sort, a name for all of its figures.`;
    }
    place.replaceChildren(el("table", { class: "rows" }, el("thead", {}, headOf()), el("tbody", {}, ...lines)));
    if (typeof refocus === "string") document.getElementById(refocus)?.focus();
  }
  drawControls();
  drawing(() => draw());
  NARROW.addEventListener("change", () => draw());
}
