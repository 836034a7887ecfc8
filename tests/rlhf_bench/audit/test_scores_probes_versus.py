"""Scores without a model, probes, two reward models, safety and near-duplicates: by hand."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from rlhf_bench.audit import ListScores, listwise, read_scores, versus
from rlhf_bench.audit.near_duplicates import near_duplicates
from rlhf_bench.audit.pairs import PairScores
from rlhf_bench.audit.probes import PROBES, apply, effect
from rlhf_bench.audit.safety import safety
from rlhf_bench.cli import cli
from rlhf_bench.errors import BadValue, DataError
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
    assert (found.top1.value, found.mrr.value, found.pairs.value) == (1, 1, 0.5)


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
    found = read_scores(path)
    assert [r.scores.tolist() for r in found] == [[1, 2, 3], [0, 1]]
    assert [r.is_right.tolist() for r in found] == [[False, False, True], [True, False]]
    done = CliRunner().invoke(cli, ["audit", "--scores", str(path)])
    assert done.exit_code == 0, done.output
    assert "0.5000" in done.stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "is empty"),
        ("{", "no JSON"),
        ("[1]", "expected an object"),
        ('{"scores": [1, NaN]}', "expected a finite number"),
        ('{"scores": [1]}', "expected two or more"),
        ('{"scores": [1, 2], "best": 2}', "indices below 2"),
        ('{"score": 1}', "given the keys score"),
    ],
)
def test_bad_scores(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_scores(path)


def test_scores_need_no_torch() -> None:
    code = "import sys, rlhf_bench.audit.scores_file; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# two reward models


def test_false_discoveries_are_held() -> None:
    """Of 20 tests 5 are real (z of 4): the mean share of false findings is at most .05 * 15/20, and near it."""
    rng = np.random.default_rng(0)
    from scipy import stats

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
    with pytest.raises(BadValue, match="list_form applies to none of 2 texts"):
        apply("list_form", ["One.", "Two."])


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
    assert near_duplicates(["abcd"], ["abce"], threshold=0.75).tolist() == [True]
    assert near_duplicates(["abcd"], ["abce"], threshold=0.76).tolist() == [False]
    found = near_duplicates(["Tea is hot.", "Tea is hot."], ["tea  is hot.", "Coffee and cake."])
    assert found.tolist() == [True, False]
