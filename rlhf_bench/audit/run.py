"""The audit of a run, or of any reward models, from checkpoints to files (`folder`).

The audit of a run's own reward model on its own data is written to `audit/` of its result, so that the report page
shows it; any other audit has a folder of its own below results/audit/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_bench.audit.folder import write_audit
from rlhf_bench.audit.lists import lists_of
from rlhf_bench.audit.mistakes import described, mistakes, slices_of_pairs
from rlhf_bench.audit.pairs import PairScorer, PairScores, accuracies, score_pairs
from rlhf_bench.audit.probes import probe_all
from rlhf_bench.audit.regression import Mask
from rlhf_bench.audit.stored import examined, model_part
from rlhf_bench.audit.subjects import Given, Subject, subject_of, subjects_of_run
from rlhf_bench.audit.teacher import samples_of, teach
from rlhf_bench.audit.versus import label_slices, versus_rows
from rlhf_bench.audit.words import cross_fitted, word_margins
from rlhf_bench.data import PreferenceData
from rlhf_bench.data.sources import Reader
from rlhf_bench.data.splits import ALL
from rlhf_bench.errors import BadValue, DataError
from rlhf_bench.files import check_folder
from rlhf_bench.modeling.checkpoints import check_run, read_training, run_seeds, stage_path
from rlhf_bench.progress import Progress
from rlhf_bench.stats import FloatArray
from rlhf_bench.store import ANCHORS, ResultStore
from rlhf_bench.types import stable_hash

SUITE = "hh-test"  # a run's audit is stored beside its result of this suite
UNSEEN = "test_unseen"


@dataclass(frozen=True)
class Audited:
    """One reward model's scores, by split, and its part of audit.json."""

    subject: Subject
    scores: dict[str, PairScores]
    untrained: dict[str, PairScores]  # empty where there is no untrained model
    part: Mapping[str, Any]
    discovered: dict[str, dict[str, Mask]]  # by split, the pairs of each discovered slice, by its name


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
    reader, is_trained_on = _reader(subjects[0], data, run, checkpoints)
    splits = _splits(reader, is_trained_on, limit, progress)
    words = _words(reader, splits)
    check_folder(results)  # now, and not when everything is scored
    audited = [_audit_one(s, first if s is subjects[0] else s.load(), splits, progress) for s in subjects]

    models = [part for s in subjects for part in (s.name, s.hash or s.path)]
    other = None if is_own else stable_hash(*models, data or "", str(limit or ""), length=8)
    folder = _folder(run, subjects, other, results, progress)
    taught = _teaching(folder.parent, subjects) if is_own else {}
    report = _report(run, audited, splits, reader, words) | {"teacher": taught}
    shared = {split: slices_of_pairs(d.pairs) for split, d in splits.items()}
    rows: list[dict[str, Any]] = []
    for a in audited:  # the rewards of two models have no common scale, so each model's mistakes stay together
        own: list[dict[str, Any]] = []
        for split, d in splits.items():
            slices = shared[split] | a.discovered.get(split, {})
            own += mistakes(a.subject.name, split, d.pairs, a.scores[split], slices)
        rows += sorted(own, key=lambda row: row["margin"])
    write_audit(folder, report, described(rows))
    return folder


def _reader(subject: Subject, data: str | None, run: str, checkpoints: Path) -> tuple[Reader, bool]:
    """The data to audit on, and whether the model was trained on a part of them.

    Splits are made with the seed of training: another one's test split holds what was trained on.
    """
    trained_on = subject.training.get("data")
    if trained_on is None and data is None:
        first = stage_path(checkpoints / run, "reward", run_seeds(checkpoints / run)[0])
        trained_on = (read_training(first) or {}).get("data")
        if trained_on is None:
            raise BadValue(
                f"{subject.path} does not say what it was trained on, and there is no run {run!r} to take data from; "
                "give the pairs, --data SOURCE, or a run that was trained on them, --run NAME"
            )
    trained_on = trained_on or {}
    source = data or str(trained_on["source"])
    return Reader(source, seed=int(trained_on.get("seed", 0))), source == trained_on.get("source")


def _splits(reader: Reader, is_trained_on: bool, limit: int | None, progress: Progress) -> dict[str, PreferenceData]:
    """The pairs to audit: the test split and, of hh-mini, unseen categories.

    Of data without a split of their own that the model was not trained on, all pairs.
    """
    whole = not is_trained_on and reader.own_splits == ["train"]
    splits = {"test": reader.load(ALL if whole else "test", limit=limit)}
    if UNSEEN in reader.splits:
        splits[UNSEEN] = reader.load(UNSEEN, limit=limit)
    if all(pair.chosen == pair.rejected for pair in splits["test"].pairs):
        raise DataError(f"{reader.source}: no pair has two different texts; expected chosen and rejected to differ")
    for note in dict.fromkeys(note for split in splits.values() for note in split.notes):
        progress.log(f"data: {note}")
    for split in splits.values():
        progress.log(f"data: {split.summary()}")
    return splits


def _words(reader: Reader, splits: Mapping[str, PreferenceData]) -> dict[str, FloatArray]:
    """What words alone say of each split's pairs; nothing where no word is shared.

    Learned from the training pairs, or, where there are none beside those that are audited, from other prompts of them.
    """
    if splits["test"].split == ALL or "train" not in reader.splits:
        found = cross_fitted(splits["test"].pairs)
        return {} if found is None else {"test": found}
    try:
        train = reader.load("train").pairs
    except DataError:  # all rows are in the test split
        return {}
    margins = word_margins(train, [pair for split in splits.values() for pair in split.pairs])
    if margins is None:
        return {}
    ends = np.cumsum([len(split) for split in splits.values()])[:-1]
    return dict(zip(splits, np.split(margins, ends), strict=True))


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
    pairs, own = splits["test"].pairs, scores["test"]
    examination, discovered = examined(pairs, own, effects, idle)
    part = model_part(pairs, own, lists_of(pairs, own), examination)
    return Audited(subject, scores, untrained, part, {"test": discovered})


def _teaching(result: Path, subjects: Sequence[Subject]) -> dict[str, Any]:
    """By model, what each of a run's reward models teaches on the samples of its result; empty without a result."""
    store = ResultStore(result)
    if not (result / "metrics.json").is_file():
        return {}
    reference, scores = str(store.read_manifest()["reference"]), store.read_scores()
    pool = store.read_pool()
    models = [name for name in dict.fromkeys(scores["model"]) if name not in (*ANCHORS, reference)]
    found = {}
    for subject in subjects:
        seed = subject.seed or 0
        samples = samples_of(scores if pool is None else pool, reference, seed)
        if samples is not None and samples.rewards.shape[1] > 1:
            policies = {name: samples_of(scores, name, seed) for name in models}
            found[subject.name] = asdict(teach(samples, {name: s for name, s in policies.items() if s is not None}))
    return found


def _report(
    run: str,
    audited: Sequence[Audited],
    splits: Mapping[str, PreferenceData],
    reader: Reader,
    words: Mapping[str, FloatArray],
) -> dict[str, Any]:
    test = splits["test"].pairs
    prompts, masks = [pair.prompt for pair in test], label_slices(test)
    margins = [(a.subject.name, a.scores["test"].margins) for a in audited]
    seeds = {a.subject.seed for a in audited}
    are_seeds = len(seeds) == len(audited) > 1 and all(a.subject.name == f"seed {a.subject.seed}" for a in audited)
    return {
        "run": run,
        "data": {
            "source": reader.source,
            "seed": reader.seed,
            "split": splits["test"].split,
            **_facts(splits["test"]),
            "unseen": _facts(splits[UNSEEN]) if UNSEEN in splits else None,
        },
        "reward_model": [
            {
                "name": a.subject.name,
                "seed": a.subject.seed,
                "path": a.subject.path,
                "hash": a.subject.hash,
                "toy": a.subject.is_toy,
            }
            for a in audited
        ],
        "models": {a.subject.name: {**_accuracies([a], splits, words), **a.part} for a in audited},
        "pooled": _accuracies(audited, splits, words) if are_seeds else None,
        "versus": versus_rows(margins, prompts, masks),
    }


def _facts(data: PreferenceData) -> dict[str, Any]:
    return {"fingerprint": data.fingerprint, "pairs": len(data), "n_prompts": len(data.prompts), "counts": data.counts}


def _accuracies(
    audited: Sequence[Audited], splits: Mapping[str, PreferenceData], words: Mapping[str, FloatArray]
) -> dict[str, Any]:
    """The table of one model, or of several seeds together."""
    rows: dict[str, Any] = {"unseen": None, "unseen_by_category": {}}
    for split, data in splits.items():
        untrained = [a.untrained[split] for a in audited] if all(a.untrained for a in audited) else []
        found = accuracies(data.pairs, [a.scores[split] for a in audited], untrained, words.get(split))
        rows |= found if split == "test" else {"unseen": found["overall"], "unseen_by_category": found["by_category"]}
    return rows


def _folder(run: str, subjects: Sequence[Subject], other: str | None, results: Path, progress: Progress) -> Path:
    """The folder beside the run's result if that was made with these reward models, else a folder of its own.

    other: a name for what is audited on what, where that is not the run's own.
    """
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
