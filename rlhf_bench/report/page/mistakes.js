// Pairs that the reward model ranks wrongly, by slice and by tag.

const MISTAKES_A_PAGE = 6;
const GROUPS = { category: "Category", slice: "Slice", tag: "Tag" }; // what a link can choose
const NO_FILTER = { audited: "", split: "", category: "", slice: "", tag: "", search: "", page: 0 };

// The values by which a pair is filtered: one, or several of a tag or a slice.
function valuesOf(row, name) {
  return [row[{ tag: "tags", slice: "slices" }[name] ?? name]].flat().filter((value) => value !== "");
}

function startMistakes(box) {
  const rows = DATA.mistakes, state = { ...NO_FILTER, sort: "largest" };
  const list = make("div", {});
  const values = (name) => [...new Set(rows.flatMap((row) => valuesOf(row, name)))].sort();
  const set = (name) => (value) => {
    Object.assign(state, { [name]: value, page: 0 });
    render();
  };
  const filter = (name, label) => {
    const found = values(name), several = ["tag", "slice"].includes(name);
    return found.length > (several ? 0 : 1) ? choice(label, [["", "all"], ...found.map((v) => [v, v])], "", set(name), name) : null;
  };
  const search = make("input", { type: "search", placeholder: "Search pairs", "aria-label": "Search pairs" });
  search.addEventListener("input", later(() => set("search")(search.value)));

  function render() {
    const wanted = state.search.trim().toLowerCase();
    const found = rows.filter((row) =>
      ["audited", "split", ...Object.keys(GROUPS)].every((name) => !state[name] || valuesOf(row, name).includes(state[name])) &&
      (!wanted || `${row.prompt}\n${row.chosen}\n${row.rejected}`.toLowerCase().includes(wanted)));
    if (state.sort === "smallest") found.reverse();
    const go = (page) => {
      state.page = page;
      render();
      box.scrollIntoView();
    };
    const at = state.page * MISTAKES_A_PAGE;
    list.replaceChildren(pager(found.length, MISTAKES_A_PAGE, state.page, go), ...found.slice(at, at + MISTAKES_A_PAGE).map(pair));
  }

  function pair(row) {
    const slice = [`margin ${number(row.margin)}`, row.category, row.split, ...row.tags, row.audited].filter(Boolean);
    const [chosen, rejected] = [row.chosen.trim(), row.rejected.trim()];
    const reply = (name, score, nodes) => make("div", { class: "reply" },
      make("header", {}, make("strong", {}, name), make("div", { class: "facts-line" }, `score ${number(score)}`)), make("p", { class: "text" }, ...nodes));
    return make("article", { class: "prompt" },
      make("header", {}, make("p", { class: "text" }, row.prompt.trim().replace(/\s*Assistant:$/, "")), make("p", { class: "soft" }, slice.join(" · "))),
      make("div", { class: "replies" },
        reply("chosen", row.chosen_score, marked(chosen, rejected, "ins")),
        reply("rejected, scored higher", row.rejected_score, marked(rejected, chosen, "del"))));
  }

  // `#mistakes-tag=...`: the pairs of a group, to which the audit's tables link.
  function read() {
    const [[field, value] = []] = new URLSearchParams(location.hash.slice(1));
    const name = field?.replace("mistakes-", "");
    if (!(name in GROUPS) || name === field) return;
    Object.assign(state, NO_FILTER, { [name]: value });
    search.value = "";
    for (const select of tools.querySelectorAll("select")) select.value = state[select.name];
    render();
    box.scrollIntoView();
  }

  const sorts = [["largest", "margin, largest first"], ["smallest", "margin, smallest first"]];
  const tools = make("div", { class: "tools" }, ...[
    search, choice("Sort mistakes by", sorts, state.sort, set("sort"), "sort"), filter("audited", "Model"), filter("split", "Split"),
    ...Object.entries(GROUPS).map(([name, label]) => filter(name, label)),
  ].filter(Boolean));
  box.replaceChildren(tools, make("p", { class: "notes" }, shownOfAll(rows)), list);
  linkRows(Object.fromEntries(Object.keys(GROUPS).map((name) => [name, values(name)])));
  render();
  read();
  addEventListener("hashchange", read);
}

// "The largest mistakes: 200 of 731 of seed 0, 169 of 169 of seed 1."
function shownOfAll(rows) {
  const counts = Object.entries(DATA.n_mistakes);
  const parts = counts.map(([name, all]) => {
    const n = rows.filter((row) => row.audited === name).length;
    return `${n.toLocaleString("en")} of ${all.toLocaleString("en")}${name ? ` of ${name}` : ""}`;
  });
  const turns = counts.length > 1 ? " Models take turns, since their rewards have no common scale." : "";
  return `The largest mistakes: ${parts.join(", ")}.${turns}`;
}

// Rows of the audit's tables that are named after a group of mistakes link to it.
function linkRows(groups) {
  for (const head of document.querySelectorAll("#reward-model tbody th")) {
    const text = head.textContent.trim(), field = Object.keys(groups).find((name) => groups[name].includes(text));
    if (field) head.replaceChildren(make("a", { href: `#mistakes-${field}=${encodeURIComponent(text)}`, title: "Its largest mistakes" }, text));
  }
}
