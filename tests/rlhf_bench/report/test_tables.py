"""Tables: exact text of cells, full precision in CSV, text that stays text in LaTeX and Excel."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from openpyxl import load_workbook

from rlhf_bench.cli import cli
from rlhf_bench.report import write_report
from rlhf_bench.report.contents import tables
from rlhf_bench.report.render.flat import csv_text
from rlhf_bench.report.render.markdown import markdown_text
from rlhf_bench.report.render.tex import tex_escape, tex_text
from rlhf_bench.report.render.workbook import write_workbook
from rlhf_bench.report.responses import responses_markdown, side_by_side
from rlhf_bench.report.result import load_result
from rlhf_bench.report.screen import summary_text
from rlhf_bench.report.table import REST, Column, Table, cell_text, column_text, number_text
from rlhf_bench.report.tables.pairwise import pairwise_table
from rlhf_bench.report.tables.summary import missing_lines, summary_table
from rlhf_bench.types import REFERENCE, Estimate

from .make_result import NASTY, make_result

TABLE = Table(
    "t",
    "A & B",
    [Column("model", "Model"), Column("kl", "KL_exact", 2, interval=True), Column("s", "Samples", 0)],
    [["a_b|c", Estimate(1.005, -0.5, 2.5, 30), 7], ["=x", None, None]],
    ["100% of it"],
)


@pytest.mark.parametrize(
    ("cell", "digits", "text"),
    [
        (Estimate(0.51234, 0.4406, 0.5829, 150), 3, "0.512 [0.441, 0.583]"),
        (Estimate(-0.0004, -0.02, 0.01, 150), 2, "-0.0004 [-0.02, 0.01]"),  # not -0.00
        (Estimate(-0.0, 0.0, 0.0, 150), 2, "0.00 [0.00, 0.00]"),
        (Estimate(2.0, math.nan, math.nan, 1), 1, "2.0 [–]"),
        (Estimate(math.nan, math.nan, math.nan, 0), 1, "–"),
        (Estimate(math.inf, math.nan, math.nan, 3), 1, "inf"),
        (Estimate(0.0, 0.0, 0.0, 150, method=REFERENCE), 2, "0 (reference)"),  # known, not estimated
        (None, 2, "–"),
        (2048, 0, "2048"),
        (41.6, 0, "42"),
        ("=text", 0, "=text"),
    ],
)
def test_cell_text(cell: Estimate | str | float | None, digits: int, text: str) -> None:
    assert cell_text(cell, digits) == text


def test_number_text_of_small_and_missing_numbers() -> None:
    assert number_text(0.000123, 3) == "0.00012"
    assert number_text(None, 3) == "–"
    assert number_text(-math.inf, 3) == "-inf"


def test_a_tiny_p_value_is_no_zero() -> None:
    p = Column("p_holm", "p (Holm)", 4, p_value=True)
    texts = [column_text(value, p) for value in (2e-10, 0.00099, 0.001, 0.0481)]
    assert texts == ["< 0.001", "< 0.001", "0.0010", "0.0481"]
    assert column_text(None, p) == "–"
    assert column_text(0.0002, Column("distinct1", "Distinct-1", 3)) == "0.0002"  # no p-value
    table = Table("t", "T", [Column("a", "a"), p], [["sft", 2e-10]])
    assert "| sft | < 0.001 |" in markdown_text(table)
    assert "sft & \\textless{} 0.001" in tex_text(table)
    assert csv_text(table) == "a,p_holm\nsft,2e-10\n"


def test_markdown_exactly() -> None:
    assert markdown_text(TABLE, sections={"Alarms": [], "Not available": ["a, b: kl: no tokenizer in common"]}) == (
        "# A & B\n\n"
        "| Model | KL_exact | Samples |\n"
        "| --- | ---: | ---: |\n"
        "| a_b\\|c | 1.00 [-0.50, 2.50] | 7 |\n"
        "| =x | – | – |\n\n"
        "100% of it\n\n"
        "## Not available\n\n"
        "- a, b: kl: no tokenizer in common\n"
    )


def test_csv_exactly_and_back() -> None:
    text = csv_text(TABLE)
    assert text == "model,kl,kl_low,kl_high,kl_n,s\na_b|c,1.005,-0.5,2.5,30,7\n=x,,,,,\n"


def test_csv_has_the_full_precision_of_metrics(one_seed: Path) -> None:
    rows = {row["model"]: row for row in csv.DictReader(csv_text(summary_table(load_result(one_seed))).split("\n"))}
    metrics = json.loads((one_seed / "metrics.json").read_text("utf-8"))["models"]
    for model, shown in (("ppo", "ppo"), ("chosen", "chosen (data)")):
        cell = metrics[model]["reward"]
        row = rows[shown]
        assert [float(row[f"reward{part}"]) for part in ("", "_low", "_high")] == [
            cell[k] for k in ("value", "low", "high")
        ]
        assert int(row["reward_n"]) == cell["n"] == 12  # prompts, not the 24 rows
    assert rows["chosen (data)"]["kl_exact"] == ""


def test_tex_escapes_and_uses_booktabs() -> None:
    assert tex_escape("a_b & 5% {x} \\ $1 #2 ~ ^") == (
        r"a\_b \& 5\% \{x\} \textbackslash{} \$1 \#2 \textasciitilde{} \textasciicircum{}"
    )
    lines = tex_text(TABLE).split("\n")
    assert "\\caption{A \\& B. 100\\% of it.}" in lines
    assert "Model & KL\\_exact & Samples \\\\" in lines
    assert "a\\_b\\textbar{}c & 1.00 {\\scriptsize [$-$0.50, 2.50]} & 7 \\\\" in lines
    assert [line for line in lines if line.startswith("\\") and "rule" in line] == [
        "\\toprule",
        "\\midrule",
        "\\bottomrule",
    ]


def test_wide_tex_tables_become_panels(one_seed: Path) -> None:
    text = tex_text(summary_table(load_result(one_seed)))
    assert text.count("\\begin{tabular}{lrrrrr}") == 3  # 17 columns beside the model: 5 + 5 + 5 + 2
    assert text.count("\\begin{tabular}{lrr}") == 1
    assert text.count("\nppo & ") == 4


def test_excel_never_makes_a_formula_of_text(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1 apple", "@SUM(A1)", "\x01control", "x" * 40_000]
    table = Table("t", "t", [Column("a", "=A"), Column("b", "B")], [[text, 1.5] for text in texts])
    write_workbook(tmp_path / "t.xlsx", [table])
    sheet = load_workbook(tmp_path / "t.xlsx")["t"]
    cells = [sheet.cell(row, 1) for row in range(1, 8)]
    assert [cell.data_type for cell in cells] == ["s"] * 7  # "f" would be a formula
    assert [cell.value for cell in cells[:6]] == ["=A", "=1+1", "+1", "-1 apple", "@SUM(A1)", "\ufffdcontrol"]
    assert [cell.quotePrefix for cell in cells[:5]] == [True] * 5
    assert len(str(cells[6].value)) == 32_767
    assert sheet.cell(2, 2).value == 1.5
    assert sheet.cell(2, 2).data_type == "n"


def test_workbook_has_a_sheet_a_table(one_seed: Path) -> None:
    write_report(one_seed, only=["tables"])
    result = load_result(one_seed)
    book = load_workbook(one_seed / "tables" / "summary.xlsx")
    assert book.sheetnames == [*(table.name for table in tables(result) if table.is_written), "responses"]
    assert book["summary"]["B1"].value == "Reward ↑"
    assert isinstance(book["summary"]["B2"].value, float)
    head = [cell.value for cell in book["responses"][1]]
    assert head[:5] == ["prompt_id", "prompt", "base_response", "base_reward", "base_gold"]
    assert book["responses"]["C2"].value == NASTY
    assert book["responses"]["C2"].data_type == "s"


def test_reward_is_raw_for_one_seed_and_z_for_several(one_seed: Path, three_seeds: Path) -> None:
    one, three = (summary_table(load_result(path)) for path in (one_seed, three_seeds))
    assert one.columns[1].title == "Reward ↑"
    assert three.columns[1].title == "Reward (z) ↑"
    assert three.notes[0] == "value [low, high]: 95% confidence interval over prompts and 3 seeds"
    assert [row[0] for row in one.rows][-2:] == ["chosen (data)", "rejected (data)"]


def test_the_spread_of_the_rewards_is_in_the_units_of_the_rewards(
    one_seed: Path, three_seeds: Path, tmp_path: Path
) -> None:
    """Raw for one seed; of several that of the z-scores, and no column of dashes where an older result has none."""
    one = summary_table(load_result(one_seed))
    assert "reward_std" in [column.key for column in one.columns]
    keys = [column.key for column in summary_table(load_result(three_seeds)).columns]
    assert not {"reward_std", "reward_z_std"} & set(keys)
    path = make_result(tmp_path / "r", models=("sft", "ppo"), seeds=(0, 1))
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    metrics["models"]["ppo"]["reward_z_std"] = Estimate(0.737, 0.519, 1.045, 12, n_seeds=2).to_dict()
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    text = markdown_text(summary_table(load_result(path)))
    assert "| Reward std (z) |" in text
    assert "| 0.737 [0.519, 1.045] |" in text


def test_training_cost_is_the_mean_over_seeds(three_seeds: Path) -> None:
    table = summary_table(load_result(three_seeds))
    sft = next(row for row in table.rows if row[0] == "sft")
    assert sft[-2:] == [53.0, 2048.0]  # 50, 53 and 56 seconds, with the reward model's


def test_intervals_that_were_clipped_are_marked_with_their_range(tmp_path: Path) -> None:
    path = make_result(tmp_path / "r", models=("sft", "ppo"))
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    metrics["models"]["sft"]["rougeL"]["clipped"] = [0, 1]
    metrics["models"]["ppo"]["rougeL"]["clipped"] = [-1, 1]
    metrics["pairwise"][0]["difference"]["clipped"] = [-2, 2]
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    result = load_result(path)
    clipped = [note for note in summary_table(result).notes if "clipped" in note]
    assert [("[0, 1]" in note, note.endswith("ROUGE-L of sft")) for note in clipped] == [(True, True), (False, False)]
    assert "[-1, 1]" in clipped[1]
    assert any("clipped" in note for note in pairwise_table(result).notes)


def test_marked_columns_say_why(tmp_path: Path) -> None:
    path = make_result(tmp_path / "r", models=("sft",))
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    metrics["marks"] = {"kl_k3": "sampled at top-p 0.9: biased"}
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    text = markdown_text(summary_table(load_result(path)))
    assert "| KL k3 (nats) † |" in text
    assert "† KL k3: sampled at top-p 0.9: biased" in text


def test_missing_numbers_are_listed_with_their_reason(one_seed: Path) -> None:
    assert missing_lines(load_result(one_seed)) == [
        "chosen, rejected: kl_exact, kl_k1, kl_k3, perplexity: no model wrote these responses: the data's own",
        "chosen: rougeL: it is the text that others are compared with",
        "chosen: rouge1, rouge2: no reason recorded",  # a gap that the evaluation forgot to explain is not hidden
    ]


def test_pairwise_counts_seeds_of_the_same_sign(tmp_path: Path) -> None:
    path = make_result(tmp_path / "r", models=("sft", "dpo"))
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))

    def at(value: float) -> dict[str, object]:
        return Estimate(value, value - 1, value + 1, 9).to_dict()

    row = {"metric": "reward", "a": "dpo", "b": "sft", "difference": at(0.5), "p_paired": 0.2, "p_wilcoxon": None}
    row |= {"p_holm": 0.2, "detectable": 1.4, "per_seed": {"0": at(0.9), "1": at(-0.1), "2": at(0.7)}}
    metrics["pairwise"] = [row]
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    cells = pairwise_table(load_result(path)).rows[0]
    assert cells[-1] == "2 of 3"
    assert cells[5] is None  # Wilcoxon was not made
    assert load_result(path).differs("dpo", "reward") == 0  # p = 0.2


def test_arrows_follow_the_sign_towards_the_reference(one_seed: Path) -> None:
    result = load_result(one_seed)  # pairs are stored as (base, sft) and (sft, ppo): a minus b
    assert result.differs("base", "reward") == -1
    assert result.differs("ppo", "reward") == 1
    assert result.differs("sft", "reward") == 0
    assert result.differs("chosen", "reward") == 0  # never tested


@pytest.mark.parametrize("fixture", ["one_seed", "three_seeds", "bare"])
def test_summary_text_fits_the_terminal(fixture: str, request: pytest.FixtureRequest) -> None:
    text = summary_text(request.getfixturevalue(fixture))
    assert max(len(line) for line in text.split("\n")) <= 120
    assert "Tokens" in text


def test_a_narrow_terminal_keeps_reward_gold_kl_and_length(one_seed: Path) -> None:
    lines = summary_text(one_seed, width=80).split("\n")
    assert max(len(line) for line in lines) <= 80
    first, second = [i for i, line in enumerate(lines) if line.startswith("──")][:2]
    titles = re.findall(r"Reward|Gold|KL|Tokens|ROUGE", " ".join(lines[first + 1 : second]))
    assert sorted(titles) == ["Gold", "KL", "Reward", "Tokens"]


def test_the_main_columns_stand_in_the_order_of_the_questions(one_seed: Path) -> None:
    shown = [column.key for column in summary_table(load_result(one_seed)).columns if column.tier < REST]
    assert shown == ["model", "reward", "gold", "kl_exact", "rougeL", "n_tokens", "ended"]


def test_the_best_is_marked_where_it_is_distinguished(tmp_path: Path) -> None:
    """Gold: dpo leads, ppo is not told from it, base is; ROUGE-L: dpo leads and is told from no other."""
    path = make_result(tmp_path / "r", models=("base", "ppo", "dpo"))
    metrics = json.loads((path / "metrics.json").read_text("utf-8"))
    for metric in ("gold", "rougeL"):
        for model, value in (("base", 0.1), ("ppo", 0.5), ("dpo", 0.6)):
            metrics["models"][model][metric]["value"] = value
        for row in metrics["pairwise"]:
            row["p_holm"] = 0.01 if row["metric"] == "gold" and "base" in (row["a"], row["b"]) else 0.2
    (path / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    table = summary_table(load_result(path))
    marked = {(table.rows[i][0], table.columns[j].key) for (i, j), mark in table.marks.items() if mark.best}
    assert {model for model, key in marked if key == "gold"} == {"ppo", "dpo"}
    assert not any(key == "rougeL" for _, key in marked)
    assert "| dpo |" in markdown_text(table)
    assert "0.600\\* [" in markdown_text(table)
    assert "0.600," in csv_text(table) or "0.6," in csv_text(table)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_last_screen_is_the_table_six_lines_and_three_paths(one_seed: Path, columns: int) -> None:
    shown = CliRunner().invoke(cli, ["report", str(one_seed), "--show"], env={"COLUMNS": str(columns)})
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.rstrip("\n").split("\n")
    rules = [i for i, line in enumerate(lines) if line.startswith("──")]
    assert len(lines[rules[0]]) <= columns
    under = lines[rules[-1] + 1 : lines.index("", rules[-1])]
    assert 1 <= len(under) <= 6
    assert under[0].startswith("One training seed: ")
    assert "--seeds 3" in under[0]
    assert any(line.startswith("On gold: ") for line in under)
    assert [line.split(":")[0] for line in lines[-3:]] == ["Pareto plot", "report page", "tables"]


def test_every_table_of_one_seed_says_so_first(one_seed: Path, three_seeds: Path) -> None:
    one = [t for t in tables(load_result(one_seed)) if any(isinstance(c, Estimate) for row in t.rows for c in row)]
    assert len(one) > 5
    assert all(table.notes[0].startswith("One training seed: ") for table in one)
    assert not any("One training seed" in note for table in tables(load_result(three_seeds)) for note in table.notes)


def test_models_of_a_toy_recipe_are_named_under_every_table(tmp_path: Path) -> None:
    path = make_result(tmp_path / "r", seeds=(0, 1))
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest["models"]["ppo"][0]["toy"] = True
    (path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    summary = tables(load_result(path))[0]
    assert summary.notes[0].startswith("Toy recipe")
    assert summary.notes[0].endswith(": ppo")
    assert "Toy recipe" in summary_text(path)


def test_the_last_screen_counts_the_alarms(tmp_path: Path) -> None:
    folder = make_result(tmp_path / "r")
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    raised = {"alarms": [{"model": "ppo", "kind": "length", "text": "ppo: longer"}]}
    trained = {"model": "grpo", "seed": 1, "step": 7, "name": "entropy_collapse", "message": "entropy fell"}
    path.write_text(json.dumps(metrics | raised | {"training_alarms": [trained]}), encoding="utf-8")
    assert "Alarms: 2: ppo: longer" in summary_text(folder).split("\n")
    path.write_text(json.dumps(metrics | {"alarms": [], "training_alarms": [trained]}), encoding="utf-8")
    assert "Alarms: 1: grpo, seed 1, step 7: entropy fell" in summary_text(folder).split("\n")
    quiet = {"alarms": [], "alarm_checks": ["length"], "training_alarms": []}
    path.write_text(json.dumps(metrics | quiet), encoding="utf-8")
    assert "Alarms: none in 1 checks" in summary_text(folder)


def test_responses_are_fenced_and_evenly_spaced(one_seed: Path) -> None:
    result = load_result(one_seed)
    text = responses_markdown(result, side_by_side(result, 3))
    assert f"````text\n{NASTY}\n````" in text  # the response holds three backticks: the fence has four
    assert [view.prompt_id for view in side_by_side(result, 3)] == ["p0000", "p0004", "p0008"]
    assert [reply.model for reply in side_by_side(result, 1)[0].responses] == result.models
    assert "3 of 12 prompts, evenly spaced; sample 0 of each model, seed 0." in text
