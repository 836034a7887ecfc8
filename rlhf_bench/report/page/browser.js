// Responses, models side by side: which prompts are shown, in which order, and the controls that decide it.

const PROMPTS_A_PAGE = 5;
const FIRST = { // what a new view shows; what differs from it is in the address
  prompt: "", search: "", category: "", against: "", model: "", alarm: "", verdict: "", judge: "0",
  from: "", to: "", sort: "", shown: "", mark: "",
};
const SORTS = { gain: ["reward", -1], loss: ["reward", 1], gold: ["gold", 1], longer: ["tokens", -1], kl: ["kl", -1] };

let openPrompt = () => {};

function startBrowser(box) {
  const R = DATA.responses, P = DATA.prompts, written = new Set(R.model);
  const models = DATA.models.map((_, i) => i).filter((i) => written.has(i));
  const key = (prompt, model, seed, sample) => `${prompt}|${model}|${seed}|${sample}`;
  const at = new Map(R.model.map((model, i) => [key(R.prompt[i], model, R.seed[i], R.sample[i]), i]));
  const samples = [...new Set(R.model.map((_, i) => `${R.seed[i]}|${R.sample[i]}`))];
  const policies = models.filter((m) => !DATA.models[m].data);
  const name = (model) => DATA.models[model].name;
  Object.assign(FIRST, {
    shown: samples[0],
    against: name(models.includes(DATA.reference) ? DATA.reference : models[0]),
    model: name(policies.filter((m) => m !== DATA.reference).at(-1) ?? models.find((m) => m !== DATA.reference) ?? models[0]),
  });
  const state = { ...FIRST }, hidden = new Set(), lower = { prompt: [], text: [] };
  let pageNumber = 0;
  const pair = () => [state.against, state.model].map((wanted) => models.find((m) => name(m) === wanted) ?? models[0]);

  // The response of a model in the shown seed and sample; the data's own have one sample.
  function row(prompt, model) {
    const [seed, sample] = state.shown.split("|");
    return at.get(key(prompt, model, seed, sample)) ?? at.get(key(prompt, model, seed, 0)) ?? at.get(key(prompt, model, DATA.seeds[0], 0));
  }

  function gap(prompt, column) {
    const [i, j] = pair().map((model) => row(prompt, model)), of = R[column];
    return i === undefined || j === undefined || !of || of[i] === null || of[j] === null ? null : of[j] - of[i];
  }

  function holds(prompt, wanted) {
    lower.prompt[prompt] ??= P.text[prompt].toLowerCase();
    if (lower.prompt[prompt].includes(wanted) || P.id[prompt].startsWith(wanted)) return true;
    return models.some((model) => {
      const i = row(prompt, model);
      return i !== undefined && !hidden.has(model) && (lower.text[i] ??= R.text[i].toLowerCase()).includes(wanted);
    });
  }

  function verdict(prompt) {
    const judging = DATA.verdicts[state.judge];
    return judging ? verdictOf(judging.by[row(prompt, pair()[1])]) : "";
  }

  // The prompts that fit the filters, in the wanted order.
  function found() {
    const wanted = state.search.trim().toLowerCase(), alarm = DATA.alarms[state.alarm];
    const within = (value) => value !== null && value >= (state.from === "" ? -Infinity : Number(state.from)) && value <= (state.to === "" ? Infinity : Number(state.to));
    const kept = (alarm?.prompts.length ? alarm.prompts : P.id.map((_, i) => i)).filter((i) =>
      (!state.category || P.category[i] === state.category) &&
      (!state.verdict || verdict(i) === state.verdict) &&
      ((state.from === "" && state.to === "") || within(gap(i, "reward"))) &&
      (!wanted || holds(i, wanted)));
    const [column, sign] = SORTS[state.sort] ?? [];
    if (!column) return kept;
    const value = (i) => (column === "kl" ? R.kl?.[row(i, pair()[1])] ?? null : gap(i, column));
    const values = new Map(kept.map((i) => [i, value(i)]));
    return kept.filter((i) => values.get(i) !== null).sort((i, j) => sign * (values.get(i) - values.get(j)) || i - j);
  }

  function render() {
    const [a, b] = pair(), one = P.id.indexOf(state.prompt), ids = found(), size = PROMPTS_A_PAGE;
    const view = { models: models.filter((m) => !hidden.has(m)), a, b, row, mark: state.mark, alarm: DATA.alarms[state.alarm], open: openPrompt };
    if (one >= 0) {
      const place = ids.indexOf(one), step = (label, to) =>
        make("button", { type: "button", disabled: to === undefined, onclick: () => set({ prompt: P.id[to] }) }, label);
      const back = make("button", { type: "button", onclick: () => set({ prompt: "" }) }, "Show all prompts");
      const where = place < 0 ? "" : `${place + 1} of ${ids.length.toLocaleString("en")}`;
      list.replaceChildren(
        make("div", { class: "pager" }, back, step("‹ Previous prompt", ids[place - 1]), make("span", { role: "status" }, where),
          step("Next prompt ›", place < 0 ? undefined : ids[place + 1])), promptCard(one, view));
      return;
    }
    pageNumber = Math.max(0, Math.min(pageNumber, Math.ceil(ids.length / size) - 1));
    const go = (to) => {
      pageNumber = to;
      render();
      box.scrollIntoView();
    };
    const cards = ids.slice(pageNumber * size, (pageNumber + 1) * size).map((prompt) => promptCard(prompt, view));
    list.replaceChildren(pager(ids.length, size, pageNumber, go), summary(ids, a, b), ...cards);
    if (cards.length > 3) list.append(pager(ids.length, size, pageNumber, go));
    if (!ids.length) list.append(make("p", { class: "notes" }, "No prompt fits; loosen a filter."));
  }

  // The mean gain over the prompts that fit, of the shown responses.
  function summary(ids, a, b) {
    const gaps = ids.map((i) => gap(i, "reward")).filter((value) => value !== null);
    const mean = gaps.reduce((sum, value) => sum + value, 0) / gaps.length;
    const gain = gaps.length && a !== b ? `Reward of ${name(b)} minus that of ${name(a)}: ${signed(mean)} on average over these prompts (the shown responses, n = ${gaps.length.toLocaleString("en")}).` : "";
    const part = P.total > P.id.length ? ` The page holds ${P.id.length.toLocaleString("en")} of ${P.total.toLocaleString("en")} prompts, evenly spaced.` : "";
    return make("p", { class: "notes" }, gain + part);
  }

  // Change what is shown; the address follows, so that it can be passed on.
  function set(change) {
    Object.assign(state, change);
    pageNumber = 0;
    const changed = Object.entries(state).filter(([field, value]) => String(value) !== FIRST[field]);
    history.replaceState(null, "", `#${changed.length ? new URLSearchParams(changed) : "responses"}`);
    controls();
    render();
  }

  function controls() {
    const focused = bar.contains(document.activeElement) ? document.activeElement.name : "";
    const categories = [...new Set(P.category.filter(Boolean))].sort();
    const named = (list) => list.map((m) => [name(m), name(m)]);
    const plain = (values) => values.map((value) => [value, value]);
    const { against: a, model: b } = state;
    const sorts = [["", state.alarm ? "order of the alarm" : "order of the data"],
      ...(R.reward ? [["gain", `largest gain of ${b}`], ["loss", `largest loss of ${b}`]] : []),
      ...(R.gold ? [["gold", `largest loss of ${b} in gold`]] : []),
      ...(R.kl ? [["kl", `largest KL of ${b}`]] : []), ["longer", `${b} is longer`]];
    const judges = DATA.verdicts.map((j, i) => [String(i), `${j.judge} against ${name(j.baseline)}`]);
    const select = (field, label, options) => choice(label, options, state[field], (value) => set({ [field]: value, prompt: "" }), field);
    const entry = (field, type, attributes) => make("input", {
      type, name: field, value: state[field], ...attributes,
      oninput: later((event) => set({ [field]: event.target.value, prompt: "" }), 250),
    });
    const alarm = DATA.alarms.map((one, i) => [String(i), `${name(one.model)}: ${one.title.toLowerCase() || one.kind}`]);
    bar.replaceChildren(...[
      entry("search", "search", { placeholder: "Search prompts and responses", "aria-label": "Search prompts and responses" }),
      categories.length ? select("category", "Category", [["", "all"], ...plain(categories)]) : null,
      select("against", "Compare", named(models)),
      select("model", "with", named(policies.length > 1 ? policies : models)),
      select("sort", "Sort by", sorts),
      alarm.length ? choice("Alarm", [["", "any or none"], ...alarm], state.alarm, (value) => set(ofAlarm(value)), "alarm") : null,
      R.reward ? make("div", { class: "choice" }, make("span", {}, "Reward gain from, to"), make("div", {},
        entry("from", "number", { step: "0.1", "aria-label": "Reward gain at least" }), " ",
        entry("to", "number", { step: "0.1", "aria-label": "Reward gain at most" }))) : null,
      judges.length > 1 ? select("judge", "Judge", judges) : null,
      judges.length ? select("verdict", `Verdict on ${b}`, [["", "any"], ...plain(["won", "lost", "tie", "unread"])]) : null,
      samples.length > 1 ? select("shown", "Shown", samples.map((s) => [s, `seed ${s.split("|")[0]}, sample ${s.split("|")[1]}`])) : null,
      choice("Mark in texts", [["", "nothing"], ["words", `differences from ${a}`], ...(R.kl_levels ? [["kl", "KL of each token"]] : [])], state.mark, (mark) => set({ mark }), "mark"),
    ].filter(Boolean));
    legend.replaceChildren(...(state.mark === "kl" ? shadingLegend() : []));
    const again = bar.querySelector(`[name="${focused}"]`);
    again?.focus();
    if (again?.type === "search") again.setSelectionRange(again.value.length, again.value.length);
  }

  // The view of an alarm: its model against the reference; a judge's has the prompts that the model lost.
  function ofAlarm(number) {
    const alarm = DATA.alarms[number];
    if (!alarm) return { alarm: "", prompt: "" };
    return { ...FIRST, alarm: number, model: name(alarm.model), search: alarm.search, verdict: alarm.kind === "judge" ? "lost" : "" };
  }

  // What the address requests, as far as it is about this list.
  function read() {
    const given = new URLSearchParams(location.hash.slice(1)), fields = [...given.keys()];
    if (!fields.length || !fields.every((field) => field in FIRST)) return;
    if (given.has("prompt") && !P.id.includes(given.get("prompt"))) return;
    set({ ...FIRST, ...(given.has("alarm") ? ofAlarm(given.get("alarm")) : {}), ...Object.fromEntries(given) });
    box.scrollIntoView();
  }

  const bar = make("div", { class: "tools" }), legend = make("div", { class: "legend" }), list = make("div", { class: "prompts" });
  box.replaceChildren(bar, modelButtons(models, hidden, render), legend, list);
  openPrompt = (prompt) => {
    set({ prompt: P.id[prompt] });
    box.scrollIntoView();
  };
  controls();
  render();
  read();
  addEventListener("hashchange", read);
}
