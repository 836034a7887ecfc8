// Scales, axes and markers of the page's own drawings.

const CORNERS = {
  s: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
  D: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
  d: [[0, -1.3], [0.8, 0], [0, 1.3], [-0.8, 0]],
  "^": [[0, -1.2], [1.15, 0.95], [-1.15, 0.95]],
  v: [[0, 1.2], [1.15, -0.95], [-1.15, -0.95]],
  "<": [[-1.2, 0], [0.95, -1.15], [0.95, 1.15]],
  ">": [[1.2, 0], [-0.95, -1.15], [-0.95, 1.15]],
  P: [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2],
      [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]],
  X: [[-0.6, -1.15], [0, -0.55], [0.6, -1.15], [1.15, -0.6], [0.55, 0], [1.15, 0.6], [0.6, 1.15], [0, 0.55],
      [-0.6, 1.15], [-1.15, 0.6], [-0.55, 0], [-1.15, -0.6]],
  p: around(5, 1.2),
  h: around(6, 1.2),
  "*": around(10, 1.45, 0.6),
};

// Corners on a circle, every second one at `inner` of the radius.
function around(corners, radius, inner = 1) {
  return Array.from({ length: corners }, (_, i) => {
    const r = radius * (i % 2 ? inner : 1), angle = (2 * Math.PI * i) / corners;
    return [r * Math.sin(angle), -r * Math.cos(angle)];
  });
}

function marker(model, x, y, size = 6, hollow = false) {
  const look = DATA.models[model], filled = look.filled && !hollow;
  const style = `fill:${filled ? colour(model) : "var(--card)"};stroke:${filled ? "var(--card)" : colour(model)}`;
  const corners = CORNERS[look.marker];
  if (!corners) return draw("circle", { cx: x, cy: y, r: size * 1.05, style, "stroke-width": 1.4 });
  const points = corners.map(([dx, dy]) => `${(x + dx * size).toFixed(1)},${(y + dy * size).toFixed(1)}`).join(" ");
  return draw("polygon", { points, style, "stroke-width": 1.4 });
}

function markerIcon(model) {
  return draw("svg", { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" }, marker(model, 7, 7, 4.4));
}

// A scale from numbers to pixels; linear, or linear to `threshold` and logarithmic from there on.
function scale(low, high, from, to, threshold = 0) {
  const bend = (v) => (threshold && Math.abs(v) > threshold ? Math.sign(v) * (1 + Math.log10(Math.abs(v) / threshold)) : v / (threshold || 1));
  const span = bend(high) - bend(low) || 1;
  const at = (v) => from + ((bend(v) - bend(low)) / span) * (to - from);
  at.ticks = threshold ? logTicks(low, high, threshold) : ticks(low, high, Math.abs(to - from) / 70);
  return at;
}

function ticks(low, high, count) {
  const rough = (high - low || 1) / Math.max(2, count), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((m) => m * power >= rough) * power;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return found;
}

function logTicks(low, high, threshold) {
  const found = [0];
  for (let power = -6; power < 7; power++) found.push(...[1, 2, 5].map((m) => m * 10 ** power));
  return found.filter((v) => v >= low && v <= high && (v === 0 || v > threshold / 4));
}

function tickText(value) {
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

// An empty drawing with both axes: {svg, x, y, at (where marks go)}; null ranges become 0 to 1.
function chart(box, { xs, ys, xLabel, yLabel, threshold = 0, height = 430, title }) {
  const width = Math.max(300, Math.min(1130, box.clientWidth || 760));
  const pad = { left: 58, right: 18, top: 14, bottom: 48 };
  const padded = (values, by) => {
    const known = values.filter((v) => v !== null && Number.isFinite(v));
    const low = known.length ? Math.min(...known) : 0, high = known.length ? Math.max(...known) : 1;
    const extra = (high - low || Math.abs(high) || 1) * by;
    return [low - extra, high + extra];
  };
  const [left, right] = padded(xs, 0.05), [bottom, top] = padded(ys, 0.08);
  const x = scale(left, threshold ? right * 1.15 : right, pad.left, width - pad.right, threshold);
  const y = scale(bottom, top, height - pad.bottom, pad.top);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": title });
  const grid = draw("g", { class: "grid", "aria-hidden": "true" });
  for (const v of x.ticks) {
    grid.append(draw("line", { x1: x(v), x2: x(v), y1: pad.top, y2: height - pad.bottom }));
    grid.append(draw("text", { x: x(v), y: height - pad.bottom + 17, "text-anchor": "middle" }, tickText(v)));
  }
  for (const v of y.ticks) {
    grid.append(draw("line", { x1: pad.left, x2: width - pad.right, y1: y(v), y2: y(v) }));
    grid.append(draw("text", { x: pad.left - 8, y: y(v) + 4, "text-anchor": "end" }, tickText(v)));
  }
  const middle = (pad.top + height - pad.bottom) / 2;
  grid.append(draw("text", { class: "label", x: (pad.left + width - pad.right) / 2, y: height - 10, "text-anchor": "middle" }, xLabel));
  grid.append(draw("text", { class: "label", transform: `rotate(-90 15 ${middle})`, x: 15, y: middle, "text-anchor": "middle" }, yLabel));
  const at = draw("g");
  svg.append(grid, at);
  box.replaceChildren(svg);
  return { svg, x, y, at, width, height, pad };
}

function path(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}
