"""A result's responses as AlpacaEval reads them: a model_outputs.json for each model."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from rlhf_bench.data.hh import form_prompt, split_turns
from rlhf_bench.files import atomic_write_text, json_text, writing
from rlhf_bench.store import ANCHORS, ResultStore


def write_alpaca(result_dir: Path, folder: Path) -> list[Path]:
    """Write `<model>.json` for each model and for the chosen responses; return the files.

    A file is a list of {"instruction", "output", "generator", "dataset"}, one object a prompt in the order of the
    result: sample 0 of the first seed, since AlpacaEval knows one output an instruction. The instruction is the human's
    text; a dialogue of several turns, which AlpacaEval has no form for, is given whole. Raises StoreError.
    """
    store = ResultStore(result_dir)
    manifest = store.read_manifest()
    outputs: dict[str, list[dict[str, Any]]] = {}
    for row in store.read_responses():
        if row["sample"] == 0 and row["seed"] == manifest["seeds"][0] and row["model"] != ANCHORS[1]:
            outputs.setdefault(row["model"], []).append(
                {
                    "instruction": _instruction(row["prompt"]),
                    "output": row["response"].strip(),
                    "generator": row["model"],
                    "dataset": str(manifest["data"].get("source", "")),
                }
            )
    written = []
    for model, rows in outputs.items():
        path = folder / f"{quote(model, safe=' ')}.json"
        with writing(path):
            atomic_write_text(path, json_text(rows, indent=1) + "\n")
        written.append(path)
    return written


def _instruction(prompt: str) -> str:
    """The human's text of a prompt that makes the same prompt again when it is read, else the prompt."""
    turns = split_turns(prompt)
    return turns[0].content if len(turns) == 1 and form_prompt(turns[0].content) == prompt else prompt
