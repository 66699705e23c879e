"use strict";
(() => {
  const table = document.getElementById("targets");
  const body = table.tBodies[0];
  const isText = Array.from(
    table.tHead.rows[0].cells,
    (header) => header.querySelector("button")?.dataset.kind === "text",
  );
  const rows = Array.from(body.rows, (row) => ({
    row,
    text: Array.from(row.cells, (cell, i) => (isText[i] ? cell.dataset.value : ""))
      .join(" ")
      .toLowerCase(),
    judged: row.dataset.judged,
    mode: row.dataset.mode,
    values: Array.from(row.cells, (cell) => cell.dataset.value ?? ""),
  }));
  const controls = ["text", "judged", "mode"].map((id) => document.getElementById(id));
  const shown = document.getElementById("shown");

  const filter = () => {
    const [text, judged, mode] = controls.map((one) => (one ? one.value : ""));
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let number = 0;
    for (const one of rows) {
      const fits =
        words.every((word) => one.text.includes(word)) &&
        (!judged || one.judged === judged) &&
        (!mode || one.mode === mode);
      one.row.hidden = !fits;
      number += fits;
    }
    shown.textContent = `${number} of ${rows.length} shown`;
  };

  const compare = {
    text: (a, b) => a.localeCompare(b, "en", { numeric: true }),
    number: (a, b) => Number(a) - Number(b),
  };

  const sort = (header, kind) => {
    const column = header.cellIndex;
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    rows.sort((one, other) => {
      const a = one.values[column];
      const b = other.values[column];
      if (a === "" || b === "") return (a === "") - (b === ""); // what is not known comes last
      return sign * compare[kind](a, b);
    });
    body.append(...rows.map((one) => one.row));
  };

  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => sort(button.closest("th"), button.dataset.kind));
  }
  for (const event of ["input", "change"]) {
    for (const one of controls) one?.addEventListener(event, filter);
  }
  document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  filter();
})();
