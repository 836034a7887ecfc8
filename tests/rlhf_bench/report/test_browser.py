"""The page in a real Chromium. Skipped where the extra `browser` or /usr/bin/chromium is not there; run with -rs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from rlhf_bench.cli import cli
from rlhf_bench.files import write_jsonl
from rlhf_bench.report import write_report
from rlhf_bench.report.index import write_index
from rlhf_bench.report.result import load_result
from rlhf_bench.store import ResultStore
from rlhf_bench.types import Estimate

from ..judge.attacks import CORPUS
from .make_result import frontier, make_result

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


ALARMS = [
    {"model": "ppo", "kind": "length", "text": "ppo: length may explain the gain"},
    {"model": "ppo", "kind": "reward_without_gold", "text": "ppo: reward up, but gold down"},
]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of which one model wrote the attack corpus, with alarms, a frontier and verdicts in both orders."""
    path = make_result(tmp_path_factory.mktemp("browser") / "r", models=("base", "sft", "ppo"), n_prompts=30)
    store = ResultStore(path)
    texts = [*MARKUP, *CORPUS]
    rows = store.read_responses()
    for number, row in enumerate(row for row in rows if row["model"] == "ppo"):
        row["response"] = texts[number % len(texts)] if number < len(MARKUP) else texts[number * 7 % len(texts)]
    write_jsonl(path / "responses.jsonl", rows)
    turn = {"kl": Estimate(0.3, 0.2, 0.4, 12).to_dict(), "share": 0.9}
    store.write_metrics({**store.read_metrics(), "alarms": ALARMS, "frontier": frontier(turn)})
    ran = CliRunner().invoke(cli, ["judge", "run", str(path), "--judge", "random", "--baseline", "sft"])
    assert ran.exit_code == 0, ran.output
    write_report(path, only=["page"])
    return path


@pytest.fixture(scope="module")
def address(result: Path) -> str:
    return (result / "report.html").as_uri()


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
    assert len(gaps) == 5
    assert gaps == sorted(gaps, reverse=True)
    link = cards.nth(2).get_by_role("link")
    name = link.text_content()
    page.goto(f"{address}#prompt={name}")
    page.get_by_role("button", name="Show all prompts").wait_for()
    assert cards.count() == 1
    assert cards.get_by_role("link").text_content() == name
    page.get_by_role("button", name="Next prompt").click()
    assert cards.get_by_role("link").text_content() != name


def test_a_prompt_is_opened_among_those_that_fit(page: Any) -> None:
    box = page.locator("#browser")
    box.get_by_label("Category").select_option("facts")
    box.locator("article").nth(1).get_by_role("link").click()
    assert box.locator(".pager [role=status]").text_content() == "2 of 10"
    box.get_by_role("button", name="Show all prompts").click()
    assert box.locator(".pager [role=status]").first.text_content() == "1–5 of 10"


def test_a_category_filters_and_pages_turn(page: Any) -> None:
    status = page.locator("#browser .pager [role=status]").first
    assert status.text_content() == "1–5 of 30"
    page.locator("#browser").get_by_role("button", name="Next").first.click()
    assert status.text_content() == "6–10 of 30"
    page.locator("#browser").get_by_label("Category").select_option("facts")
    assert status.text_content() == "1–5 of 10"
    assert page.url.endswith("#category=facts")  # the address can be passed on


def test_the_reward_gap_and_the_verdict_filter(page: Any, result: Path) -> None:
    scores = load_result(result).scores
    shown = scores[scores["sample"] == 0].pivot(index="prompt_id", columns="model", values="reward")
    wanted = ((shown["ppo"] - shown["sft"]) <= 1.0).sum()
    box, status = page.locator("#browser"), page.locator("#browser .pager [role=status]").first
    box.get_by_label("Reward gain at most").fill("1")
    box.get_by_text(f"of {wanted}", exact=False).first.wait_for()
    box.get_by_label("Reward gain at most").fill("")
    box.get_by_text("of 30", exact=False).first.wait_for()
    found = {}
    for verdict in ("won", "lost", "tie"):
        box.get_by_label("Verdict on ppo").select_option(verdict)
        found[verdict] = int(status.text_content().split("of ")[1])
        if found[verdict]:
            judged = box.locator("article").first.locator(".reply:nth-child(3) .judged").text_content()
            assert judged.startswith(f"{verdict} against sft by random (shown first: ")
    assert sum(found.values()) == 30
    assert page.evaluate("['WW', 'LL', 'WL', 'TT', 'W-', '-L', '?W', '--'].map(verdictOf)") == [
        *("won", "lost", "tie", "tie", "won", "lost", "unread", ""),
    ]  # fmt: skip


def test_an_alarm_links_to_the_prompts_behind_it(page: Any, result: Path) -> None:
    """Those on which ppo is longer and has more reward, the longest first."""
    scores = load_result(result).scores.groupby(["prompt_id", "model"])[["n_tokens", "reward"]].mean().unstack()
    change = {name: scores[name]["ppo"] - scores[name]["sft"] for name in ("n_tokens", "reward")}
    behind = change["n_tokens"][(change["n_tokens"] > 0) & (change["reward"] > 0)].sort_values(ascending=False)
    page.locator("#alarms").get_by_role("link", name="Show its rows").first.click()
    box = page.locator("#browser")
    box.get_by_text(f"1–5 of {len(behind)}", exact=True).first.wait_for()
    first = box.locator("article").first
    assert first.get_by_role("link").text_content() == behind.index[0]
    assert f"Tokens of ppo +{behind.iloc[0]:.1f} against sft" in first.locator("header").first.text_content()


def test_the_shade_of_a_token_is_its_kl(page: Any, result: Path) -> None:
    page.get_by_label("Mark in texts").select_option("kl")
    reply = page.locator("#browser article").first.locator(".reply").first  # base
    scores = load_result(result).scores
    row = scores[(scores["model"] == "base") & (scores["sample"] == 0)].iloc[0]
    text = next(r["response"] for r in ResultStore(result).read_responses() if r["model"] == "base")
    tokens = reply.locator(".token").evaluate_all(
        "all => all.map(x => [x.textContent, parseInt(x.style.getPropertyValue('--share'))])"
    )
    assert "".join(token for token, _ in tokens) == text.strip()
    assert len(tokens) == len(row["token_kl"])
    shares = [share for _, share in tokens]
    assert shares[int(np.argmax(row["token_kl"]))] == max(shares)
    assert min(shares) < max(shares) / 2
    assert "nats" in page.locator("#browser .legend").text_content()


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


def test_the_axes_are_reward_gold_and_the_judge_and_layers_are_drawn(page: Any) -> None:
    box = page.locator("#tradeoff")
    assert box.locator(".plot path.curve.optimal").count() == 1
    box.get_by_label("optimal frontier").uncheck()
    assert box.locator(".plot path.curve.optimal").count() == 0
    titles = box.get_by_label("Up").locator("option").all_text_contents()
    assert {"Reward", "Gold", "Win rate against sft by random"} <= set(titles)
    box.get_by_label("Up").select_option(label="Win rate against sft by random")
    labels = box.locator(".model").evaluate_all("all => all.map(x => x.getAttribute('aria-label'))")
    assert [label.split(",")[0] for label in labels] == ["base", "ppo"]
    assert "Win rate against sft by random 0." in labels[1]


def test_a_definition_shows_on_focus_and_numbers_without_it(page: Any) -> None:
    head = page.locator("#summary thead th").nth(1).get_by_role("button")
    page.locator("#summary").get_by_role("button", name="LaTeX").focus()
    for _ in range(20):  # by the keyboard alone
        page.keyboard.press("Tab")
        if head.evaluate("x => x === document.activeElement"):
            break
    tip = page.locator("#tip")
    assert "higher is better" in tip.text_content()
    page.keyboard.press("Enter")
    assert page.locator("#summary thead th").nth(1).get_attribute("aria-sort") == "descending"
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    assert "[" in page.locator("#summary tbody td").first.inner_text()
    assert "n = 30" in page.locator("#summary").inner_text()


def test_columns_are_chosen(page: Any) -> None:
    page.locator("#summary .menu summary").click()
    page.locator("#summary .menu").get_by_label("Gold").uncheck()
    assert not page.locator("#summary thead th[data-key=gold]").is_visible()
    csv = page.evaluate("COPY.CSV(contentsOf(document.querySelector('#summary .table')))")
    assert "gold" not in csv.split("\n")[0]


def test_training_curves_of_several_stages_share_one_axis(page: Any) -> None:
    box = page.locator("#curves")
    names = {label.split(",")[0] for label in
             box.locator(".model").evaluate_all("all => all.map(x => x.getAttribute('aria-label'))")}  # fmt: skip
    assert {"base", "sft"} <= names
    box.get_by_role("button", name="base").click()
    assert box.locator(".model").count() == len(names) - 1


def test_the_manifest_names_each_form_and_the_command(page: Any) -> None:
    manifest = page.locator("#manifest")
    row = manifest.locator("tbody tr", has_text="reward model").first
    assert "checkpoints/mini/seed-0/reward" in row.text_content()
    assert "Assistant:" in manifest.locator("tbody tr").first.text_content()
    assert "rlhf-bench eval --suite hh-test" in manifest.inner_text()


def test_on_paper_there_are_tables_without_tools(page: Any) -> None:
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#summary .tools").is_visible()
    assert page.locator("#summary table").is_visible()
    assert page.locator("#browser article").first.is_visible()
    heading = page.locator("#summary thead button").first
    assert heading.evaluate("button => getComputedStyle(button).display") == "contents"  # printed on every page


def test_the_differences_of_a_mistake_are_marked(page: Any) -> None:
    pair = page.locator("#pairs article").first
    assert pair.locator("ins").all_text_contents() == ["Turn off", "water first."]  # "the" is in both sides
    assert pair.locator("del").count() > 0


def test_rows_of_the_audit_link_to_their_mistakes(page: Any) -> None:
    page.locator("#reward-model tbody").get_by_role("link", name="advice", exact=True).first.click()
    chosen = page.locator("#pairs").get_by_label("Category")
    page.wait_for_function("select => select.value === 'advice'", arg=chosen.element_handle())
    assert page.locator("#pairs .pager [role=status]").text_content() == "1–6 of 11"


def test_mistakes_sort_by_margin_and_are_filtered_by_slice_and_tag(page: Any) -> None:
    """Margins of the fixture: -2.4 + 0.1 k of k = 0..11; every third is in the slice, every second has the tag."""
    pairs = page.locator("#pairs")

    def margins() -> list[str]:
        return [text.split(" · ")[0] for text in pairs.locator("article > header .soft").all_text_contents()]

    assert margins() == [f"margin −{m}" for m in ("2.40", "2.30", "2.20", "2.10", "2.00", "1.90")]
    pairs.get_by_label("Sort mistakes by").select_option("smallest")
    assert margins() == [f"margin −{m}" for m in ("1.30", "1.40", "1.50", "1.60", "1.70", "1.80")]
    pairs.get_by_label("Slice").select_option("more than one turn")
    assert margins() == [f"margin −{m}" for m in ("1.50", "1.80", "2.10", "2.40")]
    pairs.get_by_label("Tag").select_option("less length")
    assert margins() == ["margin −1.50", "margin −2.10"]
    assert "12 of 12" in pairs.locator(".notes").text_content()


def test_no_other_script_runs(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'attacked'";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src=x onerror=document.title='attacked'>");
        }"""
    )
    page.wait_for_timeout(100)
    assert page.title() == "hh-test · r"
    page.close()


@pytest.mark.parametrize(("scheme", "rules"), [("light", {}), ("dark", {"runOnly": ["color-contrast"]})])
def test_axe_finds_nothing_serious(browser: Any, address: str, scheme: str, rules: dict[str, list[str]]) -> None:
    """By every rule in light colours; dark ones change the contrast alone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra `browser` is not installed")
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # axe is a script of its own
    page = context.new_page()
    page.goto(address, timeout=120_000)
    found = axe.Axe().run(page, options={"resultTypes": ["violations"], **rules}).response
    assert len(found["passes"]) > (0 if rules else 20)
    assert [
        (v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in ("serious", "critical")
    ] == []
    context.close()


def test_a_phone_needs_no_scrolling_sideways(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(address, timeout=120_000)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate(
        "for (const choice of document.querySelectorAll('option')) choice.textContent += ' and more'.repeat(20)"
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 390  # long names of slices
    context.close()


def test_without_a_script_tables_and_texts_still_read(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address, timeout=120_000)
    assert page.locator("#summary tbody tr").count() == 5
    assert page.locator("#browser details").count() == 20
    assert MARKUP[0] in page.locator("#browser .reply .text").all_text_contents()
    context.close()


def test_the_index_filters_and_links_to_each_run(browser: Any, tmp_path: Path) -> None:
    for run in ("one", "two"):
        write_report(make_result(tmp_path / "hh-test" / run, models=("base", "ppo"), audit=False), only=["page"])
    page = browser.new_page()
    page.goto(write_index(tmp_path).as_uri())
    board = page.locator("#board-1")
    assert board.locator("tbody tr").count() == 4
    head = board.locator("thead th").nth(1)
    head.get_by_role("button").click()
    head.get_by_role("button").click()
    assert board.locator("tbody td:nth-child(2)").all_text_contents() == ["base", "base", "ppo", "ppo"]
    page.locator("#results").get_by_role("link", name="hh-test/two").click()
    assert page.title() == "hh-test · two"
    page.close()


def test_the_page_for_labels_cuts_no_text_off_on_paper_and_on_a_phone(
    browser: Any, result: Path, tmp_path: Path
) -> None:
    out = tmp_path / "label.html"
    ran = CliRunner().invoke(cli, ["judge", "label", "page", str(result), "--baseline", "sft", "--out", str(out)])
    assert ran.exit_code == 0, ran.output
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(out.as_uri())
    texts = page.locator(".text")
    texts.evaluate_all("all => all.forEach(x => { x.textContent = 'a line\\n'.repeat(300); })")
    cut_off = "all => all.filter(x => x.scrollHeight > x.clientHeight + 1).length"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert texts.evaluate_all(cut_off) == 0
    page.set_viewport_size({"width": 1000, "height": 900})
    assert texts.evaluate_all(cut_off) == 3  # each scrolls by itself on a wide screen
    page.emulate_media(media="print")
    assert texts.evaluate_all(cut_off) == 0
    assert not page.get_by_role("button").count()
    page.close()


def test_two_thousand_prompts_are_listed_a_page_at_a_time(browser: Any, tmp_path: Path) -> None:
    """5 models x 2,000 prompts: what is in the document does not grow with them."""
    models = ("base", "sft", "ppo", "grpo", "dpo")
    path = make_result(tmp_path / "large", models=models, n_prompts=2000, samples=1, audit=False)
    write_report(path, only=["page"])
    page = browser.new_page()
    page.goto((path / "report.html").as_uri())
    page.locator("#browser").get_by_text("1–5 of 2,000", exact=True).first.wait_for()
    assert page.evaluate("document.querySelectorAll('#browser *').length") < 1_000
    page.get_by_label("cloud of prompts").check()
    assert page.locator("#tradeoff .cloud circle").count() == 2_000  # an even selection of 10,000
    page.get_by_label("Sort by").select_option("loss")
    assert page.locator("#browser article").count() == 5
    page.close()
