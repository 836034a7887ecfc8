// Each part replaces what reads without a script.

document.documentElement.classList.add("scripted");
for (const box of document.querySelectorAll(".table")) startTable(box);
const PARTS = { tradeoff: startTradeoff, browser: startBrowser, pairs: startMistakes, curves: startCurves };
for (const [id, start] of Object.entries(PARTS)) {
  const box = document.getElementById(id);
  if (box) start(box);
}
followSections(document.querySelector("nav"));

// The section that is read is marked in the navigation, and kept in sight there.
function followSections(nav) {
  const links = new Map([...nav.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver((seen) => {
    const section = seen.filter((one) => one.isIntersecting).at(-1)?.target;
    if (!section) return;
    for (const [id, link] of links) link.ariaCurrent = id === section.id ? "true" : null;
    const link = links.get(section.id), bar = link.parentElement;
    bar.scrollLeft = link.offsetLeft - bar.clientWidth / 2;
    bar.scrollTop = link.offsetTop - bar.clientHeight / 2;
  }, { rootMargin: "-15% 0px -80% 0px" });
  for (const id of links.keys()) watch.observe(document.getElementById(id));
}
