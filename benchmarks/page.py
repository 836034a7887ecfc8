"""The size of a result's page with more and more prompts, and how long a browser takes to show it and to scroll it.

    python benchmarks/page.py results/hh-test/default 150 2000

The responses and scores of the first seed are repeated under new prompts until there are as many; tables and plots stay
those of the result. Needs the extra `browser` and /usr/bin/chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd
from playwright.sync_api import Page, sync_playwright

from rlhf_bench.report import write_report
from rlhf_bench.store import ResultStore

LONGEST = """
const longer = (one) => (window.longest = Math.max(window.longest ?? 0, one.duration));
new PerformanceObserver((seen) => seen.getEntries().forEach(longer)).observe({ type: "longtask", buffered: true });
"""
SCROLLED = """
async () => {
  const gaps = [], height = document.body.scrollHeight;
  let last = performance.now();
  for (let y = 0; y < height; y += 400) {
    scrollTo(0, y);
    await new Promise(requestAnimationFrame);
    gaps.push(performance.now() - last);
    last = performance.now();
  }
  return Math.max(...gaps);
}
"""


def repeated(result: Path, prompts: int, to: Path) -> Path:
    """A copy of the result's first seed with that many prompts."""
    shutil.copytree(result, to, ignore=shutil.ignore_patterns("report.html", "responses.jsonl", "scores.parquet"))
    store, copy = ResultStore(result), ResultStore(to)
    manifest = store.read_manifest()
    seed = manifest["seeds"][0]
    rows = [row for row in store.read_responses() if row["seed"] == seed]
    scores = store.read_scores()
    scores = scores[scores["seed"] == seed]
    ids = list(dict.fromkeys(row["prompt_id"] for row in rows))
    times = -(-prompts // len(ids))
    new = {name: [f"{name}-{k}" for k in range(times) if k * len(ids) + i < prompts] for i, name in enumerate(ids)}
    copy.write_manifest({**manifest, "seeds": [seed]})
    copy.write_responses({**row, "prompt_id": name} for row in rows for name in new[row["prompt_id"]])
    parts = [scores.assign(prompt_id=scores["prompt_id"].map(lambda one, k=k: f"{one}-{k}")) for k in range(times)]
    table = pd.concat(parts)
    copy.write_scores(table[table["prompt_id"].isin({name for names in new.values() for name in names})])
    return to


def measured(page: Page, file: Path) -> dict[str, float]:
    """Milliseconds: the first paint, the script's end, the longest task by then, when sorting, and while scrolling."""
    page.add_init_script(LONGEST)
    page.goto(file.as_uri(), wait_until="load")
    page.locator("#browser article").first.wait_for()
    found = {
        "first paint": page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"),
        "loaded": page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"),
        "longest task of loading": page.evaluate("window.longest ?? 0"),
    }
    for what, act in (
        ("longest task of sorting", lambda: page.get_by_label("Sort by").select_option("gain")),
        (
            "longest task of turning a page",
            lambda: page.locator("#browser").get_by_role("button", name="Next").first.click(),
        ),
        ("longest task of the cloud of prompts", lambda: page.get_by_label("cloud of prompts").check()),
    ):
        page.evaluate("window.longest = 0")
        act()
        page.wait_for_timeout(300)
        found[what] = page.evaluate("window.longest")  # below 50 ms no task is reported
    found["longest frame of scrolling"] = page.evaluate(SCROLLED)
    return found


def main(result: str, *counts: str) -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for prompts in map(int, counts or ("150", "2000")):
            path = repeated(Path(result), prompts, Path(folder) / str(prompts))
            write_report(path, only=["page"])
            file = path / "report.html"
            tokens = ResultStore(path).read_scores()["n_tokens"].mean()
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            times = measured(browser.new_page(), file)
            browser.close()
            print(f"{prompts:,} prompts, {tokens:.0f} tokens a response: {file.stat().st_size / 1e6:.2f} MB")
            print("\n".join(f"  {what}: {value:.0f} ms" for what, value in times.items()))


if __name__ == "__main__":
    main(*sys.argv[1:])
