"""A checkpoint's model card: the hub's metadata block, and what it was trained on, from what, how, and how well."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_bench.types import Estimate

IN_METADATA = ("reward_z", "reward", "gold", "kl_exact", "rougeL", "perplexity", "ended")


class Evaluated(NamedTuple):
    """The numbers of one result for the checkpoint."""

    suite: str
    source: str  # of the data
    split: str
    n_prompts: int
    reference: str
    numbers: Mapping[str, Estimate]  # by metric
    folder: str = ""  # <suite>/<run>, which distinguishes two evaluations of one suite


def model_card(training: Mapping[str, Any], *, name: str, evaluated: Sequence[Evaluated] = ()) -> str:
    """README.md of a checkpoint from its training.json; `name` is the folder or the hub's name to load it by."""
    stage, data = training["stage"], training["data"]
    parents = ", ".join(f"{parent} ({p['hash']})" for parent, p in training["parents"].items()) or "none"
    alarms = [f"- step {alarm['step']}, {alarm['name']}: {alarm['message']}" for alarm in training.get("alarms", [])]
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
        "## Alarms while training\n\n" + ("\n".join(alarms) or "None was raised."),
        _loading(training, name),
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
            dataset_config=result.suite,  # without it the hub puts all suites of one data set under the first's name
            dataset_split=result.split, metric_type=metric, metric_name=_title(metric),
            metric_value=round(result.numbers[metric].value, 6),
        )
        for result in _largest(evaluated) for metric in IN_METADATA if metric in result.numbers
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


def _largest(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """The result with the most prompts of each suite, data and split: the hub knows one value a metric."""
    best: dict[tuple[str, str, str], Evaluated] = {}
    for result in evaluated:
        kept = best.setdefault(result[:3], result)
        best[result[:3]] = max(kept, result, key=lambda one: one.n_prompts)
    return list(best.values())


def _on_the_hub(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~")) and "." not in source.rpartition("/")[2]


def _evaluation(result: Evaluated) -> str:
    rows = [
        [_title(metric), f"{e.value:.4g}", f"[{e.low:.4g}, {e.high:.4g}]" if math.isfinite(e.low) else "–"]
        for metric, e in result.numbers.items()
    ]
    title = f"{result.suite} on {result.source} ({result.split}), {result.n_prompts} prompts"
    title += f", result {result.folder}" if result.folder else ""
    note = f"Intervals are of 95 %, over prompts. KL is to {result.reference}; rewards (z) are in its units."
    return f"{_table(title, ['metric', 'value', '95 % interval'], rows)}\n\n{note}" if rows else ""


def _title(metric: str) -> str:
    """The metric's column header."""
    from rlhf_bench.scorers import describe  # here: a card without an evaluation need not wait for SciPy

    return describe(metric).title


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _loading(training: Mapping[str, Any], name: str) -> str:
    adapter = training.get("adapter")
    code = _model_code(training["stage"], name) if adapter is None else _adapter_code(training["stage"], name, adapter)
    if training["stage"] == "reward" and "form" in training:
        code += "\n\n" + _reward_code(training["form"])
    form = f"as the template {training.get('prompt_form')} of `rlhf-bench eval --prompt-template` writes it."
    if training.get("prompt_form", "hh") == "hh":
        form = "in the form `\\n\\nHuman: ...\\n\\nAssistant:`; a response begins with a space."
    packages = "transformers and peft" if adapter else "transformers"
    return f"## Loading\n\nWith plain {packages}:\n\n```python\n{code}\n```\n\nA prompt is a dialogue {form}"


def _model_code(stage: str, name: str) -> str:
    kind = _class(stage)
    return f"""from transformers import {kind}, AutoTokenizer

model = {kind}.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")"""


def _reward_code(form: Mapping[str, Any]) -> str:
    """A function that gives what this project's own reward model gives, to rounding."""
    spaced = (
        bool(form.get("after_line_end"))
        * """
    line_end = tokenizer("\\n", add_special_tokens=False)["input_ids"]  # the tokenizer puts a space before a text
    answer = tokenizer("\\n" + response, add_special_tokens=False)["input_ids"][len(line_end) :]"""
    )
    return f'''import torch


def reward(prompt: str, response: str) -> float:
    """The score at the end token; nothing may follow it, neither a line end of a chat template nor padding."""
    ids, answer = tokenizer([prompt, response], add_special_tokens=False)["input_ids"]{spaced}
    front = tokenizer.convert_tokens_to_ids({list(form["front"])!r})
    end = tokenizer.convert_tokens_to_ids({form["end"]!r})
    if ids[: len(front)] != front:
        ids = front + ids
    with torch.no_grad():
        return model.eval()(torch.tensor([[*ids, *answer, end]])).logits[0, 0].item()'''


def _adapter_code(stage: str, name: str, adapter: Mapping[str, Any]) -> str:
    """The base is shown as seen from the folder that the adapter `name` lies in."""
    base, kind, reward = str(adapter["base"]), _class(stage), stage == "reward"
    shown = os.path.normpath(Path(name) / base) if base.startswith("..") else base
    nested = "  # an adapter itself: give it merged, as `rlhf-bench merge` writes it" if adapter.get("nested") else ""
    lines = [
        "from peft import PeftModel",
        f"from transformers import {kind}, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
        f'base = {kind}.from_pretrained("{shown}"{", num_labels=1" if reward else ""}){nested}',
    ]
    if reward:
        lines += ["base.resize_token_embeddings(len(tokenizer))", "base.config.pad_token_id = tokenizer.pad_token_id"]
    return "\n".join([*lines, f'model = PeftModel.from_pretrained(base, "{name}")'])


def _class(stage: str) -> str:
    return "AutoModelForSequenceClassification" if stage == "reward" else "AutoModelForCausalLM"
