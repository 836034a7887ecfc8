// Tables sort, filter, choose columns and copy; what they hold is in the document already and reads without this.

const TEX = {
  "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_",
  "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "−": "$-$",
  "–": "--", "×": "$\\times$", "↑": "$\\uparrow$", "↓": "$\\downarrow$", "†": "$^\\dagger$", "≤": "$\\leq$", "≥": "$\\geq$",
};

const COPY = {
  Markdown: ({ titles, rows }) => {
    const line = (cells) => `| ${cells.map((c) => c.text.replace(/[\\|*_<]/g, "\\$&")).join(" | ")} |`;
    return [line(titles), `| --- |${" ---: |".repeat(titles.length - 1)}`, ...rows.map(line)].join("\n");
  },
  CSV: ({ titles, rows }) => {
    const cell = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const wide = titles.map((_, j) => rows.some((row) => row[j].low !== undefined));
    const spread = (c, j, names) => (wide[j] ? [c.value ?? "", c.low ?? "", c.high ?? "", c.n ?? ""] : [c.value ?? c.text]);
    const head = titles.flatMap((c, j) => (wide[j] ? ["", "_low", "_high", "_n"].map((end) => c.key + end) : [c.key]));
    return [head, ...rows.map((row) => row.flatMap(spread))].map((r) => r.map(cell).join(",")).join("\n");
  },
  LaTeX: ({ titles, rows }) => {
    const text = (c) => c.text.replace(/[\\{}&%$#_~^<>−–×↑↓†≤≥]/g, (found) => TEX[found]);
    const line = (cells) => `${cells.map(text).join(" & ")} \\\\`;
    const body = [line(titles), "\\midrule", ...rows.map(line)];
    return [`\\begin{tabular}{l${"r".repeat(titles.length - 1)}}`, "\\toprule", ...body, "\\bottomrule", "\\end{tabular}"].join("\n");
  },
};

function cellOf(td) {
  const { v, low, high, n } = td.dataset, interval = td.querySelector("small")?.textContent;
  const text = [td.querySelector(".value")?.textContent ?? td.textContent.trim(), interval].filter(Boolean).join(" ");
  return { text, value: v, low, high, n };
}

// What is shown of a table, its folded parts one below the other.
function contentsOf(box) {
  const shown = (node) => getComputedStyle(node).display !== "none";
  const grids = [...box.querySelectorAll("table")], folded = box.dataset.folded;
  const heads = [...grids[0].tHead.rows[0].cells];
  const columns = heads.map((head, j) => (head.dataset.hidden || (head.classList.contains("more") && !isWide(box)) ? -1 : j)).filter((j) => j >= 0);
  const titles = columns.map((j) => ({ text: heads[j].dataset.title, key: heads[j].dataset.key }));
  const rows = grids.flatMap((grid) => {
    const part = folded ? [{ text: grid.dataset.part }] : [];
    return [...grid.tBodies[0].rows].filter((row) => !row.hidden).map((row) => [...part, ...columns.map((j) => cellOf(row.cells[j]))]);
  });
  return { titles: folded ? [{ text: folded, key: folded.toLowerCase() }, ...titles] : titles, rows };
}

function isWide(box) {
  return box.querySelector(":scope > input")?.checked ?? true;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { style: "position:fixed;opacity:0" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function sortBy(grid, column, head) {
  const order = { none: "descending", descending: "ascending", ascending: "none" }[head.ariaSort ?? "none"];
  for (const other of grid.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  if (order !== "none") head.setAttribute("aria-sort", order);
  const rows = [...grid.tBodies[0].rows], sign = order === "descending" ? -1 : 1;
  rows.forEach((row, i) => (row.dataset.place ??= i));
  const value = (row) => {
    const cell = row.cells[column], v = cell.dataset.v;
    return v === undefined ? (cell.textContent.trim() === "–" ? null : cell.textContent.trim()) : Number(v);
  };
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null); // what is missing comes last
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true }));
  };
  rows.sort((a, b) => (order === "none" ? 0 : compare(a, b)) || a.dataset.place - b.dataset.place);
  grid.tBodies[0].append(...rows);
}

function startTable(box) {
  const grids = [...box.querySelectorAll("table")];
  for (const grid of grids) {
    [...grid.tHead.rows[0].cells].forEach((head, j) => {
      const button = make("button", { type: "button", onclick: () => sortBy(grid, j, head) }, ...head.childNodes);
      head.replaceChildren(button);
      withTip(button, () => [head.dataset.title, ...(head.dataset.about ? [head.dataset.about] : []), "Click to sort."]);
      for (const row of grid.tBodies[0].rows) {
        const cell = row.cells[j], { v, n, method } = cell.dataset;
        if (v === undefined) continue;
        withTip(cell, () => [
          `${row.cells[0].textContent.trim()} · ${head.dataset.title}: ${cellOf(cell).text}`,
          ...(n ? [`n = ${n}${method ? `; interval: ${method}` : ""}`] : []),
          ...(head.dataset.about ? [head.dataset.about] : []),
        ]);
      }
    });
  }
  box.prepend(toolbar(box, grids));
}

function toolbar(box, grids) {
  const name = box.dataset.title, rows = grids.flatMap((grid) => [...grid.tBodies[0].rows]);
  const bar = make("div", { class: "tools" });
  if (rows.length > 5) {
    const search = make("input", { type: "search", placeholder: "Filter rows", "aria-label": `Filter rows of ${name}` });
    search.addEventListener("input", () => {
      const wanted = search.value.trim().toLowerCase();
      for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    bar.append(search);
  }
  bar.append(columnsMenu(box, grids), make("span", { class: "soft" }, "Copy as"));
  for (const [format, text] of Object.entries(COPY)) {
    const button = make("button", { type: "button", "aria-label": `Copy ${name} as ${format}` }, format);
    button.addEventListener("click", async () => {
      await copyText(text(contentsOf(box)));
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = format), 1200);
    });
    bar.append(button);
  }
  return bar;
}

function columnsMenu(box, grids) {
  const heads = [...grids[0].tHead.rows[0].cells].slice(1);
  const boxes = heads.map((head, j) =>
    tick(head.dataset.title, true, (shown) => {
      for (const grid of grids) {
        for (const row of grid.rows) {
          const cell = row.cells[j + 1];
          cell.style.display = shown ? "" : "none";
          if (shown) delete cell.dataset.hidden;
          else cell.dataset.hidden = "1";
        }
      }
    }),
  );
  return make("details", { class: "menu" }, make("summary", {}, "Columns"), make("div", {}, ...boxes));
}
