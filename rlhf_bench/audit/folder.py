"""The files of an audit, and what their numbers mean.

audit.json         accuracy and what it is compared with, calibration, examination, by model; which data
mistakes.jsonl     every pair on which the rejected response scored as high or higher, largest wrong margin first
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlhf_bench.audit.calibration import DEFINITION
from rlhf_bench.errors import StoreError
from rlhf_bench.files import atomic_write_text, json_text, timestamp, write_jsonl

DEFINITIONS = {
    "accuracy": "share of pairs whose chosen response scores higher, ties half; each prompt has equal weight",
    "longer": "accuracy of the rule 'the response with more characters', ties half",
    "shorter": "accuracy of the rule 'the response with fewer characters', ties half",
    "words": "accuracy of a logistic regression on words and word pairs of both responses, without the prompt; trained "
    "on the training split, or, where the data were no model's training data, on the other four fifths of the prompts",
    "untrained": "accuracy before training: the parent's backbone under a fresh head",
    "ceiling": "the best accuracy that any model can reach in expectation, where the annotator is known",
    "calibration": DEFINITION,
    "features": "logits of preference for one standard deviation of a feature's difference, of the model (its margins "
    "at the temperature that fits the labels) and of the labels; the labels' are multiplied by the attenuation first; "
    "gold: of the gold reward, where it is known",
    "discovered words": "words that a reward pays for beyond the features and the labels, found on either half of the "
    "prompts and measured on the other",
    "slices": "accuracy less what margins and the labels' prices promise; a discovered slice is found on one half of "
    "the prompts, and its numbers are those of the other half",
    "probes": "mean change of the reward by an edit of the chosen response, in root mean squares of all margins",
    "q": "Benjamini and Hochberg's, over all features, slices and probes together; a finding has q < .05",
    "near_duplicates": "pairs whose two responses have a similarity of characters of 0.9 or more",
    "teacher": "on samples of the reference: the share of the reward's variance that lies within prompts, and how "
    "features move under best-of-n, in standard deviations over all samples",
}


def write_audit(folder: Path, report: Mapping[str, Any], mistakes: Iterable[Mapping[str, Any]]) -> None:
    """Write the files. Raises StoreError where the folder cannot be written."""
    stamped = {**report, "definitions": DEFINITIONS, "time": timestamp()}
    try:
        write_jsonl(folder / "mistakes.jsonl", mistakes)
        atomic_write_text(folder / "audit.json", json_text(stamped, indent=1) + "\n")
    except OSError as error:
        raise StoreError(f"cannot write {folder} ({error.strerror}); choose a folder that can be written") from error
