// Each part replaces what reads without a script.

document.documentElement.classList.add("scripted");
for (const box of document.querySelectorAll(".table")) startTable(box);
const PARTS = { tradeoff: startTradeoff, browser: startBrowser, pairs: startMistakes, curves: startCurves };
for (const [id, start] of Object.entries(PARTS)) {
  const box = document.getElementById(id);
  if (box) start(box);
}
