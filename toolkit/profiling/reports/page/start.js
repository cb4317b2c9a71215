// the bar that stays in sight, the batch that is shown, and every part of the page drawn
const runs = [...document.querySelectorAll("section.run")];
const part = (section, name) => section.querySelector(`[data-part=${name}] .body`);

function follow() {
  for (const [place, section] of runs.entries()) {
    section.hidden = place !== state.batch;
    for (const why of section.querySelectorAll("[data-column]")) why.hidden = why.dataset.column !== state.focus;
    const reasons = section.querySelector("[data-part=why]");
    if (reasons) reasons.hidden = ![...reasons.querySelectorAll("[data-column]")].some((why) => !why.hidden);
  }
}
function drawBar() {
  const bar = document.getElementById("bar");
  const run = DATA.runs[state.batch];
  const keys = run.columns.map((column) => column.key);
  if (!keys.includes(state.focus)) state.focus = fastest(run)?.key ?? keys[0];
  const inside = [];
  if (DATA.runs.length > 1) {
    inside.push(choice("Batch", DATA.runs.map((one, place) => [place, `Batch ${one.batch}`]), state.batch, (place) => { state.batch = place; drawBar(); follow(); redraw(); }));
  }
  if (keys.length > 1) inside.push(el("span", { class: "label" }, "Figures of"), choice("Column in focus", keys.map((key) => [key, key]), state.focus, (key) => { state.focus = key; follow(); redraw(); }));
  bar.replaceChildren(el("div", {}, ...inside));
  bar.hidden = !inside.length;
}
document.documentElement.classList.add("scripted");
drawBar();
follow();
for (const [place, section] of runs.entries()) {
  const run = DATA.runs[place];
  drawTotals(run, part(section, "totals"));
  drawRows(run, part(section, "rows"), place);
  drawMemory(run, part(section, "memory"));
  drawRoofline(run, part(section, "roofline"));
}
const changed = document.querySelector("[data-part=comparison] .body");
if (changed) drawComparison(changed);
