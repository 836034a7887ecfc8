"""The whole report: plots, the page, and that drawing twice gives the same bytes."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import matplotlib as mpl
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from rlhf_bench.errors import StoreError, UnknownName
from rlhf_bench.files import exclusive
from rlhf_bench.report import write_report
from rlhf_bench.report.contents import draw, plots
from rlhf_bench.report.plots.curves import STAGE_PANELS, plot_training_curve, running_mean, stage_of, values_of
from rlhf_bench.report.plots.style import looks
from rlhf_bench.report.result import known, load_result
from rlhf_bench.store import ResultStore

from .make_result import MODELS, log_rows, make_result


@pytest.fixture(scope="module")
def page(one_seed: Path) -> str:
    write_report(one_seed)
    return (one_seed / "report.html").read_text("utf-8")


def test_reward_vs_kl_names_the_front_and_draws_both_intervals(one_seed: Path) -> None:
    figure = draw(load_result(one_seed), "reward_vs_kl")
    assert figure is not None
    axes = figure.axes[0]
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["Pareto front (more reward, less KL): sft, bon-16, grpo, ppo"]
    assert axes.get_xlabel() == "KL to sft (exact, nats per response)"
    assert axes.get_title(loc="left") == "Reward against KL · hh-mini (test)"
    assert len(axes.containers) == len(MODELS)  # an error bar a model; dataset responses have no KL
    for container in axes.containers:
        assert container.has_xerr  # type: ignore[attr-defined]
        assert container.has_yerr  # type: ignore[attr-defined]


def test_labels_do_not_overlap(three_seeds: Path) -> None:
    for name in ("reward_vs_kl", "gold_vs_kl", "gold_vs_reward"):
        figure = draw(load_result(three_seeds), name)
        assert figure is not None
        figure.draw_without_rendering()
        boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
        assert len(boxes) >= len(MODELS)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]), name


def test_every_model_has_its_own_look() -> None:
    names = [*MODELS, "chosen", "rejected", "other"]
    found = looks(names)
    assert len({look.colour for look in found.values()}) == len(names)
    assert len({look.marker for look in found.values()}) == len(names)  # readable in grey
    assert found["dpo"] == looks(["dpo"])["dpo"]  # whatever else is on the plot


def test_redrawing_gives_the_same_bytes(page: str, one_seed: Path) -> None:
    kinds = {".md", ".csv", ".tex", ".svg", ".png", ".html"}
    before = {p: p.read_bytes() for p in one_seed.rglob("*") if p.suffix in kinds}
    # gold_vs_sqrt_kl is for curves of checkpoints, held_out_vs_reward for several seeds, suite_metrics for own metrics,
    # win_rates and judge_ratings for judges, gain_parts for a gain in parts, three for an audit with an examination
    drawn = len(plots()) - 9
    assert len([path for path in before if path.parent.name == "plots"]) == 2 * drawn
    after = {p: p.read_bytes() for p in write_report(one_seed) if p.suffix in kinds}
    assert [p.name for p in before if after[p] != before[p]] == []


def test_the_page_requests_nothing_from_the_network(page: str) -> None:
    images = re.findall(r'src="(data:image/[^"]*)"', page)
    assert len(images) == len(plots()) - 9
    for drawing in (unquote(image) for image in images if "svg" in image[:20]):
        inner = re.findall(r"(?:src|href)\s*=\s*'([^']*)|url\(([^)]*)", drawing)
        assert all((href or url).startswith(("#", "data:")) for href, url in inner)  # its own letters, clips and pixels
    rest = re.sub(r'src="data:image/[^"]*"', "", page)
    addresses = re.findall(r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']([^"']*)""", rest)
    assert addresses
    assert {address[:1] for address in addresses} == {"#"}
    assert "url(" not in rest
    assert "@import" not in page
    assert "default-src 'none'" in page
    for target in re.findall(r'href="#([^"]*)"', page):
        assert f'id="{target}"' in page


def test_page_escapes_what_models_wrote(page: str) -> None:
    assert page.count("<script") == 2  # the data and the page's own
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page  # read without a script
    assert "\\u003cscript\\u003ealert('x')\\u003c/script\\u003e" in page  # in the data


def test_page_holds_every_section(page: str) -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Summary",
        "Explore",
        "Responses",
        "Plots",
        "Pairwise differences",
        "Gold reward and its components",
        "Training",
        "Reward model",
        "Mistakes",
        "Not available",
        "Manifest",
    ]
    assert page.count('class="arrow" title=') >= 4
    assert "Too sure by" in page
    assert "unseen categories" in page
    assert "it is the text that others are compared with" in page


def test_several_seeds_are_shown_one_by_one(three_seeds: Path) -> None:
    write_report(three_seeds, only=["page"])  # no plots yet: the page is drawn without them
    page = (three_seeds / "report.html").read_text("utf-8")
    assert "<h2>Each seed</h2>" in page
    assert "Reward (z)" in page
    audit = page.partition("Accuracy by category")[2]
    headings = re.findall(r"<summary><strong>(.*?)</strong>", audit)
    assert headings[:4] == ["3 seeds together", "seed 0", "seed 1", "seed 2"]
    together = audit.partition("3 seeds together")[2].partition("seed 0</strong>")[0]
    assert re.findall(r'<th scope="row" class="left">(.*?)</th>', together) == [
        "all", "facts", "advice", "refusal", "unseen categories", "unseen: compare",
    ]  # fmt: skip
    assert ">0.742<" in together


def test_several_seeds_have_their_rewards_drawn(three_seeds: Path) -> None:
    """The store holds raw rewards; of several seeds the plots show z-scores, computed as the summary does."""
    result = load_result(three_seeds)
    assert result.reward_key == "reward_z"
    assert "reward_z" not in ResultStore(three_seeds).read_scores().columns
    of_sft = result.scores[result.scores["model"] == "sft"].groupby("seed")["reward_z"]
    assert of_sft.mean().abs().max() < 1e-12
    assert of_sft.std(ddof=1).tolist() == pytest.approx([1.0, 1.0, 1.0])
    for name in ("reward_distribution", "length_vs_reward"):
        assert draw(result, name) is not None


def test_rouge_has_a_bar_a_model_and_kind(one_seed: Path) -> None:
    result = load_result(one_seed)
    figure = draw(result, "rouge")
    assert figure is not None
    bars = [patch for patch in figure.axes[0].patches if patch.get_width() > 0]
    shown = sorted(bar.get_height() for bar in bars)
    estimates = [result.estimate(m, key) for m in result.models for key in ("rouge1", "rouge2", "rougeL")]
    assert shown == sorted(e.value for e in estimates if known(e))
    shades = [sum(to_rgb(colour)) for colour in dict.fromkeys(bar.get_facecolor()[:3] for bar in bars)]
    assert all(later - earlier > 0.3 for earlier, later in itertools.pairwise(shades))  # apart in grey as well


def test_one_model_without_gold(bare: Path) -> None:
    """And drawing leaves no global state."""
    before = dict(mpl.rcParams)
    names = {path.name for path in write_report(bare)}
    assert dict(mpl.rcParams) == before
    assert {"reward_vs_kl.svg", "length.png", "summary.md", "report.html"} <= names
    assert not any(name.startswith("gold_vs") for name in names)
    page = (bare / "report.html").read_text("utf-8")
    assert "Gold reward" not in page
    assert "Audit" not in page
    assert "These data have no known gold reward." in (bare / "tables" / "gold.md").read_text("utf-8")
    assert "Gold" not in (bare / "tables" / "summary.md").read_text("utf-8")


def test_numbers_that_are_nan_everywhere(tmp_path: Path) -> None:
    """A response file of another tokenizer: no KL, no training log. A plot of numbers that are gone is removed."""
    path = make_result(tmp_path / "r", models=("sft", "mine"), audit=False)
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    for key in ("kl_exact", "kl_k1", "kl_k3"):
        metrics["models"]["mine"][key] |= {"value": None, "low": None, "high": None}
        metrics["missing"].append({"model": "mine", "metric": key, "reason": "response file"})
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    for log in (path / "training").iterdir():
        log.unlink()
    (path / "plots").mkdir()
    (path / "plots" / "training_curves.svg").write_text("old")
    names = {p.name for p in write_report(path)}
    assert "training_curves.svg" not in names
    assert not (path / "plots" / "training_curves.svg").exists()
    assert "- mine: kl_exact, kl_k1, kl_k3: response file" in (path / "tables" / "summary.md").read_text("utf-8")


def test_unknown_part_and_missing_folder(one_seed: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown report part 'plot'; did you mean 'plots'"):
        write_report(one_seed, only=["plot"])
    with pytest.raises(StoreError, match=r"manifest\.json does not exist"):
        write_report(tmp_path / "nowhere")


def test_a_folder_where_nothing_can_be_written(tmp_path: Path) -> None:
    path = make_result(tmp_path / "r", models=("sft",), audit=False)
    (path / "tables").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*choose a folder that can be written"):
        write_report(path, only=["tables"])


@pytest.mark.parametrize("stage", list(STAGE_PANELS))
def test_training_curve_of_each_stage(stage: str, tmp_path: Path) -> None:
    path, before = tmp_path / stage / "training_curve.png", dict(mpl.rcParams)
    plot_training_curve(log_rows(stage, steps=30), stage, path)
    assert dict(mpl.rcParams) == before
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [p.name for p in path.parent.iterdir()] == ["training_curve.png"]
    assert stage_of("my-model", log_rows(stage, steps=2)) == (stage if stage != "base" else "sft")


@pytest.mark.parametrize("rows", [[], [{"step": 1, "loss": math.nan}], [{"step": 1, "loss": None, "x": "text"}]])
def test_training_curve_withoutvalues_of(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    plot_training_curve(rows, "sft", tmp_path / "c.svg")
    assert (tmp_path / "c.svg").exists()


def test_curve_values_and_running_mean_by_hand() -> None:
    """Of private functions: what is public draws the numbers and returns none."""
    rows = [{"step": 1, "loss": 1.0}, {"step": 1, "eval_loss": 9.0}, {"step": 2, "loss": 4.0}, {"step": 3, "loss": 7.0}]
    step, value = values_of(rows, "loss")
    assert step.tolist() == [1, 2, 3]
    assert running_mean(value, 1).tolist() == [2.5, 4.0, 5.5]  # (1+4)/2, (1+4+7)/3, (4+7)/2


def test_what_a_killed_report_was_writing_is_removed_by_the_next(bare: Path) -> None:
    halves = [bare / name for name in (".report.html.x1.tmp", "tables/.summary.md.x1.tmp", "plots/.a.png.x1.tmp")]
    for half in halves:
        half.parent.mkdir(exist_ok=True)
        half.write_text("half")
    (bare / "tables" / "notes.tmp").write_text("a user's own")
    write_report(bare, only=["tables"])
    assert not any(half.exists() for half in halves)
    assert (bare / "tables" / "notes.tmp").exists()


def test_a_folder_that_another_process_writes_to_is_left_alone(bare: Path) -> None:
    half = bare / ".report.html.x2.tmp"
    half.write_text("being written")
    with exclusive(bare), pytest.raises(StoreError, match=rf"{bare} is in use by process \d+; wait until it ends"):
        write_report(bare, only=["tables"])
    assert half.exists()
    half.unlink()
