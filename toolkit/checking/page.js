const rest = JSON.parse(document.getElementById("rest").textContent);
const boxes = [...document.querySelectorAll("input[data-name]")];
const chosen = () => {
  const found = new Map(Object.entries(rest));
  for (const box of boxes) if (box.checked) found.set(box.dataset.name, box.dataset.why);
  return found;
};
const count = () => { document.getElementById("count").textContent = chosen().size.toLocaleString("en"); };
for (const box of boxes) box.addEventListener("change", () => {
  for (const other of boxes) if (other.dataset.name === box.dataset.name) other.checked = box.checked;
  count();
});
document.getElementById("save").addEventListener("click", () => {
  const lines = [...chosen()].map(([name, why]) => `${name}\t${why}`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/plain" }));
  link.download = "exclude.txt";
  link.click();
});
document.querySelector(".bar").hidden = false;
count();
