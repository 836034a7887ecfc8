"""Several responses ranked in one call: listwise comparisons, parsing, pairs, the place's effect, and strengths."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from rlhf_bench.errors import BadValue, StoreError
from rlhf_bench.judge.analysis import model_strengths
from rlhf_bench.judge.analysis.pairs import fold
from rlhf_bench.judge.analysis.scales import measure_rankings, place_correlations
from rlhf_bench.judge.forms import load_template
from rlhf_bench.judge.forms.ranking import listwise_of, pair_rows, read_ranking
from rlhf_bench.judge.questions import ListwiseComparison, ParsedAnswer, Selection

from .attacks import CORPUS

RANK = load_template("rank")
LISTWISE = ListwiseComparison(
    "p", "\n\nHuman: Name a colour.\n\nAssistant:", 0, 0, 0, ("sft", "base", "ppo"), (" Red", " Hm", " Blue")
)
MODELS = ("base", "sft", "ppo")


def responses(prompts=3, models=MODELS):
    return [
        {"model": m, "prompt_id": f"p{p}", "prompt": f"q{p}", "seed": s, "sample": 0, "response": f"{m} {p}"}
        for p in range(prompts)
        for s in (1, 2)
        for m in models
    ]


# What is sent


def outside(ranked):
    text = "\n\n".join(message.content for message in RANK.render(ranked).messages)
    (token,) = set(re.findall(r"\[\[([0-9a-f]{16}) BEGIN RESPONSE A\]\]", text))
    for name in ("CONVERSATION", "RESPONSE A", "RESPONSE B", "RESPONSE C"):
        begin, end = f"[[{token} BEGIN {name}]]", f"[[{token} END {name}]]"
        assert (text.count(begin), text.count(end)) == (1, 1)
        text = text[: text.index(begin)] + f"<{name}>" + text[text.index(end) + len(end) :]
    return re.sub(r"\n\(RESPONSE .: (\d+ more characters are not shown|empty)\)", "", text).replace(token, "<fence>")


def test_no_attack_changes_what_is_outside_of_the_fences():
    plain = outside(LISTWISE)
    assert "Rank the responses A, B, C, the best first" in plain
    for attack in CORPUS:
        assert outside(replace(LISTWISE, responses=(" Red", attack, " Blue"))) == plain


def test_the_responses_keep_the_drawn_order():
    content = RANK.render(LISTWISE).messages[1].content
    assert content.index(" Red") < content.index(" Hm") < content.index(" Blue")
    assert RANK.render(LISTWISE).format.schema["properties"]["ranking"]["items"]["enum"] == ["A", "B", "C"]


def test_each_prompt_has_a_drawn_order_and_its_reverse():
    found = listwise_of(responses())
    assert (len(found.comparisons), found.models, found.short) == (12, list(MODELS), 0)
    for drawn, reverse in zip(found.comparisons[::2], found.comparisons[1::2], strict=True):
        assert (drawn.draw, reverse.draw) == (0, 1)
        assert (drawn.models[::-1], drawn.responses[::-1]) == (reverse.models, reverse.responses)
        assert drawn.responses == tuple(f"{model} {drawn.prompt_id[1]}" for model in drawn.models)
    assert listwise_of(responses()[::-1]) == found
    assert listwise_of(responses(), seed=1).comparisons != found.comparisons


def test_every_order_is_drawn_as_often():
    """1,200 draws of 6 orders: 200 each, standard deviation sqrt(1200 * 1/6 * 5/6) = 12.9."""
    found = listwise_of(responses(600))
    counts = pd.Series([ranked.models for ranked in found.comparisons if ranked.draw == 0]).value_counts()
    assert len(counts) == 6
    assert counts.between(200 - 4 * 13, 200 + 4 * 13).all()


def test_prompts_that_not_all_have_answered_are_left_out():
    rows = responses()[:-1]
    assert (listwise_of(rows).short, len(listwise_of(rows).comparisons)) == (1, 10)
    with pytest.raises(StoreError, match=r"^no prompt was answered by each of base, sft; name other models"):
        listwise_of(
            [row for row in responses(1) if (row["model"] == "sft") == (row["seed"] == 1)], Selection(["base", "sft"])
        )
    with pytest.raises(BadValue, match="1 models given to rank, expected 2 to 26"):
        listwise_of(responses(), Selection(["sft", "sft"]))


# What is read


def test_a_ranking_names_each_response_once():
    content = json.dumps({"reason": "because", "ranking": ["B", "C", "A"]})
    assert read_ranking({"content": content}, 3) == ParsedAnswer("read", meta={"B": 1, "C": 2, "A": 3})


@pytest.mark.parametrize(
    ("ranking", "note"),
    [
        (["A", "B"], "the ranking does not name each response once"),
        (["A", "B", "C", "D"], "the ranking does not name each response once"),
        (["A", "B", "B"], "the ranking does not name each response once"),
        (["a", "A", "c"], "the ranking does not name each response once"),
        ([], "the ranking does not name each response once"),
        ("ABC", "the ranking is no list of labels"),
        ([["A", "B"], "C"], "the ranking is no list of labels"),
        ([1, 2, 3], "the ranking is no list of labels"),
        (None, "the ranking is no list of labels"),
    ],
)
def test_any_other_list_is_unreadable(ranking, note):
    assert read_ranking({"content": json.dumps({"ranking": ranking})}, 3) == ParsedAnswer("unreadable", note=note)


@pytest.mark.parametrize("content", ["A > B > C", '{"order": ["A", "B", "C"]}', '["A", "B", "C"]', ""])
def test_any_other_answer_is_unreadable(content):
    assert read_ranking({"content": content}, 3).status == "unreadable"
    assert read_ranking({"content": None, "refusal": "no"}, 3).status == "refused"


# Numbers


def rank_rows(rank, rankings):
    """Rows of rankings.parquet, from a function of a listwise comparison to its ranks by place (None: not read)."""
    rows = []
    for ranked in rankings:
        ranks = rank(ranked)
        for place, model in enumerate(ranked.models, 1):
            rows.append(
                {"judge": "j", "base_url": "u", "template": "rank@1", "model": model, "prompt_id": ranked.prompt_id}
                | {"seed": ranked.seed, "sample": ranked.sample, "draw": ranked.draw, "place": place, "repeat": 0}
                | {"status": "unreadable" if ranks is None else "read", "note": "", "length": 10 + place, "key": "k"}
                | {"rank": math.nan if ranks is None else float(ranks[place - 1])}
            )
    return pd.DataFrame(rows)


def by_place(ranked):
    return range(1, len(ranked.models) + 1)


def by_model(ranked):
    return [3 - MODELS.index(model) for model in ranked.models]  # ppo 1, sft 2, base 3


def test_pairs_of_a_ranking_worked_by_hand():
    """Shown as sft, base, ppo and ranked 2, 3, 1; the reverse was not read."""
    reverse = replace(LISTWISE, draw=1, models=LISTWISE.models[::-1])
    rows = pair_rows(rank_rows(lambda ranked: None if ranked.draw else (2, 3, 1), [LISTWISE, reverse]))
    rows = rows.sort_values(["baseline", "model"])
    drawn = rows[rows["status"] == "read"][["model", "baseline", "order", "winner", "model_length", "baseline_length"]]
    assert drawn.values.tolist() == [
        ["ppo", "base", "baseline_first", "second", 13, 12],
        ["sft", "base", "model_first", "first", 11, 12],
        ["ppo", "sft", "baseline_first", "second", 13, 11],
    ]
    other = rows[rows["status"] == "unreadable"]
    assert other["order"].tolist() == ["model_first", "baseline_first", "model_first"]
    assert fold(rows)["why"].tolist() == ["unreadable"] * 3


def test_equal_ranks_are_a_tie():
    """sft and base share the first rank; both stand before ppo."""
    rows = pair_rows(rank_rows(lambda _: (1, 1, 3), [LISTWISE]))
    assert sorted(rows[["model", "baseline", "winner"]].values.tolist()) == [
        ["ppo", "base", "first"],
        ["ppo", "sft", "first"],
        ["sft", "base", "tie"],
    ]


def test_a_judge_that_goes_by_the_place_wins_nothing_and_is_named():
    """20 prompts x 2 seeds; the correlation is 1 in each comparison; the sign-flip test of 20 prompts has p 1/2001."""
    rows = rank_rows(by_place, listwise_of(responses(20)).comparisons)
    found = measure_rankings(rows)
    assert found["position"].value == pytest.approx(1.0)
    assert found["position_p"] == pytest.approx(1 / 2001)
    assert [cell["score"].value for cell in found["places"]] == pytest.approx([1.0, 0.5, 0.0])
    assert [cell["rank"].value for cell in found["models"]] == pytest.approx([2.0] * 3)
    pairs = fold(pair_rows(rows))
    assert set(pairs["outcome"]) == {0.5}
    assert set(pairs["why"]) == {"disagree"}


def test_a_judge_that_goes_by_the_model_is_not_accused():
    """The reverse takes back what the drawn order shows: each comparison's two correlations are opposite."""
    rows = rank_rows(by_model, listwise_of(responses(20)).comparisons)
    found = measure_rankings(rows)
    assert found["position"].value == pytest.approx(0.0, abs=1e-12)
    assert found["position_p"] == 1.0
    assert [(cell["model"], cell["rank"].value, cell["first"].value) for cell in found["models"]] == [
        ("base", 3.0, 0.0),
        ("sft", 2.0, 0.0),
        ("ppo", 1.0, 1.0),
    ]
    correlations = place_correlations(rows).pivot_table(
        index=["prompt_id", "seed"], columns="draw", values="correlation"
    )
    assert (correlations[0] + correlations[1]).abs().max() < 1e-12
    assert correlations[0].abs().max() == pytest.approx(1.0)


def test_what_was_not_read_does_not_count():
    rows = rank_rows(
        lambda ranked: None if ranked.prompt_id == "p0" else by_model(ranked), listwise_of(responses()).comparisons
    )
    found = measure_rankings(rows)
    assert found["audit"]["unreadable"].value == pytest.approx(1 / 3)
    assert [cell["rank"].value for cell in found["models"]] == [3.0, 2.0, 1.0]
    assert [cell["rank"].n for cell in found["models"]] == [2, 2, 2]


def noisy(rankings, seed=0):
    """Ranks by strength 0, 0.5, 1 plus a noise that is of the prompt and model, whatever the order: Gumbel, so that
    two models meet as Bradley-Terry has it (Luce 1959)."""
    draws = np.random.default_rng(seed)
    noise = {}

    def rank(ranked):
        key = (ranked.prompt_id, ranked.seed)
        values = noise.setdefault(key, dict(zip(MODELS, draws.gumbel(size=3), strict=True)))
        scores = [0.5 * MODELS.index(model) + values[model] for model in ranked.models]
        order = np.argsort(np.argsort(-np.array(scores)))
        return [int(place) + 1 for place in order]

    return rank_rows(rank, rankings)


def test_strengths_come_back_and_agree_with_an_independent_fit():
    rankings = [ranked for ranked in listwise_of(responses(400)).comparisons if ranked.seed == 1]
    pairs = fold(pair_rows(noisy(rankings)))
    found = {one.model: one.elo for one in model_strengths(pairs, baseline="base")}
    truth = {"sft": 1000 + 0.5 * 400 / math.log(10), "ppo": 1000 + 400 / math.log(10)}
    for model, elo in truth.items():
        assert found[model].low < elo < found[model].high

    def loss(theta):
        strength = dict(zip(MODELS, (0.0, *theta), strict=True))
        lead = pairs["model"].map(strength) - pairs["baseline"].map(strength)
        return float((np.logaddexp(0, -lead) * pairs["outcome"] + np.logaddexp(0, lead) * (1 - pairs["outcome"])).sum())

    fit = optimize.minimize(loss, [0.0, 0.0]).x * 400 / math.log(10)
    assert [found[model].value - 1000 for model in MODELS[1:]] == pytest.approx(fit, abs=0.2)


def test_pairs_of_one_call_are_no_independent_evidence():
    """Three pairs rest on each answer. Over prompts, ppo's strength over base has the interval that a plain bootstrap
    of prompts gives; were each pair a prompt of its own, it would come out narrower."""
    rankings = [ranked for ranked in listwise_of(responses(120)).comparisons if ranked.seed == 1]
    pairs = fold(pair_rows(noisy(rankings, seed=3)))

    def width(frame):
        (one,) = [one for one in model_strengths(frame, baseline="base") if one.model == "ppo"]
        return one.elo.high - one.elo.low

    # an independent bootstrap: whole prompts drawn, the three win counts turned into strengths by scipy
    draws = np.random.default_rng(1)
    wins = pairs.pivot_table(index="prompt_id", columns=["model", "baseline"], values="outcome").to_numpy()
    columns = pairs.pivot_table(index="prompt_id", columns=["model", "baseline"], values="outcome").columns
    strengths = []
    for _ in range(300):
        share = wins[draws.integers(0, len(wins), len(wins))].mean(axis=0)

        def loss(theta, share=share):
            strength = dict(zip(MODELS, (0.0, *theta), strict=True))
            lead = np.array([strength[model] - strength[baseline] for model, baseline in columns])
            return float((np.logaddexp(0, -lead) * share + np.logaddexp(0, lead) * (1 - share)).sum())

        strengths.append(optimize.minimize(loss, [0.0, 0.0]).x[1] * 400 / math.log(10))
    low, high = np.quantile(strengths, [0.025, 0.975])
    together = width(pairs)
    assert together == pytest.approx(high - low, rel=0.12)
    apart = width(
        pairs.assign(
            prompt_id=[
                f"{p} {m} {b}" for p, m, b in zip(pairs["prompt_id"], pairs["model"], pairs["baseline"], strict=True)
            ]
        )
    )
    assert apart < 0.9 * together
