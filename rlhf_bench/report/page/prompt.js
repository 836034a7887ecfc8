// One prompt with the responses of the models, their numbers and the judges' verdicts.

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

// `view`: the models to show, the two that are compared (a, b), the number of a response, what to mark, the alarm, how to open one.
function promptCard(prompt, view) {
  const { id, text, category } = DATA.prompts, whole = text[prompt].trim(), asked = question(prompt);
  const link = make("a", { href: `#prompt=${encodeURIComponent(id[prompt])}`, title: "A link to this prompt", onclick: (event) => {
    event.preventDefault(); // the filters stay, for the way back
    view.open(prompt);
  } }, id[prompt]);
  const facts = [category[prompt], alarmed(prompt, view)].filter(Boolean).map((fact) => `${fact} · `);
  const head = make("header", {}, make("h3", {}, asked || "(empty prompt)"), make("p", { class: "soft" }, ...facts, link));
  const rest = whole.length > asked.length + 30
    ? make("details", { class: "plain" }, make("summary", {}, "Whole prompt"), make("p", { class: "text soft" }, whole)) : null;
  const replies = view.models.map((model) => [model, view.row(prompt, model)]).filter(([, i]) => i !== undefined);
  return make("article", { class: "prompt" }, head, rest,
    make("div", { class: "replies" }, ...replies.map(([model, i]) => reply(prompt, model, i, view))));
}

// How the number of an alarm changes on this prompt: its mean over samples and seeds.
function alarmed(prompt, { alarm }) {
  const place = alarm?.prompts.indexOf(prompt) ?? -1;
  if (place < 0) return "";
  const [model, reference] = [alarm.model, DATA.reference].map((m) => DATA.models[m].name);
  return `${alarm.title} of ${model} ${signed(alarm.changes[place], alarm.digits)} against ${reference} (mean of its samples)`;
}

function reply(prompt, model, i, view) {
  const R = DATA.responses, base = view.row(prompt, view.a);
  const facts = [];
  const add = (title, column, digits) => {
    const value = R[column]?.[i] ?? null;
    if (value === null) return;
    const from = base === undefined || model === view.a || column === "kl" ? null : R[column][base];
    const change = from === null ? "" : ` (${signed(value - from, digits)})`;
    facts.push(make("span", {}, `${title} ${number(value, digits)}`, make("span", { class: "soft" }, change)));
  };
  add(DATA.reward === "reward" ? "reward" : "reward (z)", "reward", 2);
  add("gold", "gold", 2);
  add("KL", "kl", 2);
  if (R.tokens[i] !== null) facts.push(make("span", {}, `${R.tokens[i]} tokens`));
  if (R.cut[i]) facts.push(make("span", {}, "cut off"));
  return make("div", { class: "reply", style: `--of:${colour(model)}` },
    make("header", {}, make("strong", {}, markerIcon(model), DATA.models[model].name), make("div", { class: "facts-line" }, ...facts)),
    make("p", { class: "text" }, ...textOf(prompt, model, i, view)), ...judged(i));
}

function textOf(prompt, model, i, { a, b, row, mark }) {
  const text = DATA.responses.text[i].trim(), other = row(prompt, model === a ? b : a);
  if (mark === "kl") return shaded(i) ?? [text];
  if (!text) return [make("em", { class: "soft" }, "(empty)")];
  if (mark !== "words" || other === undefined || other === i) return [text];
  return marked(text, DATA.responses.text[other].trim(), model === a ? "del" : "ins");
}

// Both orders of each judge on this response.
function judged(i) {
  return DATA.verdicts.filter((judging) => judging.by[i]).map((judging) => {
    const [one, other] = judging.by[i];
    const both = [`shown first: ${RESULT[one] ?? "not shown"}`, ...(other ? [`shown second: ${RESULT[other] ?? "not shown"}`] : [])];
    return make("p", { class: "soft judged" }, make("strong", {}, verdictOf(judging.by[i])), ` against ${DATA.models[judging.baseline].name} by ${judging.judge} (${both.join(", ")})`);
  });
}
