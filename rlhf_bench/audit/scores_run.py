"""The audit of scores that were made elsewhere: no model is loaded, and torch is not imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rlhf_bench.audit.folder import write_audit
from rlhf_bench.audit.listwise import ListScores
from rlhf_bench.audit.mistakes import described, mistakes, slices_of_pairs
from rlhf_bench.audit.pairs import accuracies
from rlhf_bench.audit.scores_file import pairs_of, read_scores
from rlhf_bench.audit.slices import category_slices
from rlhf_bench.audit.stored import examined, model_part
from rlhf_bench.audit.versus import label_slices, versus_rows
from rlhf_bench.errors import DataError
from rlhf_bench.files import json_text
from rlhf_bench.types import stable_hash

_NO_TEXTS = "the file has no texts of responses"
_SPLIT = "scores"


def run_scores(files: Mapping[str, Path], *, results: Path = Path("results")) -> Path:
    """Audit the scores of each file, by name, and compare them; returns the folder written.

    Several files hold the scores of several reward models for the same prompts in the same order.

    Raises DataError (see `read_scores`; files on different prompts), StoreError (cannot be written).
    """
    opened = {name: read_scores(path) for name, path in files.items()}
    read = {name: file.rows for name, file in opened.items()}
    first, *others = read
    for name in others:
        _check_same(files[first], read[first], files[name], read[name])
    has_texts = all(row.texts is not None for row in read[first])
    first_pairs, _ = pairs_of(read[first])
    shared = slices_of_pairs(first_pairs) if has_texts else {}
    models, margins, rows = {}, [], []
    for name, lists in read.items():
        pairs, scores = pairs_of(lists)
        found = accuracies(pairs, [scores])
        if not has_texts:  # responses are named by their numbers, and have no length
            for row in (found["overall"], *found["by_category"].values()):
                row |= {"longer": None, "shorter": None}
        examination, discovered = examined(pairs, scores) if has_texts else ({"missing": _NO_TEXTS}, {})
        models[name] = {**found, **model_part(pairs, scores, lists, examination)}
        margins.append((name, scores.margins))
        wrong = mistakes(name, _SPLIT, pairs, scores, {**shared, **discovered})
        rows += described(wrong) if has_texts else wrong
    prompts, categories = [pair.prompt for pair in pairs], [pair.category for pair in pairs]
    masks = label_slices(pairs) if has_texts else category_slices(categories)
    report = {
        "run": None,
        "data": {
            "source": ", ".join(path.name for path in files.values()), "split": _SPLIT, "pairs": len(pairs),
            "n_prompts": len(dict.fromkeys(prompts)),
            "notes": [file.left_out for file in opened.values() if file.left_out],
        },
        "reward_model": [{"name": name, "path": str(path)} for name, path in files.items()],
        "models": models,
        "versus": versus_rows(margins, prompts, masks),
    }  # fmt: skip
    parts = [[name, *([row.prompt, row.scores.tolist()] for row in lists)] for name, lists in read.items()]
    folder = results / "audit" / f"scores-{stable_hash(json_text(parts), length=8)}" / "audit"
    write_audit(folder, report, rows)
    return folder


def _check_same(path: Path, rows: Sequence[ListScores], other_path: Path, others: Sequence[ListScores]) -> None:
    if len(rows) != len(others):
        raise DataError(f"{path} holds {len(rows)} prompts and {other_path} {len(others)}; expected the same prompts")
    for number, (a, b) in enumerate(zip(rows, others, strict=True), 1):
        if not (a.prompt == b.prompt and np.array_equal(a.is_right, b.is_right) and a.texts == b.texts):
            raise DataError(
                f"row {number} of {other_path} is not that of {path}; expected the same prompts, responses and right "
                "ones, in the same order"
            )
