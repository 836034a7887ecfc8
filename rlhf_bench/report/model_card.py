"""A checkpoint's model card: the hub's metadata block, and what it was trained on, from what, how, and how well."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlhf_bench.metrics.registry import describe
from rlhf_bench.types import Estimate

__all__ = ["Evaluated", "model_card"]

IN_METADATA = ("reward_z", "reward", "gold", "kl_exact", "rougeL", "perplexity", "ended")


class Evaluated(NamedTuple):
    """What one result says of the checkpoint."""

    suite: str
    source: str  # of the data
    split: str
    n_prompts: int
    reference: str
    numbers: Mapping[str, Estimate]  # by metric


def model_card(training: Mapping[str, Any], *, name: str, evaluated: Sequence[Evaluated] = ()) -> str:
    """README.md of a checkpoint whose training.json is given; `name` is the folder or the hub's name to load it by."""
    stage, data = training["stage"], training["data"]
    parents = ", ".join(f"{parent} ({p['hash']})" for parent, p in training["parents"].items()) or "none"
    parts = [
        f"---\n{_metadata(training, name, evaluated)}---",
        f"# {stage}, seed {training['seed']}",
        f"Trained by rlhf-bench on `{data['source']}` ({data['pairs']:,} training pairs, fingerprint "
        f"{data['fingerprint']}). Parents: {parents}. {training['steps']} steps, {training['samples']:,} samples, "
        f"{training['tokens']:,} tokens, {training['seconds']:.0f} s in {training['precision']}.",
        *(_evaluation(result) for result in evaluated),
        _table(
            "On the validation split", ["metric", "value"], [[k, f"{v:.4g}"] for k, v in training["metrics"].items()]
        ),
        _alarms(training.get("alarms", [])),
        _loading(stage, name),
        "## Configuration\n\nEvery step is in `log.jsonl`, versions and hashes are in `training.json`.\n\n"
        f"```json\n{json.dumps(training['config'], indent=2)}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(training: Mapping[str, Any], name: str, evaluated: Sequence[Evaluated]) -> str:
    """The YAML that the hub reads. Only what is a name on the hub is given as a data set."""
    from huggingface_hub import EvalResult, ModelCardData

    stage, source = training["stage"], str(training["data"]["source"])
    task = "text-classification" if stage == "reward" else "text-generation"
    results = [
        EvalResult(
            task_type=task, dataset_type=result.source, dataset_name=f"{result.suite} on {result.source}",
            dataset_split=result.split, metric_type=metric, metric_name=describe(metric).title,
            metric_value=round(result.numbers[metric].value, 6),
        )
        for result in evaluated for metric in IN_METADATA if metric in result.numbers
    ]  # fmt: skip
    results += [
        EvalResult(
            task_type=task, dataset_type=source, dataset_name=source, dataset_split="validation", metric_type=key,
            metric_name=key, metric_value=round(value, 6),
        )
        for key, value in training["metrics"].items() if math.isfinite(value)
    ]  # fmt: skip
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=task,
        tags=["rlhf-bench", stage],
        datasets=[source] if _on_the_hub(source) else None,
        model_name=name.rpartition("/")[2],
        eval_results=results or None,
    )
    return str(data.to_yaml()) + "\n"


def _on_the_hub(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~")) and "." not in source.rpartition("/")[2]


def _evaluation(result: Evaluated) -> str:
    rows = [
        [describe(metric).title, f"{e.value:.4g}", f"[{e.low:.4g}, {e.high:.4g}]" if math.isfinite(e.low) else "–"]
        for metric, e in result.numbers.items()
    ]
    title = f"{result.suite} on {result.source} ({result.split}), {result.n_prompts} prompts"
    note = f"Intervals are of 95 %, over prompts. KL is to {result.reference}; rewards (z) are in its units."
    return f"{_table(title, ['metric', 'value', '95 % interval'], rows)}\n\n{note}" if rows else ""


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _alarms(alarms: Sequence[Mapping[str, Any]]) -> str:
    said = [f"- step {alarm['step']}, {alarm['name']}: {alarm['message']}" for alarm in alarms]
    return "## Alarms while training\n\n" + ("\n".join(said) or "None was raised.")


def _loading(stage: str, name: str) -> str:
    kind = "AutoModelForSequenceClassification" if stage == "reward" else "AutoModelForCausalLM"
    return f"""## Loading

With plain transformers:

```python
from transformers import {kind}, AutoTokenizer

model = {kind}.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```

A prompt is a dialogue in the form `\\n\\nHuman: ...\\n\\nAssistant:`; a response begins with a space."""
