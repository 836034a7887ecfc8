// Responses, models side by side.

const PROMPTS_A_PAGE = 8;
const HH_TURN = /^[\s\S]*Human:/;
const RESULT = { W: "won", L: "lost", T: "tie", "?": "unread" };

// The last turn of a prompt, as its heading.
function question(prompt) {
  const text = DATA.prompts.text[prompt].trim().replace(/\s*Assistant:$/, "").replace(HH_TURN, "").trim();
  return text.length > 150 ? `…${text.slice(-150)}` : text;
}

// A win or a loss in both orders; a tie where they disagree; unread where an answer could not be read.
function verdictOf(orders) {
  const read = orders?.replaceAll("-", "");
  if (!read) return "";
  if (orders.includes("?")) return "unread";
  return /^W+$/.test(read) ? "won" : /^L+$/.test(read) ? "lost" : "tie";
}

let openPrompt = () => {};

function startBrowser(box) {
  const R = DATA.responses, P = DATA.prompts, written = new Set(R.model);
  const models = DATA.models.map((_, i) => i).filter((i) => written.has(i));
  const key = (prompt, model, seed, sample) => `${prompt}|${model}|${seed}|${sample}`;
  const at = new Map(R.model.map((model, i) => [key(R.prompt[i], model, R.seed[i], R.sample[i]), i]));
  const samples = [...new Set(R.model.map((_, i) => `${R.seed[i]}|${R.sample[i]}`))];
  const policies = models.filter((m) => !DATA.models[m].data);
  const better = policies.filter((m) => m !== DATA.reference).at(-1) ?? policies[0];
  const fresh = () => ({
    search: "", category: "", a: DATA.reference, b: better, verdict: "", judge: 0, least: "", sort: "", shown: samples[0],
    page: 0, prompt: null, differences: false, shading: false, hidden: new Set(),
  });
  const state = fresh();
  const lower = { prompt: [], text: [] };
  const list = make("div", { class: "prompts" });

  // The response of a model in the shown seed and sample; the data's own have one sample.
  function row(prompt, model) {
    const [seed, sample] = state.shown.split("|");
    return at.get(key(prompt, model, seed, sample)) ?? at.get(key(prompt, model, seed, 0)) ?? at.get(key(prompt, model, DATA.seeds[0], 0));
  }

  function gap(prompt, column) {
    const [i, j] = [row(prompt, state.a), row(prompt, state.b)], of = R[column];
    return i === undefined || j === undefined || !of || of[i] === null || of[j] === null ? null : of[j] - of[i];
  }

  function holds(prompt, wanted) {
    lower.prompt[prompt] ??= P.text[prompt].toLowerCase();
    if (lower.prompt[prompt].includes(wanted) || P.id[prompt].startsWith(wanted)) return true;
    return models.some((model) => {
      const i = row(prompt, model);
      if (i === undefined || state.hidden.has(model)) return false;
      return (lower.text[i] ??= R.text[i].toLowerCase()).includes(wanted);
    });
  }

  function verdict(prompt) {
    const judging = DATA.verdicts[state.judge];
    return judging ? verdictOf(judging.by[row(prompt, state.b)]) : "";
  }

  function found() {
    if (state.prompt !== null) return [state.prompt];
    const wanted = state.search.trim().toLowerCase(), least = state.least === "" ? null : Number(state.least);
    const kept = P.id.map((_, i) => i).filter((i) =>
      (!state.category || P.category[i] === state.category) &&
      (!state.verdict || verdict(i) === state.verdict) &&
      (least === null || (gap(i, "reward") ?? -Infinity) >= least) &&
      (!wanted || holds(i, wanted)));
    const [column, sign] = SORTS[state.sort] ?? [];
    if (!column) return kept;
    const value = (i) => (column === "kl_b" ? R.kl?.[row(i, state.b)] ?? null : gap(i, column));
    const values = new Map(kept.map((i) => [i, value(i)]));
    return kept.filter((i) => values.get(i) !== null).sort((i, j) => sign * (values.get(i) - values.get(j)) || i - j);
  }

  const SORTS = { gain: ["reward", -1], loss: ["reward", 1], gold: ["gold", 1], longer: ["tokens", -1], kl: ["kl_b", -1] };

  function render() {
    const ids = found(), size = PROMPTS_A_PAGE;
    state.page = Math.max(0, Math.min(state.page, Math.ceil(ids.length / size) - 1));
    const go = (page) => {
      state.page = page;
      render();
      box.scrollIntoView();
    };
    const cards = ids.slice(state.page * size, (state.page + 1) * size).map(card);
    const only = state.prompt === null ? null : make("button", { type: "button", class: "chip", onclick: () => show({ prompt: null }) }, "Show all prompts ✕");
    list.replaceChildren(...[only, pager(ids.length, size, state.page, go), ...cards].filter(Boolean));
    if (cards.length > 3) list.append(pager(ids.length, size, state.page, go));
    if (!ids.length) list.append(make("p", { class: "notes" }, "No prompt fits; loosen a filter."));
  }

  function show(change) {
    Object.assign(state, { page: 0 }, change);
    const link = state.prompt === null ? "" : `#prompt=${encodeURIComponent(P.id[state.prompt])}`;
    if (location.hash.startsWith("#prompt=") || link) history.replaceState(null, "", link || "#responses");
    controls();
    render();
  }

  function card(prompt) {
    const text = P.text[prompt].trim(), id = P.id[prompt];
    const link = make("a", { href: `#prompt=${encodeURIComponent(id)}`, title: "A link to this prompt" }, id);
    const head = make("header", {}, make("h3", {}, question(prompt) || "(empty prompt)"),
      make("p", { class: "soft" }, P.category[prompt] ? `${P.category[prompt]} · ` : "", link));
    const whole = text.length > question(prompt).length + 30 ? make("details", { class: "plain" }, make("summary", {}, "Whole prompt"), make("p", { class: "text soft" }, text)) : null;
    const replies = models.filter((m) => !state.hidden.has(m)).map((m) => [m, row(prompt, m)]).filter(([, i]) => i !== undefined);
    return make("article", { class: "prompt" }, head, whole, make("div", { class: "replies" }, ...replies.map(([m, i]) => reply(prompt, m, i))));
  }

  function reply(prompt, model, i) {
    const text = R.text[i].trim(), base = row(prompt, state.a), against = row(prompt, model === state.a ? state.b : state.a);
    const facts = [];
    const add = (title, column, digits) => {
      const value = R[column]?.[i] ?? null;
      if (value === null) return;
      const from = base === undefined || model === state.a ? null : R[column][base];
      const change = from === null || !["reward", "gold"].includes(column) ? "" : ` (${signed(value - from, digits)})`;
      facts.push(make("span", {}, `${title} ${number(value, digits)}`, make("span", { class: "soft" }, change)));
    };
    add("reward", "reward", 2);
    add("gold", "gold", 2);
    add("KL", "kl", 2);
    if (R.tokens[i] !== null) facts.push(make("span", {}, `${R.tokens[i]} tokens`));
    if (R.cut[i]) facts.push(make("span", {}, "cut off"));
    const body = state.differences && against !== undefined && against !== i
      ? marked(text, R.text[against].trim(), model === state.a ? "del" : "ins") : [text];
    return make("div", { class: "reply", style: `--of:${colour(model)}` },
      make("header", {}, make("strong", {}, markerIcon(model), DATA.models[model].name), make("div", { class: "facts-line" }, ...facts)),
      make("p", { class: "text" }, ...(text ? body : [make("em", { class: "soft" }, "(empty)")])),
      state.shading ? strip(i) : null, ...judged(i));
  }

  // Both orders of each judge on this response.
  function judged(i) {
    return DATA.verdicts.filter((judging) => judging.by[i]).map((judging) => {
      const [one, other] = judging.by[i];
      const both = [`shown first: ${RESULT[one] ?? "not shown"}`, ...(other ? [`shown second: ${RESULT[other] ?? "not shown"}`] : [])];
      return make("p", { class: "soft judged" }, make("strong", {}, verdictOf(judging.by[i])), ` against ${DATA.models[judging.baseline].name} by ${judging.judge} (${both.join(", ")})`);
    });
  }

  function controls() {
    const categories = [...new Set(P.category.filter(Boolean))].sort();
    const names = policies.map((m) => [String(m), DATA.models[m].name]);
    const all = models.map((m) => [String(m), DATA.models[m].name]);
    const search = make("input", { type: "search", placeholder: "Search prompts and responses", "aria-label": "Search prompts and responses" });
    search.value = state.search;
    search.addEventListener("input", later(() => set("search")(search.value)));
    const least = make("input", { type: "number", step: "0.1", value: state.least, oninput: (event) => set("least")(event.target.value) });
    const set = (name, convert = (v) => v) => (value) => {
      Object.assign(state, { [name]: convert(value), page: 0, prompt: null });
      render();
    };
    const [a, b] = [DATA.models[state.a].name, DATA.models[state.b].name];
    const chosen = (name) => (value) => show({ [name]: Number(value), prompt: null });
    const sorts = [["", "order of the data"],
      ...(R.reward ? [["gain", `largest gain of ${b}`], ["loss", `largest loss of ${b}`]] : []),
      ...(R.gold ? [["gold", `largest loss of ${b} in gold`]] : []),
      ...(R.kl ? [["kl", `largest KL of ${b}`]] : []), ["longer", `${b} is longer`]];
    const sampled = samples.map((s) => [s, `seed ${s.split("|")[0]}, sample ${s.split("|")[1]}`]);
    const judges = DATA.verdicts.map((j, i) => [String(i), `${j.judge} against ${DATA.models[j.baseline].name}`]);
    bar.replaceChildren(...[
      search,
      categories.length ? choice("Category", [["", "all"], ...categories.map((c) => [c, c])], state.category, set("category")) : null,
      choice("Compare", all, String(state.a), chosen("a")),
      choice("with", names.length > 1 ? names : all, String(state.b), chosen("b")),
      choice("Sort by", sorts, state.sort, set("sort")),
      R.reward ? make("label", { class: "choice" }, make("span", {}, "Reward gain at least"), least) : null,
      judges.length > 1 ? choice("Judge", judges, String(state.judge), chosen("judge")) : null,
      judges.length ? choice(`Verdict on ${b}`, [["", "any"], ["won", "won"], ["lost", "lost"], ["tie", "tie"], ["unread", "unread"]], state.verdict, set("verdict")) : null,
      sampled.length > 1 ? choice("Shown", sampled, state.shown, set("shown")) : null,
      tick("mark differences", state.differences, (on) => { state.differences = on; render(); }),
      R.strip ? tick("KL by token", state.shading, (on) => { state.shading = on; render(); }) : null,
    ].filter(Boolean));
  }

  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    const model = (name) => DATA.models.findIndex((m) => m.name === name);
    if (given.has("prompt")) {
      const prompt = P.id.indexOf(given.get("prompt"));
      if (prompt < 0) return;
      show({ prompt });
    } else if (given.has("model")) {
      show({ ...fresh(), b: Math.max(0, model(given.get("model"))), sort: given.get("sort") ?? "" });
    } else return;
    box.scrollIntoView();
  }

  const bar = make("div", { class: "tools" });
  box.replaceChildren(bar, modelButtons(models, state.hidden, render), list);
  openPrompt = (prompt) => {
    show({ prompt });
    box.scrollIntoView();
  };
  controls();
  render();
  read();
  addEventListener("hashchange", read);
}

// The KL of each token as a row of cells, the darker the more; levels are those of data.py.
function strip(i) {
  const levels = DATA.responses.strip[i];
  if (!levels) return null;
  const kl = [...levels].map((c) => (LEVELS.indexOf(c) / (LEVELS.length - 1)) ** 2 * DATA.strip_max);
  const most = kl.indexOf(Math.max(...kl));
  const cells = kl.map((value, j) => make("i", { "data-j": j, style: `opacity:${(0.06 + 0.94 * Math.sqrt(value / DATA.strip_max)).toFixed(2)}` }));
  const box = make("div", { class: "strip", role: "img", "aria-label": `KL by token; most at token ${most + 1}: ${number(kl[most])} nats` }, ...cells);
  box.addEventListener("pointermove", (event) => {
    const j = event.target.dataset.j;
    if (j !== undefined) showTip([`Token ${Number(j) + 1}`, `KL about ${number(kl[j], 3)} nats`], event.clientX, event.clientY);
  });
  box.addEventListener("pointerleave", hideTip);
  return box;
}

const LEVELS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
