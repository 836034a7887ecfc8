"""Verdicts of another pipeline in a result, from their file to ledger and judge.json."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from rlhf_bench.errors import DataError
from rlhf_bench.judge.designs import labelled
from rlhf_bench.judge.foreign import Foreign, match_foreign
from rlhf_bench.judge.ledger import Ledger
from rlhf_bench.judge.measures import measure
from rlhf_bench.judge.pairs import pairs_of
from rlhf_bench.judge.result import count_statuses, verdict_rows, write_judging
from rlhf_bench.judge.verdicts import fold, fold_once
from rlhf_bench.store import ResultStore

__all__ = ["FOREIGN_PARSER", "import_foreign"]

FOREIGN_PARSER = "imported-1"  # changes when a row would be read differently
SCOPE = "imported"  # nobody's money


def import_foreign(
    result: Path,
    foreign: Foreign,
    ledger: Ledger,
    *,
    baseline: str,
    models: Sequence[str] = (),
    samples: int = 1,
    hashed: str = "{prompt}{first}{second}",
    method: str = "md5",
) -> int:
    """Put the file's verdicts into the ledger, and those on the result's pairs into the result; returns how many.

    Pairs of which the file says nothing are missing; each counts once where no pair was judged in both orders. Raises
    DataError where the file speaks of none of the pairs.
    """
    pairs = pairs_of(ResultStore(result).read_responses(), baseline=baseline, models=models, samples=samples)
    found = match_foreign(foreign, pairs.comparisons, hashed=hashed, method=method)
    read = sum(outcome.reading.status == "read" for outcome in found.values())
    if not read:
        advice = (
            "--hashed and --hash say what was hashed" if foreign.form == "cache" else "check --baseline and --model"
        )
        raise DataError(
            f"none of {len(foreign.verdicts)} verdicts in {foreign.source} is on a pair of {result} against "
            f"{baseline}: the same prompt and both texts; {advice}"
        )
    ledger.add_foreign([(foreign.call(verdict), foreign.attempt(verdict)) for verdict in foreign.verdicts], SCOPE)
    ledger.add_verdicts({foreign.call(verdict).key: verdict.reading for verdict in foreign.verdicts}, FOREIGN_PARSER)
    who = {"judge": foreign.judge, "base_url": foreign.base_url, "template": foreign.base_url}
    rows = verdict_rows(pairs.comparisons, found, **who)
    once = len(found) == len(pairs.comparisons)
    judging = {
        **who,
        "baseline": baseline,
        "source": foreign.source,
        "parser": FOREIGN_PARSER,
        "questions": count_statuses(found.values()),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "pairs": len(pairs.comparisons),
        "alone": pairs.alone,
        "empty": pairs.empty,
        "once": once,
        **measure(labelled(rows, result), baseline=baseline, fold=fold_once if once else fold),
    }
    write_judging(result, rows, judging)
    return read
