"""Two results, matched by prompt and seed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from rlhf_bench.cli import cli
from rlhf_bench.compare import compare
from rlhf_bench.errors import BadValue, StoreError, UnknownName
from rlhf_bench.stats import detectable_difference
from rlhf_bench.stats.paired_shares import tango_interval
from rlhf_bench.store import ResultStore

Values = Mapping[str, Sequence[float]]  # column -> a value a prompt


def make(
    path: Path, models: Mapping[str, Values], *, seeds: Sequence[int] = (0,), first: int = 0, **manifest: Any
) -> Path:
    """A results folder whose prompts are p<first>, p<first + 1>, ...; seed s adds s to every value."""
    rows = [
        {"model": model, "seed": seed, "prompt_id": f"p{first + i}", "sample": 0}
        | {name: column[i] + seed for name, column in columns.items()}
        for model, columns in models.items()
        for seed in seeds
        for i in range(len(next(iter(columns.values()))))
    ]
    store = ResultStore(path)
    store.write_manifest(
        {
            "suite": "hh-test",
            "run": path.name,
            "data": {"source": "hh-mini", "split": "test", "fingerprint": "same"},
            "models": {m: [{"seed": s, "path": m, "hash": f"{m}-{s}"} for s in seeds] for m in models},
            "reference": "sft",
            "reward_model": [{"seed": s, "path": "reward", "hash": f"reward-{s}"} for s in seeds],
            "sampling": {"samples": 1, "temperature": 1.0},
            "seeds": list(seeds),
        }
        | manifest
    )
    keys = ("model", "seed", "prompt_id", "sample")
    store.write_responses({key: row[key] for key in keys} for row in rows)
    store.write_scores(pd.DataFrame(rows))
    return path


def row(text: str, metric: str, model: str) -> list[str]:
    """The cells of one line of the table, which is under the heading of its metric."""
    group = text.partition(f"\n{metric}\n")[2].split("\n")
    lines = itertools.takewhile(lambda line: line.startswith("  "), group)
    (line,) = [line for line in lines if line.split()[0] == model]
    return line.split()[1:]


def compared(a: Path, b: Path, differences: Mapping[str, float] | None = None) -> str:
    return compare(a, b, differences).text


SFT: Values = {"reward": [0.0, 1.0, 2.0], "kl_exact": [0.0, 0.0, 0.0], "n_words": [5.0, 6.0, 7.0]}


def test_difference_worked_by_hand(tmp_path: Path) -> None:
    """B - A of dpo's reward: 1, 2, 3. Mean 2, sd 1, se 1/sqrt(3) = 0.57735; t(2) at 97.5 % is 4.302653, so the half
    width is 2.484138; t = 3.464102, and with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2) = 1 - 0.925820 = 0.074180.
    sft does not differ: p is 1, and Holm doubles the smaller of the two."""
    a = make(tmp_path / "a", {"sft": SFT, "dpo": {"reward": [1.0, 1.0, 1.0]}})
    b = make(tmp_path / "b", {"sft": SFT, "dpo": {"reward": [2.0, 3.0, 4.0]}})
    text = compared(a, b)
    numbers = row(text, "reward", "dpo")
    assert numbers[:8] == ["1.000", "3.000", "2.000", "[-0.484,", "4.484]", "0.0742", "0.2500", "0.1484"]
    # Wilcoxon: three of three positive, 2 / 2^3. d = 2 / 1; detectable for sd 1 and n 3 is worked in test_stats.py
    assert numbers[8:] == ["2.00", f"{detectable_difference(1.0, 3):.3f}", "3"]
    assert row(text, "reward", "sft")[2:] == ["0.000", "[0.000,", "0.000]", "1.0000", "–", "1.0000", "–", "–", "3"]
    assert row(text, "kl_exact", "sft")[2] == "0.000"
    assert "prompts: 3 in both, 0 only in A, 0 only in B" in text
    assert "the same checkpoint in both: sft, dpo" in text


def test_a_comparison_is_a_frame_and_a_verdict(tmp_path: Path) -> None:
    """Gold rises by 2, 2.1, ... 2.9 in dpo: p is far below .05 and Holm's over two models at most twice it. sft does
    not differ."""
    values = [float(i) for i in range(10)]
    a = make(tmp_path / "a", {"sft": {"gold": values}, "dpo": {"gold": values}})
    b = make(tmp_path / "b", {"sft": {"gold": values}, "dpo": {"gold": [2 + 1.1 * v for v in values]}})
    found = compare(a, b)
    rows = found.differences.set_index(["metric", "model"])
    assert rows.loc[("gold", "dpo"), "difference"] == pytest.approx(2.45)
    (sentence,) = found.verdict
    assert sentence.startswith(
        "On gold (Holm p < .05; 10 prompts): B > A for dpo; A and B cannot be told apart for sft"
    )
    assert " ".join(sentence.split()) in " ".join(str(found).split())
    (back,) = compare(b, a).verdict
    assert "A > B for dpo" in back


def test_matched_by_prompt_whatever_the_order(tmp_path: Path) -> None:
    """A has p0 p1 p2, B has p1 p2 p3: on p1 and p2 the differences are 9 - 1 and 8 - 2, mean 7."""
    a = make(tmp_path / "a", {"sft": {"n_words": [0.0, 1.0, 2.0]}})
    b = make(tmp_path / "b", {"sft": {"n_words": [9.0, 8.0, 7.0]}}, first=1)
    scores = ResultStore(b).read_scores()
    ResultStore(b).write_scores(scores.iloc[::-1])
    text = compared(a, b)
    assert row(text, "n_words", "sft")[:3] == ["1.500", "8.500", "7.000"]
    assert "prompts: 2 in both, 1 only in A, 1 only in B" in text


def test_means_are_of_the_prompts_that_both_sides_have(tmp_path: Path) -> None:
    """p0 has no value in A: the means are of 2, 4 and 3, 6, so that B's less A's is the difference."""
    a = make(tmp_path / "a", {"sft": {"n_words": [float("nan"), 2.0, 4.0]}})
    b = make(tmp_path / "b", {"sft": {"n_words": [9.0, 3.0, 6.0]}})
    cells = row(compared(a, b), "n_words", "sft")
    assert (cells[:3], cells[-1]) == (["3.000", "4.500", "1.500"], "2")


def test_says_what_did_not_match(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"sft": SFT, "mine": SFT}, seeds=[0, 1])
    b = make(tmp_path / "b", {"sft": SFT, "dpo": SFT}, seeds=[1, 2], sampling={"samples": 1, "temperature": 0.7})
    text = compared(a, b)
    assert "models: sft in both; only in A: mine; only in B: dpo" in text
    assert "seeds: 1, seed 0 only in A, seed 2 only in B" in text
    assert "drawn differently: temperature 1.0 in A, 0.7 in B" in text


def test_rewards_of_another_reward_model_are_not_compared(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"sft": SFT})
    other = make(tmp_path / "b", {"sft": SFT}, reward_model=[{"seed": 0, "hash": "other"}])
    text = compared(a, other)
    assert "not compared: reward, since the reward models of seed 0 are not the same (reward-0 and other)" in text
    assert "\nreward\n" not in text
    assert row(text, "n_words", "sft")[2] == "0.000"


def test_rewards_on_other_data_are_not_compared(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"sft": SFT})
    b = make(tmp_path / "b", {"sft": SFT}, data={"source": "hh-mini", "split": "test", "fingerprint": "other"})
    text = compared(a, b)
    assert "not compared: reward, since the data are not the same (fingerprints same and other)" in text
    assert "\nreward\n" not in text


def test_another_choice_of_prompts_from_the_same_data_is_matched_prompt_by_prompt(tmp_path: Path) -> None:
    """Two suites, or another --seed: the fingerprints of the chosen prompts differ, the data do not."""
    a = make(tmp_path / "a", {"sft": {"reward": [0.0, 1.0, 2.0]}})
    chosen = {"source": "hh-mini", "split": "test", "fingerprint": "other"}
    b = make(tmp_path / "b", {"sft": {"reward": [4.0, 5.0, 7.0]}}, first=1, data=chosen)
    assert row(compared(a, b), "reward", "sft")[:3] == ["1.500", "4.500", "3.000"]  # p1, p2: 1, 2 against 4, 5
    other = make(tmp_path / "c", {"sft": {"reward": [4.0, 5.0, 7.0]}}, first=1, data=chosen | {"source": "mine"})
    assert "not compared: reward, since the data are not the same" in compared(a, other)


def test_an_unknown_hash_is_not_the_same(tmp_path: Path) -> None:
    a, b = (make(tmp_path / name, {"sft": SFT}, reward_model=[{"seed": 0, "hash": None}]) for name in "ab")
    assert "\nreward\n" not in compared(a, b)


def test_kl_to_another_reference_is_not_compared(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"sft": SFT, "dpo": SFT})
    b = make(tmp_path / "b", {"sft": SFT, "dpo": SFT}, reference="dpo")
    text = compared(a, b)
    assert "not compared: KL, since it is taken to different references" in text
    assert "\nkl_exact\n" not in text


def test_several_seeds_are_z_scored_by_the_reference_of_a(tmp_path: Path) -> None:
    """The reference of A has rewards 0, 1, 2: sd 1 under each seed, so 3 units more in B are +3.000 in reward_z, also
    where B's own reference is spread differently."""
    a = make(tmp_path / "a", {"sft": SFT, "dpo": {"reward": [1.0, 2.0, 3.0]}}, seeds=[0, 1])
    b = make(tmp_path / "b", {"sft": {"reward": [0.0, 10.0, 20.0]}, "dpo": {"reward": [4.0, 5.0, 6.0]}}, seeds=[0, 1])
    text = compared(a, b)
    assert row(text, "reward_z", "dpo")[:3] == ["1.000", "4.000", "3.000"]
    assert "\nreward\n" not in text


def test_one_seed_on_each_side_is_a_pair(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"sft": {"n_words": [1.0, 2.0]}}, seeds=[3])
    b = make(tmp_path / "b", {"sft": {"n_words": [1.0, 2.0]}}, seeds=[5])
    text = compared(a, b)
    assert "seeds: 3 with 5" in text
    assert row(text, "n_words", "sft")[2] == "2.000"


def test_nothing_in_common_is_one_line(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"sft": SFT})
    for b, message in [
        (
            make(tmp_path / "prompts", {"sft": SFT}, first=7),
            "no prompt in common; evaluate both with the same --seed and --limit, which",
        ),
        (
            make(
                tmp_path / "data", {"sft": SFT}, first=7, data={"source": "mine", "split": "test", "fingerprint": "f"}
            ),
            "no prompt in common; evaluate both on the same data: --data SOURCE",
        ),
        (make(tmp_path / "models", {"dpo": SFT}), "no model in common; evaluate both with a model of the same name"),
    ]:
        with pytest.raises(StoreError, match=message):
            compared(a, b)
    two = make(tmp_path / "seeds", {"sft": SFT}, seeds=[1, 2])
    with pytest.raises(StoreError, match=r"seeds \[0\], .* \[1, 2\]; expected at least one in both"):
        compared(a, two)


def test_no_such_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    a = make(tmp_path / "results" / "hh-test" / "a", {"sft": SFT})
    with pytest.raises(StoreError, match=r"manifest\.json does not exist; expected a results folder made by"):
        compared(a, tmp_path / "nothing")
    result = CliRunner().invoke(cli, ["compare", "a", "nothing"])
    assert (result.exit_code, result.stderr) == (2, "error: unknown result 'nothing'; known: hh-test/a\n")


def test_command_prints_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        make(tmp_path / "results" / "hh-test" / name, {"sft": SFT})
    result = CliRunner().invoke(cli, ["compare", "a", "b"])
    assert result.exit_code == 0
    assert row(result.output, "reward", "sft")[2] == "0.000"


def test_prompts_that_a_named_difference_needs(tmp_path: Path) -> None:
    """The differences -1, 1, -1, 1 have sd sqrt(4/3). Half of that is an effect of 0.5, which needs 34 pairs."""
    a = make(tmp_path / "a", {"sft": {"n_words": [0.0, 0.0, 0.0, 0.0]}})
    b = make(tmp_path / "b", {"sft": {"n_words": [-1.0, 1.0, -1.0, 1.0]}})
    text = compared(a, b, {"n_words": 0.5 * (4 / 3) ** 0.5})
    assert text.rstrip().endswith("a difference of 0.57735 in n_words with 80 % power at p < 0.05: sft 34")
    same = compared(a, a, {"n_words": 0.5})
    assert " ".join(same.split()).endswith("sft not known, since the prompts do not differ")
    with pytest.raises(UnknownName, match="unknown compared metric 'words'; did you mean 'n_words'"):
        compared(a, b, {"words": 1.0})
    with pytest.raises(BadValue, match=r"a difference of -1\.0 given; expected a number above 0"):
        compared(a, b, {"n_words": -1.0})


def test_seeds_that_differ_need_more_seeds(tmp_path: Path) -> None:
    a = make(tmp_path / "a", {"sft": {"n_words": [0.0, 0.0, 0.0]}}, seeds=[0, 1])
    b = make(tmp_path / "b", {"sft": {"n_words": [0.0, 1.0, 2.0]}}, seeds=[0, 1])
    scores = ResultStore(b).read_scores()
    ResultStore(b).write_scores(scores.assign(n_words=scores["n_words"] + 10 * scores["seed"]))
    assert "sft no number of prompts: more seeds" in " ".join(compared(a, b, {"n_words": 0.1}).split())


def test_a_size_that_is_no_number_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["compare", "a", "b", "--difference", "gold=much"])
    expected = "expected METRIC=SIZE with a size above 0, such as gold=0.1"
    assert (result.exit_code, result.stderr) == (2, f"error: --difference: given gold='much', {expected}\n")


def test_everything_fits_100_columns(tmp_path: Path) -> None:
    """Three seeds, large and small numbers, a name of 60 characters: no line is longer, no name or number is cut."""
    names = ["sft", "dpo", "my-organisation-llama-3-8b-instruct-with-a-very-long-name-v2"]
    columns = {"reward": [-123.456, 5.0, 9.0], "kl_exact_token": [0.0001, 0.5, 0.25], "n_tokens": [2048.5, 3.0, 700.0]}
    other = {name: [1.5 * x for x in reversed(values)] for name, values in columns.items()}
    a = make(tmp_path / "a", dict.fromkeys(names, columns), seeds=[0, 1, 2])
    b = make(tmp_path / "b", dict.fromkeys(names, other), seeds=[0, 1, 2])
    lines = compared(a, b, {"n_tokens": 0.5}).split("\n")
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 100
    at = lines.index("n_tokens")
    under = lines[at + 1 : lines.index(f"  {names[2]}", at) + 2]  # a name on a line of its own, over its numbers
    assert [line.split()[0] for line in under if not line.startswith("    ")] == ["sft", "dpo", names[2]]
    # means of 2751.5 / 3 + 1 and 1.5 * 2751.5 / 3 + 1, the 1 from the seeds 0, 1, 2
    assert under[-1].split()[:3] == ["918.167", "1376.750", "458.583"]


def test_prompts_that_differ_between_models_are_reported_by_model(tmp_path: Path) -> None:
    nan = float("nan")
    a = make(tmp_path / "a", {"sft": {"n_words": [1.0, 2.0, 3.0]}, "dpo": {"n_words": [1.0, 2.0, 4.0]}})
    b = make(tmp_path / "b", {"sft": {"n_words": [1.0, 2.0, nan]}, "dpo": {"n_words": [3.0, 2.0, 4.0]}})
    text = compared(a, b)
    assert [row(text, "n_words", model)[-1] for model in ("sft", "dpo")] == ["2", "3"]


def with_references(path: Path, references: Sequence[str]) -> None:
    rows = [
        {"model": "sft", "seed": 0, "prompt_id": f"p{i}", "sample": 0, "reference": text}
        for i, text in enumerate(references)
    ]
    ResultStore(path).write_responses(rows)


def test_rouge_against_other_texts_is_not_compared(tmp_path: Path) -> None:
    for name, references in (("a", [" yes", " no"]), ("b", [" yes", " no", " more"]), ("c", [" yes", " never"])):
        scores = {"rougeL": [0.1, 0.2, 0.3], "n_words": [1.0, 2.0, 3.0]}
        mine = {metric: values[: len(references)] for metric, values in scores.items()}
        with_references(make(tmp_path / name, {"sft": mine}), references)
    assert "\nrougeL\n" in compared(tmp_path / "a", tmp_path / "b")
    text = compared(tmp_path / "a", tmp_path / "c")
    assert "rougeL" not in text
    assert "not compared: ROUGE, since the data's own responses to the same prompts are not the same\n" in text


def test_a_result_that_has_lost_responses_is_not_compared(tmp_path: Path) -> None:
    a, b = (make(tmp_path / name, {"sft": SFT}) for name in "ab")
    (b / "responses.jsonl").write_bytes(b"")
    with pytest.raises(StoreError, match=r"b/responses\.jsonl holds 0 of 3 rows; restore the file, or run "):
        compared(a, b)


def test_results_of_two_suites_are_noted(tmp_path: Path) -> None:
    a, b = make(tmp_path / "a", {"sft": SFT}), make(tmp_path / "b", {"sft": SFT}, suite="quick")
    assert "different suites" not in compared(a, a)
    printed = "\ndifferent suites: hh-test in A, quick in B; only what both measured is compared\nprompts: 3 in both"
    assert printed in compared(a, b)
    other = make(tmp_path / "c", {"sft": SFT}, first=50, suite="safety")
    with pytest.raises(StoreError, match=r"have no prompt in common; they are of the suites hh-test and safety"):
        compared(a, other)


def test_self_bleu_of_other_prompts_is_not_compared(tmp_path: Path) -> None:
    """A text's value is against all others of its result: one text more, and it is another number."""
    a, same = (make(tmp_path / name, {"sft": {"self_bleu": [0.5, 0.6]}}) for name in "ab")
    more = make(tmp_path / "c", {"sft": {"self_bleu": [0.5, 0.6, 0.7], "n_words": [1.0, 1.0, 1.0]}})
    assert "\nself_bleu\n" in compared(a, same)
    text = compared(a, more)
    assert "not compared: self-BLEU, since it depends on the other prompts of its result\n" in text
    assert "\nself_bleu\n" not in text


def test_tokens_of_texts_under_other_tokenizers_are_not_compared(tmp_path: Path) -> None:
    tokens: Mapping[str, Values] = {"mine": {"n_tokens": [5.0, 6.0], "n_words": [1.0, 2.0]}}
    sides = [make(tmp_path / name, tokens) for name in "ab"]
    for side in sides:
        manifest = ResultStore(side).read_manifest()
        manifest["models"] = {
            "mine": [{"path": "mine.jsonl", "kind": "responses"}],
            "sft": [{"seed": 0, "hash": side.name, "kind": "checkpoint"}],
        }
        ResultStore(side).write_manifest(manifest)
    text = compared(*sides)
    assert "not compared: tokens, since they are counted by different tokenizers\n" in text
    assert "\nn_words\n" in text
    assert "\nn_tokens\n" not in text


@pytest.mark.parametrize(("model", "column"), [("chosen", "n_tokens"), ("dpo", "chosen_tokens")])
def test_tokens_counted_by_other_tokenizers_are_not_compared(tmp_path: Path, model: str, column: str) -> None:
    """The same chosen responses are 4 and 6 tokens in A, 4 and 9 in B, by the reference's or by dpo's tokenizer."""
    counted = {name: {"n_tokens": [5.0, 6.0], "n_words": [1.0, 2.0]} for name in ("sft", "dpo")}
    a, same, b = (
        make(tmp_path / name, counted | {model: {"n_tokens": [5.0, 6.0], "n_words": [1.0, 2.0]} | {column: counts}})
        for name, counts in (("a", [4.0, 6.0]), ("same", [4.0, 6.0]), ("b", [4.0, 9.0]))
    )
    assert "\nn_tokens\n" in compared(a, same)
    text = compared(a, b)
    assert "not compared: tokens, since they are counted by different tokenizers\n" in text
    assert "\nn_words\n" in text
    assert "\nn_tokens\n" not in text
    # cut at another limit: the tokenizer may be the same
    cut = {"sampling": {"max_new_tokens": 4}}
    c, d = (make(tmp_path / name, counted | {model: {"n_tokens": [5.0, 6.0], "n_words": [1.0, 2.0]} | {column: counts}},
                 **more)
            for name, counts, more in (("c", [2.0, 9.0], {}), ("d", [2.0, 4.0], cut)))  # fmt: skip
    assert "\nn_tokens\n" in compared(c, d)


def test_shares_have_the_interval_of_shares(tmp_path: Path) -> None:
    """Three of four prompts ended in A, all in B: Tango's limits of 1/4; McNemar's p of 1 against 0 is 0.317311."""
    a = make(tmp_path / "a", {"sft": {"ended": [1.0, 1.0, 1.0, 0.0]}})
    b = make(tmp_path / "b", {"sft": {"ended": [1.0, 1.0, 1.0, 1.0]}})
    low, high = tango_interval(1, 0, 4)
    numbers = row(compared(a, b), "ended", "sft")
    assert numbers[:6] == ["0.750", "1.000", "0.250", f"[{low:.3f},", f"{high:.3f}]", "0.3173"]
