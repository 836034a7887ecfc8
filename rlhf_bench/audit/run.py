"""The audit of a run, or of any reward model, from checkpoints to files.

    audit.json         accuracy, its baselines and ceiling, calibration, by seed; what was audited on what
    calibration.csv    the bins, a row a seed and bin
    features.csv       what the model and the labels pay for each feature, a row a seed and feature
    slices.csv         accuracy on slices against what margins promise, a row a seed and slice
    mistakes.jsonl     every pair on which the rejected response scored as high or higher, largest wrong margin first

The audit of a run's own reward model on its own data is written to `audit/` of its result, so that the report page
shows it; any other audit has a folder of its own below results/audit/.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rlhf_bench.audit.calibration import DEFINITION, Calibration, calibration
from rlhf_bench.audit.pairs import PairScores, audit_pairs, by_category, mistakes, score_pairs
from rlhf_bench.audit.stored import FEATURE_COLUMNS, SLICE_COLUMNS, examination_part
from rlhf_bench.data import PreferenceData
from rlhf_bench.data.sources import Reader
from rlhf_bench.errors import BadValue, StoreError
from rlhf_bench.files import atomic_write_text, json_text, write_jsonl
from rlhf_bench.modeling.checkpoints import (
    check_run,
    checkpoint_hash,
    find_run,
    open_checkpoint,
    prompt_form,
    read_training,
    run_seeds,
    stage_path,
)
from rlhf_bench.modeling.models import to_reward_model
from rlhf_bench.modeling.reward_model import RewardModel
from rlhf_bench.progress import Progress
from rlhf_bench.store import ResultStore
from rlhf_bench.types import stable_hash

__all__ = ["audit"]

SUITE = "hh-test"  # the suite whose result a run's audit stands beside
UNSEEN = "test_unseen"
DEFINITIONS = {
    "accuracy": "share of pairs whose chosen response scores higher, ties half; each prompt has equal weight",
    "longer": "accuracy of the rule 'the response with more characters', ties half",
    "shorter": "accuracy of the rule 'the response with fewer characters', ties half",
    "untrained": "accuracy before training: the parent's backbone under a fresh head",
    "ceiling": "the best accuracy that any model can reach in expectation, where the annotator is known",
    "calibration": DEFINITION,
    "features": "logits of preference for one standard deviation of a feature's difference, of the model (its margins "
    "at the temperature that fits the labels) and of the labels; the labels' are multiplied by the attenuation first",
    "slices": "accuracy less what margins and the labels' prices promise; a discovered slice is found on one half of "
    "the prompts, and its numbers are those of the other half",
    "q": "Benjamini and Hochberg's, over all features and slices together; a finding has q < .05",
    "near_duplicates": "pairs whose two responses have a similarity of characters of 0.9 or more",
}


@dataclass(frozen=True)
class Subject:
    """A reward model to audit. `training` is empty for one that was not trained here, `hash` None for a hub model."""

    seed: int
    path: str
    hash: str | None
    training: Mapping[str, Any]

    @property
    def limits(self) -> dict[str, Any]:
        """The lengths that it was trained at; empty, so that its own limits hold, where they are not known."""
        data = self.training.get("config", {}).get("data", {})
        found = {"max_prompt": data.get("max_prompt_tokens"), "max_response": data.get("max_response_tokens")}
        return {name: int(value) for name, value in found.items() if value}

    def load(self) -> RewardModel:
        return RewardModel.load(self.path, **self.limits)

    def untrained(self) -> RewardModel | None:
        """What it was before its first step: the parent's backbone under a fresh head; None without the parent."""
        for name in self.training.get("parents", {}):
            parent = Path(self.path).parent / name
            if parent.is_dir():
                model, tokenizer = to_reward_model(parent, seed=self.seed)
                return RewardModel(
                    model, tokenizer, **self.limits, template=prompt_form(self.path),
                    name=f"{parent} under a fresh head",
                )  # fmt: skip
        return None


@dataclass(frozen=True)
class Audited:
    """One reward model's scores, by split."""

    subject: Subject
    scores: dict[str, PairScores]
    untrained: dict[str, PairScores]  # empty where there is no untrained model
    calibration: Calibration
    examination: Mapping[str, Any]


def audit(
    *,
    run: str,
    reward_model: str | None = None,
    data: str | None = None,
    limit: int | None = None,
    checkpoints: Path = Path("checkpoints"),
    results: Path = Path("results"),
    progress: Progress | None = None,
) -> Path:
    """Audit a run's reward model, under each of its seeds, on the test split of its data; returns the folder written.

    reward_model: another one instead, a folder or a hub model
    data: pairs from here; by default what the reward model was trained on, else what the run's was
    limit: at most so many pairs of a split

    Raises UnknownName (no such run), CheckpointError (missing, damaged, or its parent has changed), ModelError (no
    reward model, or one with more than one output), DataError, NotFinite, StoreError (cannot be written, or the run's
    result has lost responses), BadValue (no data given and none known; no name of a run).
    """
    progress = progress or Progress(quiet=True)
    check_run(run)
    subjects = _subjects(run, reward_model, checkpoints)
    is_own = reward_model is None and data is None and limit is None
    if is_own and (results / SUITE / run / "metrics.json").is_file():
        ResultStore(results / SUITE / run).check_responses()  # now, and not when its page is drawn
    first = subjects[0].load()  # says what is wrong with it before any data is read
    reader = _reader(subjects[0], data, run, checkpoints)
    names = ["test", *([UNSEEN] if UNSEEN in reader.splits else [])]
    splits = {name: reader.load(name, limit=limit) for name in names}
    for split in splits.values():
        progress.log(f"data: {split.summary()}")
    audited = [_score(s, first if s is subjects[0] else s.load(), splits, progress) for s in subjects]

    other = (subjects[0].hash or subjects[0].path, data or "", str(limit or ""))
    folder = _folder(run, subjects, None if is_own else stable_hash(*other, length=8), results, progress)
    rows = [row for a in audited for split, d in splits.items() for row in mistakes(a.subject.seed, d, a.scores[split])]
    # each seed's rewards have a scale of their own, so the seeds stay apart
    rows.sort(key=lambda row: (row["seed"], row["margin"]))
    _write(folder, _report(run, audited, splits, reader), rows, audited)
    return folder


def _subjects(run: str, reward_model: str | None, checkpoints: Path) -> list[Subject]:
    if reward_model is None:
        folder = find_run(checkpoints, run)
        found = [open_checkpoint(stage_path(folder, "reward", s)) for s in run_seeds(folder)]
        return [Subject(c.seed, str(c.path), c.hash, c.training) for c in found]
    path = Path(reward_model)
    training = read_training(path) or {}
    digest = None
    if training:
        digest = open_checkpoint(path).hash
    elif path.is_dir() and (path / "config.json").exists():
        digest = checkpoint_hash(path)
    return [Subject(int(training.get("seed", 0)), reward_model, digest, training)]


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


def _score(subject: Subject, model: RewardModel, splits: Mapping[str, PreferenceData], progress: Progress) -> Audited:
    """Score every split with the reward model, then with an untrained one."""

    def of(scorer: RewardModel, name: str) -> dict[str, PairScores]:
        return {
            split: score_pairs(scorer, data.pairs, progress=progress, label=f"{name}, seed {subject.seed}, {split}")
            for split, data in splits.items()
        }

    scores = of(model, "reward model")
    fresh = subject.untrained()
    if fresh is None:
        progress.log(f"{subject.path}: the checkpoint it was trained from is not beside it; no untrained model to show")
    bins = calibration(scores["test"].margins, [pair.prompt for pair in splits["test"].pairs])
    untrained = of(fresh, "untrained model") if fresh else {}
    return Audited(subject, scores, untrained, bins, examination_part(splits["test"], scores["test"]))


def _report(
    run: str, audited: Sequence[Audited], splits: Mapping[str, PreferenceData], reader: Reader
) -> dict[str, Any]:
    return {
        "run": run,
        "data": {
            "source": reader.source,
            "seed": reader.seed,
            "split": "test",
            **_facts(splits["test"]),
            "unseen": _facts(splits[UNSEEN]) if UNSEEN in splits else None,
        },
        "reward_model": [{"seed": a.subject.seed, "path": a.subject.path, "hash": a.subject.hash} for a in audited],
        "models": {
            str(a.subject.seed): {
                **_accuracies([a], splits),
                "calibration": [entry.to_dict() for entry in a.calibration.bins],
                "ece": a.calibration.ece,
                "brier": asdict(a.calibration.brier),
                "temperature": a.calibration.temperature,
                "examination": dict(a.examination),
            }
            for a in audited
        },
        "pooled": _accuracies(audited, splits) if len(audited) > 1 else None,
        "definitions": DEFINITIONS,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _facts(data: PreferenceData) -> dict[str, Any]:
    return {"fingerprint": data.fingerprint, "pairs": len(data), "n_prompts": len(data.prompts), "counts": data.counts}


def _accuracies(audited: Sequence[Audited], splits: Mapping[str, PreferenceData]) -> dict[str, Any]:
    """The table of one seed, or of several together."""
    rows: dict[str, Any] = {"unseen": None, "unseen_by_category": {}}
    for split, (whole, parts) in {"test": ("overall", "by_category"), UNSEEN: ("unseen", "unseen_by_category")}.items():
        if split in splits:
            scores = [a.scores[split] for a in audited]
            untrained = [a.untrained[split] for a in audited] if all(a.untrained for a in audited) else []
            rows[whole] = audit_pairs(splits[split].pairs, scores, untrained)
            rows[parts] = by_category(splits[split].pairs, scores, untrained)
    return rows


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


def _write(
    folder: Path, report: Mapping[str, Any], wrong: Sequence[Mapping[str, Any]], audited: Sequence[Audited]
) -> None:
    table = io.StringIO()
    columns = ("seed", "low", "high", "n", "mean_predicted", "share_chosen", "share_low", "share_high")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    for a in audited:
        for entry in a.calibration.bins:
            known = (
                [entry.mean_predicted, entry.share.value, entry.share.low, entry.share.high] if entry.n else [""] * 4
            )
            writer.writerow([a.subject.seed, entry.low, entry.high, entry.n, *known])
    try:
        write_jsonl(folder / "mistakes.jsonl", wrong)
        atomic_write_text(folder / "features.csv", _table("features", FEATURE_COLUMNS, audited))
        atomic_write_text(folder / "slices.csv", _table("slices", SLICE_COLUMNS, audited))
        atomic_write_text(folder / "calibration.csv", table.getvalue())
        atomic_write_text(folder / "audit.json", json_text(report, indent=1) + "\n")
    except OSError as error:
        raise StoreError(f"cannot write {folder} ({error.strerror}); choose a folder that can be written") from error


def _table(part: str, columns: Sequence[str], audited: Sequence[Audited]) -> str:
    """A table of the examinations, a row a seed and feature or slice; of an estimate its value."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["seed", *columns])
    for a in audited:
        for row in a.examination.get(part, []):
            cells = [row[column] for column in columns]
            writer.writerow([a.subject.seed, *(c["value"] if isinstance(c, dict) else c for c in cells)])
    return table.getvalue()
