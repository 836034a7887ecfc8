"""100,000 verdicts in one ledger: looking all of them up, and their statistics. Processor seconds, ratios, memory.

A pass over the ledger takes the keys of all calls and gives their verdicts: at once, against a query a key. `judge run`
with nothing left to send also renders and hashes each question first, which is timed beside it. The statistics are all
that it then computes from the table, against the same for a tenth of the prompts.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from rlhf_bench.files import json_text
from rlhf_bench.judge.analysis import measure, measured_strengths
from rlhf_bench.judge.client import JudgeClient, look_up
from rlhf_bench.judge.client.endpoint import Endpoint
from rlhf_bench.judge.forms import load_template
from rlhf_bench.judge.forms.pairwise import PairForm, read_verdict
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.ledger.file import Attempt, answer_digest
from rlhf_bench.judge.ledger.transfer import import_ledger
from rlhf_bench.judge.questions import PairComparison, QuestionId, items_of
from rlhf_bench.judge.results import verdict_rows

ROUNDS, MODELS, SEEDS, PROMPTS, SAMPLES = 5, 5, 2, 1_250, 4
WORDS = ("the", "answer", "is", "that", "you", "put", "it", "in", "boiling", "water", "for", "eight", "minutes")
SCOPE = "hh-test/default judge-1"


def comparisons() -> list[PairComparison]:
    """50,000 pairs, each response of 20 to 80 words."""
    rng = np.random.default_rng(0)
    sides = [f"m{i}" for i in range(MODELS)]
    return [
        PairComparison(f"p{p}", f"\n\nHuman: {p}?\n\nAssistant:", s, k, model, "base", *(_text(rng) for _ in range(2)))
        for p in range(PROMPTS)
        for model in sides
        for s in range(SEEDS)
        for k in range(SAMPLES)
    ]


def _text(rng: np.random.Generator) -> str:
    return " ".join(WORDS[w] for w in rng.integers(0, len(WORDS), rng.integers(20, 80)))


def ledger_rows(client: JudgeClient, items: list[QuestionId]) -> Iterator[Mapping[str, object]]:
    """A ledger's export in which each question has one answer and one verdict."""
    body = json_text({"choices": [{"message": {"content": '{"winner": "A"}'}, "finish_reason": "stop"}]})
    answered = Attempt("answered", "", True, 100, 200, body, "judge-1", None, "stop", 400, 0, 8)
    for n, item in enumerate(items):
        call = client.endpoint.call(client.question(item))
        fields = {name: getattr(call, name) for name in ("judge", "base_url", "request", "template", "template_hash")}
        yield {"table": "calls", "key": call.key, "created": 0.0, **fields}
        about = {"uid": str(n), "key": call.key, "scope": SCOPE, "started": 0.0, "seconds": 1.0}
        yield {"table": "attempts", **about, **asdict(answered), "digest": answer_digest(body)}
        winner = ("first", "first", "second", "tie")[int(call.key[:4], 16) % 4]
        verdict = {"key": call.key, "parser": client.parser, "winner": winner, "soft": None, "note": "", "meta": "{}"}
        yield {"table": "verdicts", **verdict}


def look_ups(client: JudgeClient, items: list[QuestionId]) -> pd.DataFrame:
    """Prints what the passes take; the table of verdicts."""
    times: dict[str, list[float]] = {"keys": [], "at once": [], "a query a key": []}
    for _ in range(ROUNDS):
        began = time.process_time()
        keys = [client.key(item) for item in items]
        times["keys"].append(time.process_time() - began)
        began = time.process_time()
        found = client.ledger.verdicts(keys, client.parser)
        times["at once"].append(time.process_time() - began)
        assert len(found) == len(keys)
        began = time.process_time()
        for key in keys[::10]:
            assert client.ledger.verdicts([key], client.parser) == {key: found[key]}
        times["a query a key"].append(10 * (time.process_time() - began))
    rendering, once, each = (statistics.median(seconds) for seconds in times.values())
    print(f"look-up of {len(keys):,} verdicts: {once:.2f} s at once, {each:.1f} s a query a key: {each / once:.1f} x")
    print(f"rendering and hashing their questions: {rendering:.1f} s")
    table = look_up(client, items)
    return verdict_rows(client.subjects, table, judge="judge-1", base_url="", template=client.endpoint.model)


def statistics_of(table: pd.DataFrame) -> float:
    """Processor seconds; prints the memory that they take on top. In a process of its own: its peak is theirs."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        seconds, megabytes = pool.submit(_statistics, table).result()
    print(f"statistics of {len(table):,} verdicts: {seconds:.1f} s, {megabytes:.0f} MB on top")
    return seconds


def _statistics(table: pd.DataFrame) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    measure(table, baseline="base")
    measured_strengths(table)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return time.process_time() - began, (after - before) / 1024


def main() -> None:
    made, form = comparisons(), load_template("pairwise")
    items = items_of(made)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder, "judge.sqlite")) as ledger:
        client = JudgeClient(
            made, Endpoint("http://localhost:8000/v1", "judge-1"), form.render,
            lambda raw: read_verdict(raw, form), f"{PairForm.version}/{form.hash}", ledger, SCOPE,
        )  # fmt: skip
        with open(Path(folder, "export.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(json_text(row) + "\n" for row in ledger_rows(client, items))
        import_ledger(ledger.path, Path(folder, "export.jsonl"))
        table = look_ups(client, items)
    gold = np.random.default_rng(1).integers(0, 2, len(made)).astype(float)
    at = {(c.model, c.seed, c.prompt_id, c.sample): g for c, g in zip(made, gold, strict=True)}
    keys = zip(table["model"], table["seed"], table["prompt_id"], table["sample"], strict=True)
    table = table.assign(gold=[at[key] for key in keys])
    few = table[table["prompt_id"].isin({f"p{p}" for p in range(PROMPTS // 10)})]
    a_tenth = statistics_of(few.reset_index(drop=True))
    print(f"ten times the verdicts take {statistics_of(table) / a_tenth:.1f} x")


if __name__ == "__main__":
    main()
