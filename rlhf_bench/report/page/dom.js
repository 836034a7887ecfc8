"use strict";

// Everything that the page shows comes from here. Texts of models and data are inserted as text nodes, never as markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") node.style.cssText = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function number(value, digits = 2) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

function signed(value, digits = 2) {
  return value === null ? "–" : (value > 0 ? "+" : "") + number(value, digits);
}

// "1.25 [1.10, 1.40], n = 150" of [value, low, high, n]
function estimate(cell, digits) {
  const [value, low, high, n] = cell;
  const interval = low === null || high === null ? "" : ` [${number(low, digits)}, ${number(high, digits)}]`;
  return number(value, digits) + interval + (n ? `, n = ${n}` : "");
}

function colour(model) {
  return `var(--m${model})`;
}

// A select with its label; options are [value, title].
function choice(label, options, value, changed, name = null) {
  const select = make("select", { name, onchange: () => changed(select.value) });
  select.append(...options.map(([key, title]) => make("option", { value: key, selected: key === value }, title)));
  return make("label", { class: "choice" }, make("span", {}, label), select);
}

function tick(label, checked, changed, icon = null) {
  const box = make("input", { type: "checkbox", onchange: () => changed(box.checked) });
  box.checked = checked;
  return make("label", { class: "tick" }, box, icon, label);
}

function later(work, milliseconds = 150) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}

// Buttons of models that can be switched on and off; `hidden` is the set of those that are off.
function modelButtons(models, hidden, changed) {
  const buttons = models.map((model) => {
    const button = make(
      "button",
      { type: "button", class: "chip", "aria-pressed": String(!hidden.has(model)) },
      markerIcon(model),
      DATA.models[model].name,
    );
    button.addEventListener("click", () => {
      if (!hidden.delete(model)) hidden.add(model);
      button.setAttribute("aria-pressed", String(!hidden.has(model)));
      changed();
    });
    return button;
  });
  return make("div", { class: "chips", role: "group", "aria-label": "Models" }, ...buttons);
}

// One line of explanation beside the pointer or the focused element.
const tip = make("div", { id: "tip", "aria-hidden": "true", hidden: true });
document.body.append(tip);

function showTip(lines, x, y) {
  tip.replaceChildren(...lines.map((line, i) => make("div", { class: i ? "" : "first" }, line)));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - width - 12))}px`;
  tip.style.top = `${y + height + 24 > innerHeight ? Math.max(8, y - height - 12) : y + 16}px`;
}

function hideTip() {
  tip.hidden = true;
}

function withTip(node, lines) {
  const shown = (x, y) => {
    const text = lines();
    if (text.length) showTip(text, x, y);
  };
  node.addEventListener("pointermove", (event) => shown(event.clientX, event.clientY));
  node.addEventListener("pointerleave", hideTip);
  node.addEventListener("focus", () => {
    if (!node.matches(":focus-visible")) return;
    const box = node.getBoundingClientRect();
    shown(box.left + box.width / 2, box.bottom - 8);
  });
  node.addEventListener("blur", hideTip);
}
document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
document.addEventListener("scroll", hideTip, { passive: true, capture: true });

// Pages of a long list: only the shown part is in the document.
function pager(total, size, page, go) {
  const last = Math.max(0, Math.ceil(total / size) - 1);
  const step = (label, to, off) => make("button", { type: "button", disabled: off, onclick: () => go(to) }, label);
  const from = total ? page * size + 1 : 0;
  return make(
    "div",
    { class: "pager" },
    step("‹ Previous", page - 1, page <= 0),
    make("span", { role: "status" }, `${from}–${Math.min(total, (page + 1) * size)} of ${total.toLocaleString("en")}`),
    step("Next ›", page + 1, page >= last),
  );
}
