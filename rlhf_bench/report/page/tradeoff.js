// Reward against KL: models with their intervals, seeds, the cloud of prompts, the front, best of n, the frontier.

const MOST_PROMPTS = 2000; // points of the cloud; of more an even selection is drawn

function startTradeoff(box) {
  const axes = DATA.axes;
  const has = (axis) => axis.cells.filter(Boolean).length;
  const [first, second] = [axes.find((axis) => axis.key === "kl_exact" && has(axis)), axes.find((axis) => axis.key !== "kl_exact" && has(axis))];
  if (!second) return;
  const state = { x: (first ?? second).key, y: (axes.find((a) => a.key === DATA.reward && has(a)) ?? second).key, hidden: new Set(), log: null };
  const layers = new Set(["front", ...DATA.layers.map((layer) => layer.name), ...(DATA.seeds.length > 1 ? ["seeds"] : [])]);
  const plot = make("div", { class: "plot" }), note = make("p", { class: "notes", role: "status" });
  const axis = (key) => axes.find((a) => a.key === key);
  const render = () => {
    note.textContent = drawTradeoff(plot, axis(state.x), axis(state.y), state, layers);
  };
  const options = axes.filter(has).map((a) => [a.key, a.title]);
  const switched = (name) => (on) => {
    if (on) layers.add(name);
    else layers.delete(name);
    render();
  };
  const models = DATA.models.map((_, i) => i).filter((i) => axes.some((a) => a.cells[i]));
  const layerTicks = [
    tick("Pareto front", true, switched("front"), lineIcon("front")),
    ...[...new Map(DATA.layers.map((layer) => [layer.name, layer.kind]))].map(([name, kind]) => tick(name, true, switched(name), lineIcon(`curve ${kind}`))),
    ...(DATA.seeds.length > 1 ? [tick("each seed", true, switched("seeds"))] : []),
    tick("cloud of prompts", false, switched("cloud")),
    tick("log scale", isFar(axis(state.x), state), (on) => { state.log = on; render(); }),
  ];
  box.replaceChildren(
    make("div", { class: "tools" },
      choice("Across", options, state.x, (key) => { state.x = key; render(); }),
      choice("Up", options, state.y, (key) => { state.y = key; render(); }),
      ...layerTicks),
    modelButtons(models, state.hidden, render), plot, note);
  render();
  addEventListener("resize", later(render));
}

function lineIcon(kind) {
  return draw("svg", { width: 22, height: 10, viewBox: "0 0 22 10", "aria-hidden": "true" }, draw("path", { d: "M0 5L22 5", class: kind }));
}

// One model far away must not press the others together: then the axis is logarithmic from the median on.
function isFar(axis, state) {
  const values = axis.cells.filter((c, i) => c && c[0] > 0 && !state.hidden.has(i)).map((c) => c[0]).sort((a, b) => a - b);
  return values.length > 2 && values.at(-1) > 8 * values[Math.floor(values.length / 2)];
}

function drawTradeoff(box, across, up, state, layers) {
  const models = DATA.models.map((_, i) => i).filter((i) => across.cells[i] && up.cells[i] && !state.hidden.has(i));
  const cloud = layers.has("cloud") ? cloudOf(across, up, models) : [];
  const curves = across.key === "kl_exact" ? DATA.layers.filter((l) => l.y === up.key && layers.has(l.name)) : [];
  const range = (axis, j) => [
    ...models.flatMap((i) => axis.cells[i].slice(0, 3)),
    ...cloud.map((point) => point[j]),
    ...curves.flatMap((l) => l.points.flatMap((p) => (j ? p.slice(1, 4) : [p[0]]))),
  ];
  const positive = models.map((i) => across.cells[i][0]).filter((v) => v > 0).sort((a, b) => a - b);
  const threshold = (state.log ?? isFar(across, state)) && positive.length ? positive[Math.floor(positive.length / 2)] : 0;
  const { x, y, at, width } = chart(box, {
    xs: range(across, 0), ys: range(up, 1), threshold,
    xLabel: across.label, yLabel: up.label, title: `${up.title} against ${across.title}`,
  });
  drawCloud(at, cloud, across, up, x, y);
  for (const layer of curves) drawLayer(at, layer, up, x, y);
  if (layers.has("front") && across.key === "kl_exact") drawFront(at, (DATA.fronts[up.key] ?? []).filter((i) => models.includes(i)), across, up, x, y);
  const placed = [];
  for (const i of models) {
    if (layers.has("seeds")) placed.push(...drawSeeds(at, i, across, up, x, y));
    drawModel(at, i, across, up, x, y);
    placed.push({ x: x(across.cells[i][0]), y: y(up.cells[i][0]), width: 12, height: 12 });
  }
  for (const i of models) drawName(at, i, x(across.cells[i][0]), y(up.cells[i][0]), placed, width);
  return cloud.length
    ? `${cloud.length.toLocaleString("en")} points, each the mean of a model's responses to one prompt; choose one to read them.`
    : "";
}

function drawModel(at, i, across, up, x, y) {
  const [[vx, lx, hx], [vy, ly, hy]] = [across.cells[i], up.cells[i]];
  const lines = [DATA.models[i].name, `${across.title} ${estimate(across.cells[i], across.digits)}`, `${up.title} ${estimate(up.cells[i], up.digits)}`];
  const arms = draw("g", { style: `stroke:${colour(i)}`, "stroke-width": 1.3 });
  if (lx !== null) arms.append(draw("line", { x1: x(lx), x2: x(hx), y1: y(vy), y2: y(vy) }));
  if (ly !== null) arms.append(draw("line", { x1: x(vx), x2: x(vx), y1: y(ly), y2: y(hy) }));
  const group = draw("g", { tabindex: 0, role: "img", class: "model", "aria-label": lines.join(", ") },
    draw("circle", { cx: x(vx), cy: y(vy), r: 14, fill: "transparent" }), arms, marker(i, x(vx), y(vy)));
  withTip(group, () => lines);
  at.append(group);
}

function drawSeeds(at, i, across, up, x, y) {
  return DATA.seeds.flatMap((seed, k) => {
    const [vx, vy] = [across.seeds[k]?.[i] ?? null, up.seeds[k]?.[i] ?? null];
    if (vx === null || vy === null) return [];
    const point = draw("g", {}, marker(i, x(vx), y(vy), 3.4, true));
    withTip(point, () => [`${DATA.models[i].name}, seed ${seed}`, `${across.title} ${number(vx, across.digits)}`, `${up.title} ${number(vy, up.digits)}`]);
    at.append(point);
    return [{ x: x(vx), y: y(vy), width: 8, height: 8 }];
  });
}

// The name beside its point, where it covers neither a point nor another name.
function drawName(at, i, px, py, placed, width) {
  const text = draw("text", { class: "name", style: `fill:${colour(i)}` }, DATA.models[i].name);
  at.append(text);
  const w = text.getComputedTextLength() + 4, h = 15;
  const spots = [11, 18, 27].flatMap((r) => [[r, 4], [r * 0.7, -r * 0.8], [r * 0.7, r * 0.9 + 8], [-r - w, 4], [-r * 0.7 - w, -r * 0.8], [-r * 0.7 - w, r * 0.9 + 8], [-w / 2, -r], [-w / 2, r + 10]]);
  const clash = ([dx, dy]) => {
    const box = { x: px + dx + w / 2, y: py + dy - 5, width: w, height: h };
    const outside = px + dx < 60 || px + dx + w > width;
    return outside * 4 + placed.filter((o) => Math.abs(o.x - box.x) < (o.width + box.width) / 2 && Math.abs(o.y - box.y) < (o.height + box.height) / 2).length;
  };
  const best = spots.reduce((a, b) => (clash(b) < clash(a) ? b : a));
  fill(text, { x: px + best[0], y: py + best[1] }, []);
  placed.push({ x: px + best[0] + w / 2, y: py + best[1] - 5, width: w, height: h });
}

function drawFront(at, front, across, up, x, y) {
  if (front.length < 2) return;
  const corners = front.map((i) => [x(across.cells[i][0]), y(up.cells[i][0])]).sort((a, b) => a[0] - b[0]);
  const steps = corners.flatMap(([cx, cy], i) => (i ? [[cx, corners[i - 1][1]], [cx, cy]] : [[cx, cy]]));
  at.append(draw("path", { d: path(steps), class: "front", "aria-hidden": "true" }));
}

function drawLayer(at, layer, up, x, y) {
  const band = layer.points.filter((p) => p[2] !== null);
  const outline = [...band.map((p) => [x(p[0]), y(p[2])]), ...band.reverse().map((p) => [x(p[0]), y(p[3])])];
  if (outline.length) at.append(draw("path", { d: `${path(outline)}Z`, class: "band", "aria-hidden": "true" }));
  at.append(draw("path", { d: path(layer.points.map((p) => [x(p[0]), y(p[1])])), class: `curve ${layer.kind}`, "aria-hidden": "true" }));
  for (const [kl, ...cell] of layer.points) {
    const label = cell.pop(), dot = draw("circle", { cx: x(kl), cy: y(cell[0]), r: layer.kind === "optimal" ? 7 : 3, class: `dot ${layer.kind}` });
    withTip(dot, () => [label, `KL ${number(kl)}`, `${up.title} ${estimate(cell, up.digits)}`]);
    at.append(dot);
  }
}

// [x, y, model, prompt] of each model's mean over a prompt's responses; none where an axis is no number of responses.
function cloudOf(across, up, models) {
  const columns = [across, up].map((axis) => axis.column && DATA.responses[axis.column]);
  if (!columns[0] || !columns[1]) return [];
  const sums = new Map(), { model, prompt } = DATA.responses, count = DATA.prompts.id.length, shown = new Set(models);
  for (let i = 0; i < model.length; i++) {
    const a = columns[0][i], b = columns[1][i];
    if (a === null || b === null || !shown.has(model[i])) continue;
    const key = model[i] * count + prompt[i], sum = sums.get(key);
    if (sum) { sum[0] += a; sum[1] += b; sum[2] += 1; }
    else sums.set(key, [a, b, 1]);
  }
  const points = [...sums].map(([key, [a, b, n]]) => [a / n, b / n, Math.floor(key / count), key % count]);
  const every = Math.max(1, points.length / MOST_PROMPTS);
  return Array.from({ length: Math.floor(points.length / every) }, (_, i) => points[Math.floor(i * every)]);
}

function drawCloud(at, cloud, across, up, x, y) {
  if (!cloud.length) return;
  const group = draw("g", { class: "cloud", "aria-hidden": "true" });
  cloud.forEach(([a, b, model], i) => group.append(draw("circle", { cx: x(a).toFixed(1), cy: y(b).toFixed(1), r: 3.2, "data-i": i, style: `fill:${colour(model)}` })));
  const point = (event) => cloud[event.target.dataset?.i];
  group.addEventListener("click", (event) => point(event) && openPrompt(point(event)[3]));
  group.addEventListener("pointermove", (event) => {
    if (!point(event)) return;
    const [a, b, model, prompt] = point(event);
    showTip([DATA.models[model].name, `${across.title} ${number(a, across.digits)}, ${up.title} ${number(b, up.digits)}`, question(prompt)], event.clientX, event.clientY);
  });
  group.addEventListener("pointerleave", hideTip);
  at.append(group);
}
