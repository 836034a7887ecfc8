"use strict";

// A spreadsheet takes what begins like this for a formula; an apostrophe before it keeps it text.
const FORMULA = /^\s*[=+\-@]/;

function cell(text) {
  return `"${(FORMULA.test(text) ? "'" + text : text).replaceAll('"', '""')}"`;
}

// The sheet with its labels, as `judge label read` reads it. page: {sheet, columns, pairs: [[id, prompt, A, B], ...]}.
function csvOf(page, labels) {
  const rows = page.pairs.map(([id, ...texts]) => [id, ...texts, labels[id]?.better ?? "", labels[id]?.note ?? ""]);
  return "\ufeff" + [page.columns, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function start() {
  const page = JSON.parse(document.getElementById("page").textContent);
  const place = `rlhf-bench label ${page.sheet}`;
  const at = (id) => document.getElementById(id);
  const note = at("note");
  const labels = stored();
  let n = Math.max(0, page.pairs.findIndex(([id]) => !labels[id]?.better));

  function stored() {
    try {
      return { ...JSON.parse(localStorage.getItem(place)) };
    } catch {
      return {};
    }
  }

  function keep(change) {
    const [id] = page.pairs[n];
    labels[id] = { ...labels[id], ...change };
    try {
      localStorage.setItem(place, JSON.stringify(labels));
      at("kept").textContent = "This browser keeps your labels. Send the downloaded file back when you are done.";
    } catch {
      at("kept").textContent = "This browser keeps nothing: download the labels before you close the page.";
    }
  }

  function fill(id, text) {
    at(id).textContent = text.trim() || "(empty)";
    at(id).classList.toggle("empty", !text.trim());
    at(id).scrollTop = 0;
  }

  function show() {
    const [id, prompt, first, second] = page.pairs[n];
    fill("prompt", prompt);
    fill("first", first);
    fill("second", second);
    note.value = labels[id]?.note ?? "";
    for (const button of document.querySelectorAll("[data-label]")) {
      button.setAttribute("aria-pressed", String(button.dataset.label === labels[id]?.better));
    }
    const done = page.pairs.filter(([each]) => labels[each]?.better).length;
    at("count").textContent = `pair ${n + 1} of ${page.pairs.length}, ${done} labelled`;
    at("bar").max = page.pairs.length;
    at("bar").value = done;
  }

  function go(step) {
    n = Math.min(page.pairs.length - 1, Math.max(0, n + step));
    show();
  }

  // Then on to the next pair without a label, from here around; the last one stays.
  function choose(better) {
    keep({ better });
    const others = page.pairs.map((_, step) => (n + step) % page.pairs.length);
    n = others.find((each) => !labels[page.pairs[each][0]]?.better) ?? n;
    show();
  }

  function clear() {
    keep({ better: "" });
    show();
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csvOf(page, labels)], { type: "text/csv" }));
    link.download = `labels-${page.sheet}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  const keys = {
    a: () => choose("A"),
    b: () => choose("B"),
    t: () => choose("tie"),
    arrowleft: () => go(-1),
    arrowright: () => go(1),
    delete: clear,
  };
  document.addEventListener("keydown", (event) => {
    const act = keys[event.key.toLowerCase()];
    if (!act || event.target === note || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  for (const button of document.querySelectorAll("[data-label]")) {
    button.addEventListener("click", () => choose(button.dataset.label));
  }
  note.addEventListener("input", () => keep({ note: note.value }));
  at("back").addEventListener("click", () => go(-1));
  at("on").addEventListener("click", () => go(1));
  at("clear").addEventListener("click", clear);
  at("download").addEventListener("click", download);
  show();
}

if (globalThis.document) start();
