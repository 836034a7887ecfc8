// Training curves of all stages on one axis.

function startCurves(box) {
  const state = { panel: 0, share: "steps", hidden: new Set() };
  const plot = make("div", { class: "plot" });
  const models = [...new Set(DATA.curves.flatMap((panel) => panel.lines.map((line) => line.model)))];
  const render = () => {
    const panel = DATA.curves[state.panel], lines = panel.lines.filter((line) => !state.hidden.has(line.model));
    const xOf = (line) => (state.share === "share" ? line.step.map((s) => s / line.step.at(-1)) : line.step);
    const { x, y, at } = chart(plot, {
      xs: [0, ...lines.flatMap(xOf)], ys: lines.flatMap((line) => line.value), height: 340,
      xLabel: state.share === "share" ? "share of the stage" : "step", yLabel: panel.label, title: panel.label,
    });
    for (const line of lines) {
      const points = xOf(line).map((v, i) => [x(v), y(line.value[i])]);
      const label = [`${DATA.models[line.model].name}, seed ${line.seed}`, `from ${number(line.value[0], 3)} to ${number(line.value.at(-1), 3)}`];
      const group = draw("g", { tabindex: 0, role: "img", class: "model", "aria-label": label.join(", ") },
        draw("path", { d: path(points), class: "line hit" }), draw("path", { d: path(points), class: "line", style: `stroke:${colour(line.model)}` }));
      withTip(group, () => label);
      at.append(group);
    }
  };
  box.replaceChildren(
    make("div", { class: "tools" },
      choice("Number", DATA.curves.map((panel, i) => [String(i), panel.label]), "0", (i) => { state.panel = Number(i); render(); }),
      choice("Across", [["steps", "steps"], ["share", "share of the stage"]], "steps", (v) => { state.share = v; render(); })),
    modelButtons(models, state.hidden, render), plot);
  render();
  addEventListener("resize", later(render));
}
