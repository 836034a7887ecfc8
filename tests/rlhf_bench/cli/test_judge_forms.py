"""rlhf-bench judge with forms other than pairs, as they are typed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rlhf_bench.report import write_report
from rlhf_bench.store import ResultStore

from ..judge.conftest import serving
from .test_judge import KEY, call, here, judge

__all__ = ["here"]  # the fixture: a result with sft best by gold, dpo longest, base worst and shortest

FOLDER = Path("results/hh-test/tiny")


def test_plan_of_ratings() -> None:
    """4 prompts x 3 models; responses of the same text to the same prompt are one call each."""
    lines = judge("plan tiny --judge gpt-4o --template likert").splitlines()
    assert lines[0] == "responses: 12, each rated from 1 to 5 by helpful, correct, harmless, clear"
    assert lines[1] == "calls: 12, of those answered already: 0, to send: 12"


def test_ratings_by_a_built_in_judge() -> None:
    """By rank of 12: base has the shares 1/12 to 4/12 at one mid-rank, 2.5 (2.5 - .5)/12 = .167 -> 1; then .5 -> 3 and
    .833 -> 5. Gold has no ties within a model either: base .1, dpo .2, sft .3."""
    ran = judge("run tiny --judge gold --template likert")
    assert "gold, 1 to 5: 12 responses, questions: 12 read.\n" in ran
    assert ran.startswith(judge("show tiny"))
    (stored,) = ResultStore(FOLDER).read_judge()["ratings"]
    means = {cell["model"]: cell["estimate"]["value"] for cell in stored["means"]}
    assert means == {"base": 1.0, "sft": 5.0, "dpo": 3.0}
    assert (stored["differences"][0]["a"], stored["differences"][0]["difference"]["value"]) == ("sft", 4.0)
    assert stored["audit"]["gold"]["value"] == pytest.approx(1.0)


def test_ratings_by_a_model_are_stored_and_reported(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(here, 0.0) as server:
        ask = f"judge run tiny --judge judge-1 --base-url {server.url} --template likert --again 2 --quiet"
        assert call(f"{ask} --max-calls 100").exit_code == 0
        asked = server.count()
        assert call(f"{ask} --max-cost 0").exit_code == 0  # read from the ledger
        assert server.count() == asked == 14
        schema = server.requests()[0]["sent"]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["reason", "helpful", "correct", "harmless", "clear"]
    rows = pd.read_parquet(FOLDER / "judge/ratings.parquet")
    assert len(rows) == 14 * 4
    assert rows["rating"].between(1, 5).all()
    (stored,) = ResultStore(FOLDER).read_judge()["ratings"]
    assert (stored["responses"], stored["questions"], stored["parser"]) == (12, {"read": 14}, "ratings-2")
    assert len(stored["means"]) == 12
    assert len(stored["differences"]) == 12
    assert "repeatability" in stored["audit"]
    # a rating is a mean of what is in the rows
    clear = rows[(rows["criterion"] == "clear") & (rows["model"] == "dpo") & (rows["repeat"] == 0)]["rating"].mean()
    (cell,) = [cell for cell in stored["means"] if (cell["criterion"], cell["model"]) == ("clear", "dpo")]
    assert cell["estimate"]["value"] == pytest.approx(clear)

    judge("run tiny --judge length --baseline base")
    write_report(FOLDER, only=("tables", "page"))
    means = pd.read_csv(FOLDER / "tables/judge_ratings.csv")
    assert means["rating"].tolist() == [cell["estimate"]["value"] for cell in stored["means"]]
    assert len(pd.read_csv(FOLDER / "tables/judge_rating_pairs.csv")) == 12
    assert len(pd.read_csv(FOLDER / "tables/judge_rating_audit.csv")) == 1
    page = (FOLDER / "report.html").read_text(encoding="utf-8")
    assert "Ratings by a judge" in page
    assert "Win rates by a judge" in page
    judged = ResultStore(FOLDER).read_judge()  # neither form takes the other's place
    assert (len(judged["ratings"]), len(judged["judgings"])) == (1, 1)


def test_a_judging_of_ratings_replaces_its_own_alone() -> None:
    for template in ("likert", "grade", "likert"):
        judge(f"run tiny --judge random --template {template}")
    judge("run tiny --judge length --template likert")
    stored = ResultStore(FOLDER).read_judge()["ratings"]
    assert [(row["judge"], row["template"]) for row in stored] == [
        ("length", "likert@1"),
        ("random", "grade@1"),
        ("random", "likert@1"),
    ]
    assert len(pd.read_parquet(FOLDER / "judge/ratings.parquet")) == 36


def test_a_response_without_a_score_is_unreadable() -> None:
    store = ResultStore(FOLDER)
    scores = store.read_scores()
    scores.loc[0, "gold"] = float("nan")
    store.write_scores(scores)
    assert "questions: 1 unreadable, 11 read" in judge("run tiny --judge gold --template grade")


def test_rankings_make_pairs_and_strengths(here: Path) -> None:
    """By gold sft > dpo > base on all 4 prompts; the same in both orders, so the place has no effect."""
    ran = judge("run tiny --judge gold --template rank")
    assert (
        "gold: 4 listwise comparisons, each in an order drawn with seed 0 and in its reverse, questions: 8 read." in ran
    )
    assert "gold against base: 8 pairs in both orders, questions: 16 read.\n" in ran
    for rank in ("3.00 [1.80, 3.00]", "1.00 [1.00, 2.20]", "2.00 [1.14, 2.86]", "0.00 [-0.86, 0.86]"):
        assert all(part in ran for part in rank.split(maxsplit=1))
    stored = ResultStore(FOLDER).read_judge()
    assert [(row["baseline"], row["pairs"], row["questions"]) for row in stored["judgings"]] == [
        ("base", 8, {"read": 16}),
        ("sft", 4, {"read": 8}),
    ]
    (strengths,) = stored["strengths"]
    assert [cell["model"] for cell in strengths["models"]] == ["sft", "dpo", "base"]
    assert ran.startswith(judge("show tiny"))
    judge("run tiny --judge gold --template rank --model sft --model dpo")  # replaces all of them
    assert [row["baseline"] for row in ResultStore(FOLDER).read_judge()["judgings"]] == ["sft"]
    assert set(pd.read_parquet(FOLDER / "judge/verdicts.parquet")["baseline"]) == {"sft"}


def test_a_model_ranks_every_listwise_comparison_in_two_orders(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(here, 0.0) as server:
        ask = f"judge run tiny --judge judge-1 --base-url {server.url} --template rank --again 1 --quiet"
        assert call(f"{ask} --max-calls 100").exit_code == 0
        assert server.count() == 9
        assert call(f"{ask} --max-calls 100 --order-seed 1").exit_code == 0
        assert server.count() > 9  # other orders are other questions
    rows = pd.read_parquet(FOLDER / "judge/rankings.parquet")
    assert len(rows) == 9 * 3
    orders = rows[rows["repeat"] == 0].groupby(["prompt_id", "draw"])["model"].agg(list)
    assert all(orders[prompt, 0] == orders[prompt, 1][::-1] for prompt in ("p0", "p1", "p2", "p3"))
    assert sorted(rows["rank"].unique()) == [1.0, 2.0, 3.0]
    write_report(FOLDER, only=("tables", "page"))
    table = pd.read_csv(FOLDER / "tables/judge_rankings.csv")
    assert table["rank"].mean() == pytest.approx(2.0)
    assert table["first"].sum() == pytest.approx(1.0)
    audit = pd.read_csv(FOLDER / "tables/judge_ranking_audit.csv")
    assert audit[["place_1", "place_2", "place_3"]].sum(axis=1).iloc[0] == pytest.approx(1.5)
    assert "seed 1 and in its reverse" in (FOLDER / "tables/judge_rankings.md").read_text()


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("--model sft", 2, "error: --model: 1 models given to rank, expected 2 to 26"),
        ("--baseline sft", 2, "error: --baseline: given 'sft', but rank@1 compares with none; leave it out"),
        ("--model sft --model dpoo", 2, "error: unknown model 'dpoo'; did you mean 'dpo'?"),
    ],
)
def test_what_cannot_be_ranked_is_one_line(line: str, status: int, message: str) -> None:
    assert judge(f"run tiny --judge length --template rank {line} --quiet", status).splitlines() == [message]
