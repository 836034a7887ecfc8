"""Whatever models are called, a plot keeps its axes and its labels stay in the figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from rlhf_bench.files import write_jsonl
from rlhf_bench.report.contents import plots
from rlhf_bench.report.plots.names import names_note, printable, short_names
from rlhf_bench.report.result import Result, load_result
from rlhf_bench.store import ResultStore
from rlhf_bench.types import Estimate

from .make_result import log_rows, make_result

SEVERAL = [
    "sft",
    "llama-3.2-1b-instruct-sft",
    "llama-3.2-1b-instruct-dpo",
    "llama-3.2-1b-instruct-ppo",
    "W" * 60,
    "模型一号的名字" * 8,
    "_hidden_from_legends",
    "$a$ and $b$",
    "my-organisation-llama-3-8b-instruct-with-a-very-long-name-v02",
    "my-organisation-llama-3-8b-instruct-with-a-very-long-name-v03",
    "a|b\\c{d}^e",
    "模型二号的名字" * 8,
]


def cell(value: float) -> dict[str, Any]:
    return Estimate(value, value - 1.0, value + 2.0, 12).to_dict()


def with_everything(path: Path, models: list[str]) -> Result:
    """Numbers for every plot, under three seeds; the hypervolume's interval is wide, the data have a long name."""
    make_result(path, models=models, seeds=(0, 1), n_prompts=6, samples=1, audit=False)
    store = ResultStore(path)
    manifest, metrics = store.read_manifest(), store.read_metrics()
    manifest["reference"], manifest["metrics"] = models[0], ["sycophancy", "right"]
    manifest["data"]["source"] = "my-organisation/preferences-of-many-people-on-many-things-2026"
    for number, cells in enumerate(metrics["models"].values()):
        for name in ("sycophancy", "right", "reward_held_out_z", "reward_z"):
            cells[name] = cell(0.3 * number)
    front = {"kl": "kl_exact", "front": models[:2], "on_front": dict.fromkeys(models, 0.5), "kl_limit": 10.0}
    area = {"hypervolume": Estimate(123.456, -9876.5, 98765.4, 12).to_dict(), "left_out": []}
    metrics["tradeoff"] = [{"metric": name, **front, **area} for name in ("reward_z", "gold")]
    metrics["best_of_n"] = [
        {"n": n, "kl_bound": n / 4, "reward_z": cell(n / 8), "gold": cell(n / 9)} for n in (1, 2, 4)
    ]
    fit = {"alpha": cell(1.0), "beta": cell(0.2), "form": "rl", "largest_kl": 9.0, "turns_share": 0.5}
    metrics["over_optimisation"] = [
        {"curve": model, "points": [{"kl": 4.0, "gain": cell(1.0)}], "fit": {**fit, "turning_kl": cell(5.0)}}
        for model in models
    ]
    store.write_manifest(manifest)
    store.write_metrics(metrics)
    (path / "judge").mkdir()
    who = {"judge": "gpt", "base_url": "u", "template": "pairwise@1"}
    rated = [{"model": m, "estimate": cell(0.5), "criterion": "helpful"} for m in models]
    judge = {
        "judgings": [{**who, "baseline": models[-1], "win_rates": rated, "equal_length": []}],
        "ratings": [{**who, "low": 1, "high": 5, "means": rated}],
        "strengths": [],
    }
    (path / "judge" / "judge.json").write_text(json.dumps(judge), "utf-8")
    for number, model in enumerate(models[1:3]):
        write_jsonl(path / "training" / f"{model}-0.jsonl", log_rows("ppo", steps=5 + number))
    return load_result(path)


def share_of_axes(figure: Figure) -> float:
    """The part of the figure that its axes span."""
    boxes = [axes.get_window_extent() for axes in figure.axes if axes.get_visible()]
    hull, whole = Bbox.union(boxes), figure.bbox
    return float(hull.width * hull.height / (whole.width * whole.height))


def beyond(figure: Figure) -> float:
    """How far, in inches, what is drawn reaches beyond the figure."""
    drawn, whole = figure.get_tightbbox(), figure.bbox_inches
    return max(whole.x0 - drawn.x0, whole.y0 - drawn.y0, drawn.x1 - whole.x1, drawn.y1 - whole.y1)


@pytest.mark.parametrize("count", [1, 12])
def test_every_plot_keeps_its_axes(count: int, tmp_path: Path) -> None:
    result = with_everything(tmp_path / "r", SEVERAL[-count:] if count == 1 else SEVERAL[:count])
    drawn = 0
    of_models = [plot for plot in plots() if plot.module != "audit"]  # the others have a row a feature or a slice
    for plot in of_models:
        figure = plot.draw(result)
        if figure is None:
            continue
        drawn += 1
        FigureCanvasAgg(figure)
        figure.draw_without_rendering()  # a glyph that the font lacks is a warning, and so an error
        assert share_of_axes(figure) >= 0.5, plot.name
        assert beyond(figure) <= 0.01, plot.name
    assert drawn >= len(of_models) - (2 if count == 1 else 1)


def test_short_names_differ_and_are_listed_in_full() -> None:
    shown = short_names(SEVERAL)
    assert len(set(shown.values())) == len(SEVERAL)
    assert max(map(len, shown.values())) <= 16
    assert len(shown["W" * 60]) < 12  # wide letters are fewer
    assert shown["sft"] == "sft"
    assert shown["llama-3.2-1b-instruct-sft"].endswith("-sft")
    note = names_note(SEVERAL)
    assert all(name in note for name in SEVERAL if len(name) > 14)
    assert names_note(["sft", "ppo"]) == ""


def test_characters_that_the_font_lacks() -> None:
    assert printable("模a\n") == "□a□"
    assert printable("_x") == " _x"
