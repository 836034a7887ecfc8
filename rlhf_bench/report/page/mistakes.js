// Pairs that the reward model ranks wrongly, by slice.

const MISTAKES_A_PAGE = 6;

function startMistakes(box) {
  const rows = DATA.mistakes, state = { audited: "", split: "", category: "", tag: "", search: "", page: 0 };
  const list = make("div", {});
  const values = (name) => [...new Set(rows.flatMap((row) => row[name] ?? []).filter((v) => v !== ""))].sort();
  const set = (name) => (value) => {
    Object.assign(state, { [name]: value, page: 0 });
    render();
  };
  const filter = (name, label) => {
    const found = values(name === "tag" ? "tags" : name).map(String);
    return found.length > 1 || name === "tag" && found.length ? choice(label, [["", "all"], ...found.map((v) => [v, v])], "", set(name), name) : null;
  };
  const search = make("input", { type: "search", placeholder: "Search pairs", "aria-label": "Search pairs" });
  search.addEventListener("input", later(() => set("search")(search.value)));

  function render() {
    const wanted = state.search.trim().toLowerCase();
    const found = rows.filter((row) =>
      ["audited", "split", "category"].every((name) => !state[name] || String(row[name]) === state[name]) &&
      (!state.tag || row.tags.includes(state.tag)) &&
      (!wanted || `${row.prompt}\n${row.chosen}\n${row.rejected}`.toLowerCase().includes(wanted)));
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
    if (!["tag", "category"].includes(name) || name === field) return;
    Object.assign(state, { audited: "", split: "", category: "", tag: "", search: "", [name]: value, page: 0 });
    search.value = "";
    for (const select of tools.querySelectorAll("select")) select.value = state[select.name];
    render();
    box.scrollIntoView();
  }

  const tools = make("div", { class: "tools" }, ...[
    search, filter("audited", "Model"), filter("split", "Split"), filter("category", "Category"), filter("tag", "Tag"),
  ].filter(Boolean));
  box.replaceChildren(tools, list);
  linkRows({ tag: values("tags"), category: values("category") });
  render();
  read();
  addEventListener("hashchange", read);
}

// Rows of the audit's tables that are named after a group of mistakes link to it.
function linkRows(groups) {
  for (const head of document.querySelectorAll("#reward-model tbody th")) {
    const text = head.textContent.trim(), field = Object.keys(groups).find((name) => groups[name].includes(text));
    if (field) head.replaceChildren(make("a", { href: `#mistakes-${field}=${encodeURIComponent(text)}`, title: "Its largest mistakes" }, text));
  }
}
