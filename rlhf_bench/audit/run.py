"""The audit of a run, or of any reward models, from checkpoints to files.

    audit.json         accuracy and what it is compared with, calibration, examination, by model; which data
    mistakes.jsonl     every pair on which the rejected response scored as high or higher, largest wrong margin first

The audit of a run's own reward model on its own data is written to `audit/` of its result, so that the report page
shows it; any other audit has a folder of its own below results/audit/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from rlhf_bench.audit.calibration import DEFINITION
from rlhf_bench.audit.pairs import PairScorer, PairScores, audit_pairs, by_category, mistakes, score_pairs
from rlhf_bench.audit.probes import probe_all
from rlhf_bench.audit.stored import model_part
from rlhf_bench.audit.subjects import Given, Subject, subject_of, subjects_of_run
from rlhf_bench.audit.teacher import as_row, teaching_of_result
from rlhf_bench.audit.versus import versus_row
from rlhf_bench.audit.words import word_margins
from rlhf_bench.data import PreferenceData
from rlhf_bench.data.sources import Reader
from rlhf_bench.errors import BadValue, DataError, StoreError
from rlhf_bench.files import atomic_write_text, json_text, write_jsonl
from rlhf_bench.modeling.checkpoints import check_run, read_training, run_seeds, stage_path
from rlhf_bench.progress import Progress
from rlhf_bench.stats import FloatArray
from rlhf_bench.store import ANCHORS, ResultStore
from rlhf_bench.types import stable_hash

__all__ = ["run_audit"]

SUITE = "hh-test"  # the suite whose result a run's audit stands beside
UNSEEN = "test_unseen"
DEFINITIONS = {
    "accuracy": "share of pairs whose chosen response scores higher, ties half; each prompt has equal weight",
    "longer": "accuracy of the rule 'the response with more characters', ties half",
    "shorter": "accuracy of the rule 'the response with fewer characters', ties half",
    "words": "accuracy of a logistic regression on words and word pairs of both responses, trained on the training "
    "split, without the prompt",
    "untrained": "accuracy before training: the parent's backbone under a fresh head",
    "ceiling": "the best accuracy that any model can reach in expectation, where the annotator is known",
    "calibration": DEFINITION,
    "features": "logits of preference for one standard deviation of a feature's difference, of the model (its margins "
    "at the temperature that fits the labels) and of the labels; the labels' are multiplied by the attenuation first; "
    "gold: of the gold reward, where it is known",
    "slices": "accuracy less what margins and the labels' prices promise; a discovered slice is found on one half of "
    "the prompts, and its numbers are those of the other half",
    "probes": "mean change of the reward by an edit of the chosen response, in root mean squares of all margins",
    "q": "Benjamini and Hochberg's, over all features, slices and probes together; a finding has q < .05",
    "near_duplicates": "pairs whose two responses have a similarity of characters of 0.9 or more",
    "teacher": "on samples of the reference: the share of the reward's variance that lies within prompts, and how "
    "features move under best-of-n, in standard deviations over all samples",
}


@dataclass(frozen=True)
class Audited:
    """One reward model's scores, by split, and its part of audit.json."""

    subject: Subject
    scores: dict[str, PairScores]
    untrained: dict[str, PairScores]  # empty where there is no untrained model
    part: Mapping[str, Any]


def run_audit(
    *,
    run: str = "default",
    reward_models: Mapping[str, Given] | None = None,
    data: str | None = None,
    limit: int | None = None,
    checkpoints: Path = Path("checkpoints"),
    results: Path = Path("results"),
    progress: Progress | None = None,
) -> Path:
    """Audit a run's reward model, under each of its seeds, on the test split of its data; returns the folder written.

    reward_models: others instead, by name; see `subjects`
    data: pairs from here; by default what the first reward model was trained on, else what the run's was
    limit: at most so many pairs of a split

    Raises UnknownName (no such run), CheckpointError (missing, damaged, or its parent has changed), ModelError (no
    reward model, or one with more than one output), DataError, NotFinite, StoreError (cannot be written, or the run's
    result has lost responses), BadValue (no data given and none known; no name of a run).
    """
    progress = progress or Progress(quiet=True)
    check_run(run)
    given = reward_models or {}
    subjects = [subject_of(name, what) for name, what in given.items()] or subjects_of_run(run, checkpoints)
    is_own = not given and data is None and limit is None
    if is_own and (results / SUITE / run / "metrics.json").is_file():
        ResultStore(results / SUITE / run).check_responses()  # now, and not when its page is drawn
    first = subjects[0].load()  # says what is wrong with it before any data is read
    reader = _reader(subjects[0], data, run, checkpoints)
    splits = {
        name: reader.load(name, limit=limit) for name in ("test", UNSEEN) if name == "test" or name in reader.splits
    }
    for split in splits.values():
        progress.log(f"data: {split.summary()}")
    words = _words(reader, splits)
    audited = [_audit_one(s, first if s is subjects[0] else s.load(), splits, progress) for s in subjects]

    folder = _folder(run, subjects, None if is_own else _digest(subjects, data, limit), results, progress)
    taught = _teaching(folder.parent, subjects) if is_own else {}
    report = _report(run, audited, splits, reader, words) | {"teacher": taught}
    rows = [row for a in audited for split, d in splits.items() for row in mistakes(a.subject.name, d, a.scores[split])]
    # the rewards of two models have no common scale, so each model's mistakes stay together
    order = {subject.name: i for i, subject in enumerate(subjects)}
    rows.sort(key=lambda row: (order[row["model"]], row["margin"]))
    try:
        write_jsonl(folder / "mistakes.jsonl", rows)
        atomic_write_text(folder / "audit.json", json_text(report, indent=1) + "\n")
    except OSError as error:
        raise StoreError(f"cannot write {folder} ({error.strerror}); choose a folder that can be written") from error
    return folder


def _reader(subject: Subject, data: str | None, run: str, checkpoints: Path) -> Reader:
    """The data to audit on. Splits are made with the seed of training: another one's test split holds what was
    trained on."""
    trained_on = subject.training.get("data")
    if trained_on is None and data is None:
        first = stage_path(checkpoints / run, "reward", run_seeds(checkpoints / run)[0])
        trained_on = (read_training(first) or {}).get("data")
        if trained_on is None:
            raise BadValue(
                f"{subject.path} does not say what it was trained on, and there is no run {run!r} to take data from; "
                "give the pairs: --data SOURCE"
            )
    trained_on = trained_on or {}
    return Reader(data or str(trained_on["source"]), seed=int(trained_on.get("seed", 0)))


def _words(reader: Reader, splits: Mapping[str, PreferenceData]) -> dict[str, FloatArray]:
    """What words alone say of each split's pairs; nothing where there are no pairs to learn it from."""
    if "train" not in reader.splits:
        return {}
    try:
        train = reader.load("train").pairs
    except DataError:  # all rows are in the test split
        return {}
    pairs = [pair for split in splits.values() for pair in split.pairs]
    margins = word_margins(train, pairs)
    if margins is None:
        return {}
    found, start = {}, 0
    for name, split in splits.items():
        found[name] = margins[start : start + len(split)]
        start += len(split)
    return found


def _audit_one(
    subject: Subject, model: PairScorer, splits: Mapping[str, PreferenceData], progress: Progress
) -> Audited:
    """Score every split with the reward model, then with an untrained one; examine the test split."""

    def of(scorer: PairScorer, what: str) -> dict[str, PairScores]:
        return {
            split: score_pairs(scorer, data.pairs, progress=progress, label=f"{what}, {subject.name}, {split}")
            for split, data in splits.items()
        }

    scores = of(model, "reward model")
    effects, idle = probe_all(model, splits["test"].pairs, scores["test"])
    fresh = subject.untrained()
    untrained = of(fresh, "untrained model") if fresh else {}
    return Audited(subject, scores, untrained, model_part(splits["test"], scores["test"], effects, idle))


def _teaching(result: Path, subjects: Sequence[Subject]) -> dict[str, Any]:
    """By model, what each of a run's reward models teaches on the samples of its result; empty without a result."""
    store = ResultStore(result)
    if not (result / "metrics.json").is_file():
        return {}
    manifest, scores = store.read_manifest(), store.read_scores()
    responses = pd.DataFrame(store.read_responses())
    models = [name for name in dict.fromkeys(scores["model"]) if name not in ANCHORS]
    found = {}
    for subject in subjects:
        taught = teaching_of_result(scores, responses, str(manifest["reference"]), models, subject.seed or 0)
        if taught is not None:
            found[subject.name] = as_row(taught)
    return found


def _report(
    run: str,
    audited: Sequence[Audited],
    splits: Mapping[str, PreferenceData],
    reader: Reader,
    words: Mapping[str, FloatArray],
) -> dict[str, Any]:
    test = splits["test"].pairs
    prompts, categories = [pair.prompt for pair in test], [pair.category for pair in test]
    margins = [(a.subject.name, a.scores["test"].margins) for a in audited]
    seeds = {a.subject.seed for a in audited}
    are_seeds = len(seeds) == len(audited) > 1 and all(a.subject.name == f"seed {a.subject.seed}" for a in audited)
    return {
        "run": run,
        "data": {
            "source": reader.source,
            "seed": reader.seed,
            "split": "test",
            **_facts(splits["test"]),
            "unseen": _facts(splits[UNSEEN]) if UNSEEN in splits else None,
        },
        "reward_model": [
            {"name": a.subject.name, "seed": a.subject.seed, "path": a.subject.path, "hash": a.subject.hash}
            for a in audited
        ],
        "models": {a.subject.name: {**_accuracies([a], splits, words), **a.part} for a in audited},
        "pooled": _accuracies(audited, splits, words) if are_seeds else None,
        "versus": [versus_row(a, b, prompts, categories) for a, b in combinations(margins, 2)],
        "definitions": DEFINITIONS,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _facts(data: PreferenceData) -> dict[str, Any]:
    return {"fingerprint": data.fingerprint, "pairs": len(data), "n_prompts": len(data.prompts), "counts": data.counts}


def _accuracies(
    audited: Sequence[Audited], splits: Mapping[str, PreferenceData], words: Mapping[str, FloatArray]
) -> dict[str, Any]:
    """The table of one model, or of several seeds together."""
    rows: dict[str, Any] = {"unseen": None, "unseen_by_category": {}}
    for split, (whole, parts) in {"test": ("overall", "by_category"), UNSEEN: ("unseen", "unseen_by_category")}.items():
        if split in splits:
            scores = [a.scores[split] for a in audited]
            untrained = [a.untrained[split] for a in audited] if all(a.untrained for a in audited) else []
            given = splits[split].pairs, scores, untrained, words.get(split)
            rows[whole], rows[parts] = audit_pairs(*given), by_category(*given)
    return rows


def _digest(subjects: Sequence[Subject], data: str | None, limit: int | None) -> str:
    """Names what is audited on what, where that is not a run's own."""
    models = [part for s in subjects for part in (s.name, s.hash or s.path)]
    return stable_hash(*models, data or "", str(limit or ""), length=8)


def _folder(run: str, subjects: Sequence[Subject], other: str | None, results: Path, progress: Progress) -> Path:
    """Beside the run's result if that was made with these reward models, else a folder of its own."""
    if other is not None:
        return results / "audit" / f"{run}-{other}" / "audit"
    alone, result = results / "audit" / run / "audit", results / SUITE / run
    if not (result / "manifest.json").is_file():
        return alone
    evaluated = ResultStore(result).read_manifest().get("reward_model") or []
    hashes = {entry.get("hash") for entry in evaluated}
    if hashes and hashes != {subject.hash for subject in subjects}:
        progress.log(f"{result} was evaluated with other reward models, so the audit does not go beside it")
        return alone
    return result / "audit"
