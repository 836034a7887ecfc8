// The KL of each token as the shade behind it: the darker, the more.

const LEVELS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"; // as in responses.py

// A response's tokens with their KL, or null where they are not known. Lengths count code points.
function shaded(i) {
  const R = DATA.responses, levels = R.kl_levels[i], lengths = R.kl_lengths[i];
  if (!levels) return null;
  const characters = [...R.text[i]];
  let from = 0;
  const tokens = [...levels].map((level, j) => {
    const share = LEVELS.indexOf(level) / (LEVELS.length - 1), to = from + LEVELS.indexOf(lengths[j]);
    const text = characters.slice(from, to).join("");
    from = to;
    const after = !text && from === characters.length; // drawn after the text: end of text, or a stop string
    const about = [`Token ${j + 1}${after ? ", after the text" : ""}`, `KL about ${number(share ** 2 * R.kl_max, 3)} nats`];
    const node = make("span", { class: after ? "token after" : "token", style: `--share:${(70 * share).toFixed(0)}%` }, after ? "■" : j ? text : text.trimStart());
    withTip(node, () => about);
    return node;
  });
  return [...tokens, characters.slice(from).join("")];
}

function shadingLegend() {
  const most = DATA.responses.kl_max, at = [0, 0.25, 0.5, 0.75, 1];
  return [
    make("span", {}, "KL of each token to the reference, nats:"),
    ...at.map((share) => make("span", { class: "token", style: `--share:${70 * share}%` }, `${share === 1 ? "≥ " : ""}${number(share ** 2 * most, share ? 2 : 0)}`)),
    make("span", { class: "soft" }, "■ a token after the text, such as its end"),
  ];
}
