"use strict";
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const known = (row) => value(row) !== "";
      const compare = (a, b) => {
        if (!known(a) || !known(b)) return known(b) - known(a); // rows without a number stay last
        const order = value(a).localeCompare(value(b), "en", { numeric: true });
        const [x, y] = [Number(value(a)), Number(value(b))];
        return (falling ? -1 : 1) * (Number.isNaN(x) || Number.isNaN(y) ? order : x - y);
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare));
    });
  });
}
