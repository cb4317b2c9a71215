// memory by node and the roofline: axes with names, what a mark is by mouse, tap, keyboard and in words
const NAMED = 8; // marks of the roofline that have a name beside it
const niceStep = (most, count) => {
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough) ?? power;
};

// a slider below a chart walks through its marks: by keyboard, and read aloud
function walker(label, count, start, show) {
  const input = el("input", { type: "range", min: "0", max: String(count - 1), value: String(start), "aria-label": label });
  const said = el("p", { class: "readout" });
  const set = (index) => {
    input.value = String(index);
    const text = show(index);
    said.textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  input.addEventListener("input", () => set(Number(input.value)));
  return { input, said, set };
}

function drawMemory(run, body) {
  const place = el("div", { class: "chart" });
  const lead = el("p", { class: "hint" });
  body.replaceChildren(lead, place);
  let column, at = null, walk = null;

  const short = (name) => name;
  function paint(width) {
    const height = NARROW.matches ? 220 : 260;
    const left = 64, right = 12, top = 16, bottom = 44;
    const { live, owners } = column;
    const most = Math.max(...live, 1);
    const step = niceStep(most, 4);
    const high = Math.ceil(most / step) * step;
    const x = (i) => left + (width - left - right) * i / live.length;
    const y = (bytes) => height - bottom - (height - top - bottom) * bytes / high;
    const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Bytes of live tensors at each node in ${column.key}; ${lead.textContent}` });
    // the stages of the network, so that a place has a name
    const stage = new Map();
    run.label.forEach((label, i) => label.split(" + ").forEach((name) => stage.set(name, run.stage[i])));
    const bands = [];
    owners.forEach((name, i) => {
      const own = stage.get(name.replace(/^.* for /, "")) ?? bands.at(-1)?.name ?? "";
      if (bands.at(-1)?.name === own) bands.at(-1).end = i + 1;
      else bands.push({ name: own, start: i, end: i + 1 });
    });
    let free = left;
    bands.forEach((band, i) => {
      const [from, to] = [x(band.start), x(band.end)];
      if (i % 2) svg.append(el("rect", { class: "band", x: from, y: top, width: to - from, height: height - top - bottom }));
      const text = band.name.split(/[./]/).filter(Boolean).at(-1) ?? "";
      const letters = Math.floor((to - Math.max(from, free)) / 6.6);
      if (letters >= Math.min(4, text.length) && text) {
        svg.append(el("text", { x: (Math.max(from, free) + to) / 2, y: height - bottom + 16, "text-anchor": "middle" }, cutMiddle(text, letters)));
        free = to;
      }
    });
    for (let value = 0; value <= high + step / 2; value += step) {
      svg.append(el("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
        el("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, bytesText(value)));
    }
    const path = live.map((bytes, i) => `${x(i).toFixed(1)},${y(bytes).toFixed(1)}H${x(i + 1).toFixed(1)}`).join("V").replaceAll(/V([\d.]+),([\d.]+)/g, "V$2");
    const outline = `M${path}`;
    svg.append(el("path", { class: "area", d: `${outline}V${y(0)}H${left}Z` }), el("path", { class: "line", d: outline }));
    svg.append(el("text", { class: "axis", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, `${live.length} nodes in the order in which they run`));
    const peak = live.indexOf(most);
    svg.append(el("circle", { class: "mark", cx: (x(peak) + x(peak + 1)) / 2, cy: y(most), r: 4 }));
    const cursor = el("line", { class: "cursor", y1: top, y2: height - bottom });
    svg.append(cursor);
    const show = (i) => {
      at = i;
      const middle = (x(i) + x(i + 1)) / 2;
      cursor.setAttribute("x1", middle);
      cursor.setAttribute("x2", middle);
      return `${bytesText(live[i])} at ${short(owners[i])} (node ${i + 1} of ${live.length})`;
    };
    walk = walker(`node of the memory chart, ${column.key}`, live.length, at ?? peak, show);
    const pick = (event) => {
      const box = svg.getBoundingClientRect();
      const share = (event.clientX - box.left - left) / (width - left - right);
      walk.set(Math.max(0, Math.min(live.length - 1, Math.floor(share * live.length))));
    };
    svg.addEventListener("pointermove", pick);
    svg.addEventListener("pointerdown", pick);
    place.replaceChildren(svg, walk.input, walk.said);
    walk.set(at ?? peak);
  }
  const again = sized(place, (width) => column.live.length && paint(width));
  drawing(() => {
    column = focused(run);
    at = null;
    const peak = Math.max(...column.live);
    lead.textContent = column.live.length
      ? `At most ${bytesText(peak)} of tensors are alive in ${column.key}, at ${column.owners[column.live.indexOf(peak)]}.`
      : `Not known for ${column.key}: a tensor's size was missing.`;
    if (!column.live.length) place.replaceChildren();
    again();
  });
}

function drawRoofline(run, body) {
  const place = el("div", { class: "chart" });
  const lead = el("p", { class: "hint" });
  const legend = el("ul", { class: "legend" });
  const named = el("ol", { class: "named" });
  body.replaceChildren(lead, place, legend, named);
  let column, marks = [];

  function paint(width) {
    const height = NARROW.matches ? 320 : 400;
    const left = 58, right = 16, top = 16, bottom = 46;
    const roofs = Object.entries(DATA.roofs);
    const peak = DATA.peak;
    const xs = marks.map((mark) => mark.x), ys = marks.map((mark) => mark.y);
    const low = Math.floor(Math.log10(Math.min(...xs, 0.5))), far = Math.ceil(Math.log10(Math.max(...xs, 100)));
    const least = Math.floor(Math.log10(Math.min(...ys))), high = Math.log10(Math.max(...ys, peak ?? 0) * 4);
    const x = (value) => left + (width - left - right) * (Math.log10(value) - low) / (far - low);
    const y = (value) => height - bottom - (height - top - bottom) * (Math.log10(value) - least) / (high - least);
    const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Roofline of ${column.key}: ${lead.textContent}` });
    for (let power = low; power <= far; power += 1) {
      svg.append(el("line", { class: "grid", x1: x(10 ** power), x2: x(10 ** power), y1: top, y2: height - bottom }),
        el("text", { x: x(10 ** power), y: height - bottom + 16, "text-anchor": "middle" }, (10 ** power).toLocaleString("en")));
    }
    for (let power = least; power <= high; power += 1) {
      svg.append(el("line", { class: "grid", x1: left, x2: width - right, y1: y(10 ** power), y2: y(10 ** power) }),
        el("text", { x: left - 6, y: y(10 ** power) + 4, "text-anchor": "end" }, (10 ** power).toLocaleString("en")));
    }
    svg.append(el("text", { class: "axis", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "FLOP for each byte moved"),
      el("text", { class: "axis", x: 14, y: (top + height - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(top + height - bottom) / 2})` }, "GFLOP/s"));
    const taken = [];
    // a text where nothing else stands, nor a mark; a line leads to one that had to go further away
    const write = (text, name, spots, from = null) => {
      const w = 6.8 * text.length;
      for (const [px, py, anchor, far] of spots) {
        const box = { x: anchor === "end" ? px - w : anchor === "middle" ? px - w / 2 : px, y: py - 11, w, h: 14 };
        const inside = box.x >= left + 2 && box.x + w <= width - 2 && box.y >= 0 && box.y + box.h <= height - bottom;
        const free = taken.every((o) => box.x + w < o.x || o.x + o.w < box.x || box.y + box.h < o.y || o.y + o.h < box.y);
        if (!inside || !free) continue;
        taken.push(box);
        if (far) svg.append(el("line", { class: "leader", x1: from[0], y1: from[1], x2: px, y2: py - 4 }));
        svg.append(el("text", { class: name, x: px, y: py, "text-anchor": anchor }, text));
        return;
      }
    };
    const largest = Math.max(...marks.map((mark) => mark.ms), 1e-12);
    const radius = (mark) => 3 + 7 * Math.sqrt(mark.ms / largest);
    for (const mark of marks) {
      const r = radius(mark);
      taken.push({ x: x(mark.x) - r, y: y(mark.y) - r, w: 2 * r, h: 2 * r });
    }
    if (peak) {
      for (const [level, rate] of roofs) {
        const start = Math.max(10 ** low, 10 ** least / rate);
        const knee = Math.min(peak / rate, 10 ** far);
        if (start >= knee) continue;
        svg.append(el("line", { class: "roof", x1: x(start), y1: y(start * rate), x2: x(knee), y2: y(knee * rate) }));
        write(`${level}, ${fixed(rate, 0)} GB/s`, "roofname", [0.3, 0.5, 0.15, 0.65, 0.8].map((along) => {
          const at = 10 ** (Math.log10(start) + along * (Math.log10(knee) - Math.log10(start)));
          return [x(at) + 6, y(at * rate) + 14, "start"];
        }));
      }
      const from = Math.max(Math.min(...roofs.map(([, rate]) => peak / rate), 10 ** far), 10 ** low);
      svg.append(el("line", { class: "roof", x1: x(from), x2: x(10 ** far), y1: y(peak), y2: y(peak) }));
      write(`fp32 peak, ${fixed(peak, 0)} GFLOP/s`, "roofname", [[width - right, y(peak) - 6, "end"], [width - right, y(peak) + 16, "end"]]);
    }
    const ring = el("circle", { class: "ring", r: 0 });
    for (const mark of [...marks].reverse()) {
      const dot = el("circle", { class: `dot c${colourOf(run, run.type[mark.i])}`, cx: x(mark.x), cy: y(mark.y), r: radius(mark) });
      dot.addEventListener("pointerenter", () => walk.set(marks.indexOf(mark)));
      svg.append(telling(dot, `${run.label[mark.i]}: ${sentence(mark)}`));
    }
    marks.slice(0, NAMED).forEach((mark, index) => {
      const [cx, cy, r] = [x(mark.x), y(mark.y), radius(mark)];
      const spots = [4, 16, 30, 46, 64].flatMap((away) => [[0, -1], [1, -1], [-1, -1], [1, 0], [-1, 0], [1, 1], [-1, 1], [0, 1]].map(([dx, dy]) =>
        [cx + dx * (r + away), cy + dy * (r + away) + (dy > 0 ? 9 : dy === 0 ? 4 : 0), dx > 0 ? "start" : dx < 0 ? "end" : "middle", away > 4]));
      write(String(index + 1), "dotname", spots, [cx, cy]);
    });
    const names = marks.slice(0, NAMED).map((mark, index) => el("li", {}, el("b", {}, String(index + 1)), run.short[mark.i]));
    named.replaceChildren(...names);
    svg.append(ring);
    const walk = walker(`row of the roofline, ${column.key}, the costliest first`, marks.length, 0, (index) => {
      const mark = marks[index];
      for (const [key, value] of [["cx", x(mark.x)], ["cy", y(mark.y)], ["r", radius(mark) + 3]]) ring.setAttribute(key, value);
      return `${run.label[mark.i]}: ${sentence(mark)}`;
    });
    place.replaceChildren(svg, walk.input, walk.said);
    walk.set(0);
  }
  const sentence = (mark) => `${msText(mark.ms)} ms, ${fixed(mark.y, 1)} GFLOP/s at ${fixed(mark.x, 1)} FLOP a byte, ${percentText(column.attainable[mark.i])} of what is attainable${column.bound[mark.i] ? `, ${column.bound[mark.i]}-bound` : ""}`;
  const again = sized(place, (width) => marks.length && paint(width));
  drawing(() => {
    column = focused(run);
    marks = column.intensity.map((x, i) => ({ i, x, y: column.gflops[i], ms: column.ms[i] })).filter((mark) => known(mark.x) && mark.y > 0).sort((a, b) => b.ms - a.ms);
    const bound = (kind) => marks.filter((mark) => column.bound[mark.i] === kind).length;
    lead.textContent = marks.length
      ? `${marks.length} rows of ${column.key} against what this machine allows: ${bound("compute")} bound by arithmetic, ${bound("memory")} by bytes. A mark's size is its time.`
      : `Not known for ${column.key}: no timed row has work and bytes, or the peaks were not measured.`;
    const types = [...new Set(marks.map((mark) => run.type[mark.i]))].map((type) => [colourOf(run, type), type]).sort((a, b) => a[0] - b[0]);
    const entries = types.filter(([place]) => place < 7).map(([place, type]) => el("li", {}, el("i", { class: `swatch c${place}` }), type));
    if (types.some(([place]) => place === 7)) entries.push(el("li", {}, el("i", { class: "swatch c7" }), "other types"));
    legend.replaceChildren(...entries);
    if (!marks.length) { place.replaceChildren(); named.replaceChildren(); }
    again();
  });
}
