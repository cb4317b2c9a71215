// sorts a table by the column whose heading is pressed; without scripts the rows stand in the network's order
for (const table of document.querySelectorAll("table.rows")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => {
        const cell = row.cells[index];
        const given = cell.dataset.v;
        if (given === undefined) return cell.textContent;
        return given === "" ? -Infinity : Number(given);
      };
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  });
}
