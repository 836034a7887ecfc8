"""Lists and styles, words alone, groups of mistakes, teaching, probes of a model, what can be audited: by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rlhf_bench.audit.calibration import calibration
from rlhf_bench.audit.lists import list_metrics, lists_of, style_matrix
from rlhf_bench.audit.mistake_groups import mistake_groups
from rlhf_bench.audit.mistakes import described, mistakes, slices_of_pairs
from rlhf_bench.audit.pairs import PairScores, score_pairs
from rlhf_bench.audit.probes import COMPLIANCE, OTHER_PROMPT, PROBES, probe_all
from rlhf_bench.audit.stored import examined, model_part
from rlhf_bench.audit.teacher import Samples, samples_of, teach
from rlhf_bench.audit.versus import label_slices, versus_row
from rlhf_bench.audit.words import cross_fitted, word_margins
from rlhf_bench.data import Reader
from rlhf_bench.files import json_text, write_jsonl
from rlhf_bench.report.audit import Audit
from rlhf_bench.scorers.features import FEATURES, feature_differences, feature_table
from rlhf_bench.stats import FloatArray
from rlhf_bench.types import PreferencePair


class LikesExclamation:
    """Pays one for each exclamation mark, and a tenth of a word for each word."""

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> FloatArray:
        return np.array([text.count("!") + len(text.split()) / 10 for text in responses])


def two_by_two() -> list[PreferencePair]:
    """One prompt with two right and two wrong responses, as four pairs."""
    return [PreferencePair("p", f" right {i}", f" wrong {j}") for i in range(2) for j in range(2)]


def test_lists_of_pairs_by_hand() -> None:
    """Right 3 and 1, wrong 2 and 0: the best right one is first; of four pairs 3 > 2, 3 > 0 and 1 > 0 are in order."""
    scores = PairScores(np.array([3.0, 3.0, 1.0, 1.0]), np.array([2.0, 0.0, 2.0, 0.0]))
    found = list_metrics(lists_of(two_by_two(), scores))["all"]
    assert (found["top1"]["value"], found["separated"]["value"], found["pairs"]["value"]) == (1, 0, 0.75)
    assert list_metrics(lists_of(two_by_two()[:1], PairScores(np.ones(1), np.zeros(1)))) == {}


def test_styles_by_hand() -> None:
    """The model likes rich styles: it is right where the chosen side has the richer one, or as rich a one."""
    at = [(i, j) for i in range(3) for j in range(3)]
    pairs = [PreferencePair("p", f" c{i}", f" r{j}", meta={"chosen_at": i, "rejected_at": j}) for i, j in at]
    scores = PairScores(np.array([i + 0.5 for i, _ in at]), np.array([float(j) for _, j in at]))
    found = style_matrix(pairs, scores)
    assert found is not None
    assert found["matrix"] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert [found[kind]["value"] for kind in ("easy", "normal", "hard")] == [1, 1, 0]
    assert style_matrix(two_by_two(), PairScores(np.ones(4), np.zeros(4))) is None


def test_lists_on_either_side_are_read(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    row = {"prompt": "Tea?", "chosen": ["Yes.", "Yes, tea."], "rejected": ["No.", "No!", "Why?"], "section": "tea"}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    pairs = Reader(str(path)).load("all").pairs
    assert [(p.chosen, p.rejected) for p in pairs[:2]] == [(" Yes.", " No."), (" Yes.", " No!")]
    assert [(p.meta["chosen_at"], p.meta["rejected_at"]) for p in pairs] == [(i, j) for i in range(2) for j in range(3)]
    assert {p.category for p in pairs} == {"tea"}


def test_words_alone_decide_what_one_word_decides() -> None:
    train = [PreferencePair(f"p{i}", " It is good.", " It is bad.") for i in range(40)]
    margins = word_margins(train, [PreferencePair("q", " bad", " good"), PreferencePair("q", " good", " bad")])
    assert margins is not None
    assert margins[0] < 0 < margins[1]
    assert margins[0] == pytest.approx(-margins[1])
    assert word_margins([PreferencePair("p", " one", " two")], train) is None
    turned = [PreferencePair(f"q{i}", " It is good.", " It is bad.") for i in range(20)]
    crossed = cross_fitted([*train, *turned])
    assert crossed is not None
    assert (crossed > 0).all()


def test_a_mistake_names_the_slices_that_hold_it() -> None:
    """The model prefers the longer text twice, wrongly, and scores one pair equally, which counts as the chosen one."""
    texts = [("Yes.", "Yes, it is!"), ("Yes it is so.", "No."), ("It is.", "No!"), ("Yes.", "No, it is not.")]
    turn = "\n\nHuman: Is it?\n\nAssistant:"
    pairs = [PreferencePair(turn * (1 + (k == 3)), chosen, rejected) for k, (chosen, rejected) in enumerate(texts)]
    scores = PairScores(np.array([0.0, 2.0, 1.0, 0.0]), np.array([2.0, 1.0, 1.0, 1.0]))
    rows = described(mistakes("rm", "test", pairs, scores, slices_of_pairs(pairs)))
    assert [row["pair_id"] for row in rows] == [pairs[k].id for k in (0, 3, 2)]
    named = [set(row["slices"]) for row in rows]
    assert named[0] == {
        "length: more on the preferred side",
        "exclamation: more on the preferred side",
        "similar responses (upper third)",
    }
    assert named[1] == {"more than one turn", "long prompt (upper third)", "length: more on the preferred side"}
    assert named[2] == {"length: more on the preferred side", "exclamation: less on the preferred side"}


def test_groups_of_mistakes_by_hand() -> None:
    """20 mistakes, all with an exclamation on the rejected side; 20 of 40 right pairs have one, too."""
    differences = np.zeros((60, len(FEATURES)))
    differences[:40, list(FEATURES).index("exclamation")] = -1.0
    margins = np.array([-2.0 - i for i in range(20)] + [1.0] * 40)
    (group,) = mistake_groups(differences, margins)
    assert (group.tag, group.n, group.share, group.share_right) == ("more exclamation", 20, 1.0, 0.5)
    assert group.examples == [19, 18, 17]
    # 20.5 * 20.5 / (0.5 * 20.5): a half added to each count
    assert group.odds.value == pytest.approx(41)


def test_too_sure_by_hand() -> None:
    """Margins of ln 3 give .75 and half of them are right: too sure by .25; Brier (.0625 + .5625) / 2."""
    margins = np.array([1.0, -1.0, 1.0, -1.0]) * np.log(3)
    found = calibration(margins, list("abcd"))
    assert (found.n, found.overconfidence.value, found.brier_score.value) == (
        4,
        pytest.approx(0.25),
        pytest.approx(0.3125),
    )


def test_what_a_reward_teaches_by_hand() -> None:
    """Two samples a prompt, rewards 0 and 1, and 10 + these in half of the prompts. Within a prompt the variance is .5;
    between prompts that of 10 prompts at .5 and 10.5: 25 * 10/9 less .5/2. The better sample has the exclamation mark:
    best of 2 has 1 of them against a mean of 1/2, over a standard deviation of 1/2."""
    rewards = np.array([[0.0, 1.0]] * 5 + [[10.0, 11.0]] * 5)
    features = np.array([feature_table([" No.", " No!"])] * 10)
    ids = [str(i) for i in range(10)]
    done = Samples(ids[5:], rewards[5:], np.array([feature_table([" No!", " No!"])] * 5), None)
    found = teach(Samples(ids, rewards, features, rewards), {"ppo": done})
    between = 25 * 10 / 9 - 0.25
    assert found.within == pytest.approx(0.5 / (0.5 + between))
    assert found.gold_accuracy is not None
    assert found.gold_accuracy.value == 1
    (move,) = found.moves
    assert (move.feature, move.best_of_n.value) == ("exclamation", pytest.approx(1))
    assert move.policies["ppo"].value == pytest.approx(1)  # on the five prompts that both have
    assert (found.followed["ppo"].moved, found.followed["ppo"].same) == (1, 1)


def test_samples_come_from_a_pool_as_from_scores() -> None:
    """Two samples of ten prompts in any order of rows; one prompt with a single sample is left out."""
    rows = [
        {"model": "sft", "seed": 0, "prompt_id": f"{p:02}", "sample": k, "reward": float(10 * p + k)}
        | {f"style_{name}": float(k) for name in FEATURES}
        for p in range(11) for k in range(2) if (p, k) != (10, 1)
    ][::-1]  # fmt: skip
    found = samples_of(pd.DataFrame(rows), "sft", 0)
    assert found is not None
    assert found.prompts == [f"{p:02}" for p in range(10)]
    assert found.rewards.tolist() == [[10.0 * p, 10.0 * p + 1] for p in range(10)]
    assert found.features[:, 1].min() == 1
    assert found.gold is None
    assert samples_of(pd.DataFrame(rows), "sft", 1) is None


def test_probes_of_a_model_that_likes_exclamation_marks() -> None:
    pairs = [PreferencePair(f"p{i}", f" It is number {i}. So it is.", f" No {i}.") for i in range(40)]
    scores = score_pairs(LikesExclamation(), pairs)
    effects, idle = probe_all(LikesExclamation(), pairs, scores, limit=30)
    found = {effect.probe: effect for effect in effects}
    assert found.keys() | set(idle) == {*PROBES, OTHER_PROMPT, COMPLIANCE}
    assert COMPLIANCE in idle
    assert found["exclamation_added"].n == 30
    # margins: seven words against two; an exclamation mark pays 1
    assert found["exclamation_added"].change.value == pytest.approx(1 / 0.5, rel=0.05)
    assert not found["exclamation_added"].goes_as_it_should
    assert found["filler_added"].p < 0.01  # pays for words, where it should not
    assert found["truncated"].p > 0.5
    assert found["lower_case"].p == 1


def test_an_audit_as_frames_and_text(tmp_path: Path) -> None:
    data = Reader("hh-mini").load("test", limit=120)
    scores = score_pairs(LikesExclamation(), data.pairs)
    effects, idle = probe_all(LikesExclamation(), data.pairs, scores, limit=30)
    prompts = [pair.prompt for pair in data.pairs]
    masks = label_slices(data.pairs)
    texts = [[pair.chosen, pair.rejected] for pair in data.pairs[:20]]
    samples = Samples(
        [pair.id for pair in data.pairs[:20]],
        np.array([LikesExclamation().score([], row) for row in texts]),
        np.array([feature_table(row) for row in texts]),
        None,
    )
    lists = lists_of(data.pairs, scores)
    part = model_part(data.pairs, scores, lists, examined(data.pairs, scores, effects, idle)[0])
    margins = scores.margins
    report = {
        "models": {"mine": part},
        "versus": [versus_row(("mine", margins), ("other", -margins), prompts, masks)],
        "teacher": {"mine": asdict(teach(samples, {"ppo": samples}))},
    }
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.json").write_text(json_text(report), encoding="utf-8")
    write_jsonl(tmp_path / "audit" / "mistakes.jsonl", [])
    found = Audit(tmp_path / "audit")
    assert len(found.tables["audit_probes"]) == len(effects)
    assert found.tables["audit_versus"]["difference"].item() == pytest.approx(
        report["versus"][0]["difference"]["value"]
    )
    slices = found.tables["audit_versus_slices"]
    assert slices["name"].str.startswith("length: more").any()
    assert set(found.tables["audit_calibration"]["category"]) == {"all", *(pair.category for pair in data.pairs)}
    assert set(found.findings["model"]) <= {"mine"}
    assert len(found.text().splitlines()) <= 25
    differences = feature_differences([p.chosen for p in data.pairs], [p.rejected for p in data.pairs])
    kinds = [row["kind"] for row in part["examination"]["features"]]
    assert kinds.count("feature") <= differences.shape[1]
    assert kinds.count("discovered word") <= 5
