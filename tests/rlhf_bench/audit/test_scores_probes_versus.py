"""Scores without a model, probes, two reward models, safety and near-duplicates: by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from rlhf_bench.audit import audit
from rlhf_bench.audit.listwise import ListScores, listwise
from rlhf_bench.audit.near_duplicates import near_duplicates
from rlhf_bench.audit.pairs import PairScores
from rlhf_bench.audit.probes import PROBES, apply, effect
from rlhf_bench.audit.safety import safety
from rlhf_bench.audit.scores_file import read_scores
from rlhf_bench.audit.scores_run import run_scores
from rlhf_bench.audit.versus import versus, versus_by_slice
from rlhf_bench.cli import cli
from rlhf_bench.data import mini
from rlhf_bench.errors import BadValue, DataError
from rlhf_bench.files import write_jsonl
from rlhf_bench.stats import benjamini_hochberg


def row(scores: list[float], *right: int) -> ListScores:
    return ListScores("p", np.array(scores), np.isin(np.arange(len(scores)), right))


# listwise


def test_listwise_by_hand() -> None:
    """First: rank 1. Second: two wrong ones above, rank 3. Third: a tie counts against, rank 2. Top-1 1/3, MRR
    (1 + 1/3 + 1/2) / 3; pairs in order 2/2, 0/2 and 1/2."""
    found = listwise([row([3, 2, 1], 0), row([1, 3, 2], 0), row([2, 2, 1], 0)])
    assert found.top1.value == pytest.approx(1 / 3)
    assert found.mrr.value == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    assert found.pairs.value == pytest.approx(0.5)
    assert found.ties == 1


def test_several_right_responses() -> None:
    """The best right one counts: 3 is above 2. Pairs of right and wrong: 3 > 2, 1 < 2: a half."""
    found = listwise([row([3, 2, 1], 0, 2)])
    assert (found.top1.value, found.separated.value, found.mrr.value, found.pairs.value) == (1, 0, 1, 0.5)


def test_kendall_by_hand() -> None:
    """Right above both wrong ones: 2 concordant of 3 pairs, one tied in rightness: 2 / sqrt(3 * 2); equal scores: 0."""
    assert listwise([row([3, 2, 1], 0)]).kendall.value == pytest.approx(2 / 6**0.5)
    assert listwise([row([1, 1, 1], 0)]).kendall.value == 0


def test_a_prompt_needs_a_right_and_a_wrong_response() -> None:
    with pytest.raises(BadValue, match="2 right and 0 wrong"):
        listwise([row([1, 2], 0, 1)])


def test_scores_of_both_forms(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl.gz"
    rows = [
        {"prompt": "a", "scores": "[1.0, 2.0, 3.0]", "best": "2"},
        {"prompt": "b", "chosen_score": 0, "rejected_score": 1},
    ]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)))
    found = read_scores(path).rows
    assert [r.scores.tolist() for r in found] == [[1, 2, 3], [0, 1]]
    assert [r.is_right.tolist() for r in found] == [[False, False, True], [True, False]]


def test_scores_are_audited_as_models_are(tmp_path: Path) -> None:
    """Two files of scores on the same three prompts: tables as files and as frames, and which model is right where."""
    for name, right in (("good", 3.0), ("bad", 0.5)):
        rows = [
            {"prompt": str(i), "scores": [right, 2.0, 1.0], "subset": "even" if i % 2 == 0 else "odd"} for i in range(3)
        ]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    files = [f"{tmp_path}/good.jsonl", f"{tmp_path}/bad.jsonl"]
    done = CliRunner().invoke(
        cli, ["audit", "--scores", files[0], "--scores", f"other={files[1]}", "--results", str(tmp_path / "r")]
    )
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) <= 25
    (folder,) = (tmp_path / "r" / "audit").iterdir()
    for suffix in ("md", "csv", "tex"):
        assert (folder / "tables" / f"audit_lists.{suffix}").is_file()
    assert (folder / "tables" / "audit.xlsx").is_file()
    frames = audit(scores={"good": files[0], "other": files[1]}, results=tmp_path / "r")
    assert frames.folder.parent == folder
    lists = frames.tables["audit_lists"].set_index(["model", "category"])["top1"]
    assert lists.to_dict() == {(m, c): v for m, v in (("good", 1), ("other", 0)) for c in ("all", "even", "odd")}
    assert frames.tables["audit_versus"]["only_first"].item() == 3
    assert len(frames.mistakes) == 6


def test_scores_with_texts_are_examined(tmp_path: Path) -> None:
    """Scores that are lengths pay for length; and styles where both sides have three."""
    pairs = mini.generate("test", n=120)
    rows = [
        {"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected,
         "chosen_score": len(p.chosen), "rejected_score": len(p.rejected)}
        for p in pairs
    ]  # fmt: skip
    write_jsonl(tmp_path / "a.jsonl", rows)
    found = audit(scores=tmp_path / "a.jsonl", results=tmp_path)
    assert "length" in found.findings["sentence"].iloc[0]
    write_jsonl(tmp_path / "b.jsonl", [{"score_chosen": [3, 2, 1], "score_rejected": [0, 0, 2.5]}] * 3)
    tables = audit(scores=tmp_path / "b.jsonl", results=tmp_path).tables
    styles = tables["audit_styles"].iloc[0]
    # easy: chosen 2, 3, 3 against rejected 1, 1, 2, all above 0; normal: 1 < 2.5; hard: 3 > 0, 3 > 2.5, 2 < 2.5
    assert (styles["easy"], styles["normal"], styles["hard"]) == pytest.approx((1, 2 / 3, 2 / 3))
    assert tables["audit_style_matrix"].iloc[:, 2:].to_numpy().tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 0]]


def test_files_of_other_prompts_are_not_compared(tmp_path: Path) -> None:
    for name, prompt in (("a", "x"), ("b", "y")):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"prompt": prompt, "scores": [1, 0]}])
    with pytest.raises(DataError, match="row 1 of"):
        run_scores({name: tmp_path / f"{name}.jsonl" for name in "ab"}, results=tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "blank lines only"),
        ("{", "no row is left"),
        ('{"scores": [1, NaN]}', "expected a finite number"),
        ('{"chosen_score": NaN, "rejected_score": 1}', "no number as 'chosen_score'"),
        ('{"scores": [1]}', "has 1 score, expected two or more"),
        ('{"scores": [1, 2], "best": 2}', "indices below 2"),
        ('{"score": 1}', "has score, expected scores"),
        ('{"scores": [1, 2], "best": [0, 1]}', "2 right and 0 wrong"),
        ('{"scores": [1, 2], "responses": ["one"]}', "1 texts and 2 scores"),
        ('{"scores": [1, 2], "subset": ""}', "'subset' has no value"),
    ],
)
def test_bad_scores(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(2 * (line + "\n"), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_scores(path)


# two reward models


def test_false_discoveries_are_held() -> None:
    """Of 20 tests 5 are real (z of 4): the mean share of false findings is at most .05 * 15/20, and near it."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        p = 2 * stats.norm.sf(np.abs(rng.normal(size=20) + 4 * (np.arange(20) < 5)))
        found = np.array(benjamini_hochberg(p.tolist())) < 0.05
        shares.append(found[5:].sum() / max(found.sum(), 1))
    assert 0.02 < np.mean(shares) < 0.05


def test_versus_by_hand() -> None:
    """Right on 3 and 2 of 4, together on 1: agreement 1/4 both right, none both wrong: 1/4; by chance
    3/4 * 1/2 + 1/4 * 1/2 = 1/2; kappa (1/4 - 1/2) / (1/2) = -1/2. The sum of both is right on all four."""
    first, second = np.array([3.0, 3.0, 3.0, -1.0]), np.array([1.0, -1.0, -1.0, 3.0])
    found = versus(first, second, list("abcd"))
    assert (found.first.value, found.second.value, found.difference.value) == (0.75, 0.5, 0.25)
    assert found.kappa.value == pytest.approx(-0.5)
    assert found.ensemble.value == 1
    assert (found.only_first, found.only_second) == (2, 1)


def test_versus_by_slice_by_hand() -> None:
    """On the first 40 pairs the first model alone is right, on the other 40 both are; 20 pairs are too few."""
    first, second = np.ones(80), np.array([-1.0] * 40 + [1.0] * 40)
    masks = {"a": np.arange(80) < 40, "b": np.arange(80) >= 40, "all": np.ones(80, bool), "few": np.arange(80) < 20}
    found = {row.name: row for row in versus_by_slice(first, second, [str(i) for i in range(80)], masks)}
    assert {name: row.difference.value for name, row in found.items()} == {"all": 0.5, "a": 1, "b": 0}
    # mean .5, sd sqrt(80 / 79) / 2, t = sqrt(79)
    assert found["all"].p == pytest.approx(float(2 * stats.t.sf(79**0.5, 79)))
    assert found["b"].p == 1


# probes


@pytest.mark.parametrize(
    ("name", "text", "edited"),
    [
        ("exclamation_added", " It is red.", " It is red!"),
        ("exclamation_added", " Is it red?", None),
        ("flattery_added", " It is red.", " What a great question! It is red."),
        ("filler_added", "", None),
        ("hedge_to_assertion", " Perhaps it may be red.", " it is red."),
        ("hedge_to_assertion", " It is red.", None),
        ("assertion_to_hedge", " It is red.", " It is probably red."),
        ("politeness_removed", " Please open it.", " open it."),
        ("politeness_removed", " It is red.", None),
        ("list_form", "One. Two. Three.", "- One.\n- Two.\n- Three."),
        ("list_form", "One. Two.", None),
        ("lower_case", "It is Red.", "it is red."),
        ("white_space", "One. Two.", "One.\n\nTwo."),
        ("last_sentence_repeated", "One. Two.", "One. Two. Two."),
        ("truncated", "one two three four", "one two"),
        ("truncated", "one two three", None),
        ("typo", "It is green.", "It is geren."),
        ("typo", "It is a cat.", None),
        ("contractions", "I do not know.", "I don't know."),
        ("contractions", "It is red.", "It's red."),
        ("synonyms", "Begin with a big one.", "Start with a large one."),
        ("synonyms", "Red.", None),
    ],
)
def test_an_edit(name: str, text: str, edited: str | None) -> None:
    assert PROBES[name].edit(text) == edited


@pytest.mark.parametrize("name", PROBES)
def test_every_edit_says_what_it_does_and_survives_nothing(name: str) -> None:
    assert PROBES[name].edit.__doc__
    assert PROBES[name].edit("") is None


def test_an_effect_by_hand() -> None:
    """Texts 0 and 2 can be edited. Margins of -5, 2, 2 have a root mean square of sqrt(11); both edits take 3: mean
    -3 / 3.316625 = -.904534. Before, text 2 beat its other side (4 > 2), after (1) it does not: 1 of 1 flips."""
    probed = apply("exclamation_added", ["One.", "Two?", "Three."])
    before = PairScores(np.array([0.0, 2.0, 4.0]), np.array([5.0, 0.0, 2.0]))
    found = effect("exclamation_added", 0, probed, before, np.array([-3.0, 1.0]))
    assert (probed.at, probed.left_out) == ([0, 2], 1)
    assert found.change.value == pytest.approx(-0.904534, abs=1e-6)
    assert found.flips is not None
    assert (found.flips.value, found.flips.n) == (1, 1)
    assert not found.goes_as_it_should


def test_a_probe_that_applies_to_nothing() -> None:
    assert apply("list_form", ["One.", "Two."]) == ([], [], 2)


# safety and near-duplicates


def test_safety_counts_the_pairs_in_which_help_beats_a_refusal() -> None:
    refusal, help_ = " I'm sorry, but I can't assist with that.", " Here's a step-by-step guide: 1. Open the lid."
    found = safety([refusal, refusal, help_], [help_, help_, refusal], np.array([1.0, -2.0, 1.0]))
    assert found.n == 2
    assert found.helped_wins is not None
    assert found.helped_wins.value == 0.5
    assert found.worst == [1]
    assert safety([help_], [help_], np.ones(1)).n == 0


def test_near_duplicates() -> None:
    """ "abcd" and "abce": 2 * 3 / 8 = .75; case and white space do not count."""
    found = near_duplicates(["Tea is hot.", "Tea is hot."], ["tea  is hot.", "Coffee and cake."])
    assert found.tolist() == [True, False]
    assert [near_duplicates(["abcd"], ["abce"], threshold=t).item() for t in (0.75, 0.76)] == [True, False]
