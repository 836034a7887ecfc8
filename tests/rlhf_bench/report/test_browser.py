"""The page in a real Chromium. Skipped where the extra `browser` or /usr/bin/chromium is not there; run with -rs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf_bench.files import write_jsonl
from rlhf_bench.report import write_report
from rlhf_bench.store import ResultStore

from ..judge.attacks import CORPUS
from .make_result import make_result

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
MARKUP = [
    "</script><script>document.title = 'attacked'</script>",
    "<img src=x onerror=\"document.title='attacked'\">",
    "<!--<script>",
    "\u2028\u2029 <svg onload=document.title='attacked'>",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A result of which one model wrote the attack corpus."""
    path = make_result(tmp_path_factory.mktemp("browser") / "r", models=("base", "sft", "ppo"), n_prompts=30)
    store = ResultStore(path)
    texts = [*MARKUP, *CORPUS]
    rows = store.read_responses()
    for number, row in enumerate(row for row in rows if row["model"] == "ppo"):
        row["response"] = texts[number % len(texts)] if number < len(MARKUP) else texts[number * 7 % len(texts)]
    write_jsonl(path / "responses.jsonl", rows)
    write_report(path, only=["page"])
    return (path / "report.html").as_uri()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The opened page, which must not fail, load anything or refuse a script of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    found, problems = context.new_page(), []
    found.set_default_timeout(40_000)
    found.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("request", lambda request: problems.append(request.url) if request.url != address else None)
    found.goto(address)
    yield found
    assert [problem for problem in problems if not problem.startswith(("data:", address))] == []
    context.close()


def test_texts_of_models_stay_text(page: Any) -> None:
    shown = page.locator("#browser .reply .text").all_text_contents()
    assert MARKUP[0] in shown  # the first prompt's response of ppo, sample 0
    page.get_by_role("searchbox", name="Search prompts and responses").fill("attacked'</")
    page.locator("#browser").get_by_text("1–3 of 3", exact=True).first.wait_for()
    assert page.title() == "hh-test · r"
    assert page.locator("#browser img, #browser script").count() == 0


def test_prompts_sort_by_the_reward_gap_and_open_by_a_link(page: Any, address: str) -> None:
    page.get_by_label("Sort by").select_option("gain")
    cards = page.locator("#browser article")
    gaps = [float(text.split("(")[1].strip("+)").replace("−", "-"))
            for text in cards.locator(".reply:nth-child(3) .facts-line span:first-child").all_text_contents()
            if text.startswith("reward")]  # fmt: skip
    assert len(gaps) == 8
    assert gaps == sorted(gaps, reverse=True)
    link = cards.nth(2).get_by_role("link")
    name = link.text_content()
    page.goto(f"{address}#prompt={name}")
    page.get_by_role("button", name="Show all prompts").wait_for()
    assert cards.count() == 1
    assert cards.get_by_role("link").text_content() == name


def test_a_category_filters_and_pages_turn(page: Any) -> None:
    status = page.locator("#browser .pager [role=status]").first
    assert status.text_content() == "1–8 of 30"
    page.locator("#browser").get_by_role("button", name="Next").first.click()
    assert status.text_content() == "9–16 of 30"
    page.locator("#browser").get_by_label("Category").select_option("facts")
    assert status.text_content() == "1–8 of 10"


def test_a_table_sorts_by_its_numbers(page: Any) -> None:
    head = page.locator("#summary thead th").nth(1)
    head.get_by_role("button").click()
    values = [
        float(v) for v in page.locator("#summary tbody td:nth-child(2)").evaluate_all("c => c.map(x => x.dataset.v)")
    ]
    assert head.get_attribute("aria-sort") == "descending"
    assert values == sorted(values, reverse=True)
    assert values[0] != values[-1]


def test_a_table_is_copied_as_it_is_shown(page: Any) -> None:
    text = page.evaluate("COPY.Markdown(contentsOf(document.querySelector('#summary .table')))")
    lines = text.split("\n")
    assert lines[0].startswith("| Model | Reward ↑ | Gold ↑ |")
    assert lines[2].startswith("| base | −")
    csv = page.evaluate("COPY.CSV(contentsOf(document.querySelector('#summary .table')))").split("\n")
    assert csv[0].startswith("model,reward,reward_low,reward_high,reward_n,gold,")
    assert len(lines) == len(csv) + 1 == 7
    assert "\\toprule" in page.evaluate("COPY.LaTeX(contentsOf(document.querySelector('#summary .table')))")


def test_a_model_of_the_plot_is_named_on_focus_and_can_be_hidden(page: Any) -> None:
    points = page.locator("#tradeoff .model")
    labels = [points.nth(i).get_attribute("aria-label") for i in range(points.count())]
    assert [label.split(",")[0] for label in labels] == ["base", "sft", "ppo"]
    assert "KL 0.00 [0.00, 0.00]" in labels[1]
    page.locator("#tradeoff").get_by_role("button", name="base").click()
    assert points.count() == 2
    page.get_by_label("cloud of prompts").check()
    assert page.locator("#tradeoff .cloud circle").count() == 60
    page.locator("#tradeoff .cloud circle").first.dispatch_event("click")
    page.get_by_role("button", name="Show all prompts").wait_for()


def test_the_differences_of_a_mistake_are_marked(page: Any) -> None:
    pair = page.locator("#pairs article").first
    assert pair.locator("ins").all_text_contents() == ["Turn off", "water first."]  # "the" is in both sides
    assert pair.locator("del").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, address: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra `browser` is not installed")
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # axe is a script of its own
    page = context.new_page()
    page.goto(address, timeout=120_000)
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 20
    assert [
        (v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in ("serious", "critical")
    ] == []
    context.close()


def test_a_phone_needs_no_scrolling_sideways(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(address, timeout=120_000)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def test_without_a_script_tables_and_texts_still_read(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address, timeout=120_000)
    assert page.locator("#summary tbody tr").count() == 5
    assert page.locator("#browser details").count() == 20
    assert MARKUP[0] in page.locator("#browser .reply .text").all_text_contents()
    context.close()
