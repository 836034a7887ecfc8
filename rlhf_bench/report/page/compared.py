"""What was compared: each model and reward model with its checkpoint and the form in which it reads a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table

_COLUMNS = [
    Column("model", "Model"),
    Column("seed", "Seed"),
    Column("role", "Role"),
    Column("kind", "Kind"),
    Column("path", "Path"),
    Column("hash", "Hash"),
    Column("form", "Form of the prompt"),
]


def compared_table(result: Result) -> Table:
    """A row for each model, reward model and perplexity model under each seed, as the manifest has it."""
    return Table("compared", "What was compared", _COLUMNS, list(_rows(result)), keys=2)


def _rows(result: Result) -> Iterator[list[Cell]]:
    manifest = result.manifest
    for name, entries in manifest["models"].items():
        role = "reference" if name == result.reference else "model"
        for entry in entries:
            form = "–" if entry.get("kind") == "responses" else _form(entry)
            yield _row(name, entry, role, str(entry.get("kind", "?")), form)
    for entry in manifest.get("reward_model") or []:
        yield _row(entry.get("column", "reward"), entry, "reward model", "checkpoint", _form_name(entry.get("form")))
    for entry in manifest.get("perplexity_models") or []:
        yield _row(str(entry.get("name", "?")), entry, "perplexity", "checkpoint", "text of the response")


def _row(name: str, entry: Mapping[str, Any], role: str, kind: str, form: str) -> list[Cell]:
    return [name, entry.get("seed"), role, kind, entry.get("path"), entry.get("hash"), form]


def _form(entry: Mapping[str, Any]) -> str:
    """The template's name and what the manifest records of it, such as a system turn or a limit."""
    details = entry.get("prompt") or {}
    named = [f"{key.replace('_', ' ')} {value!r}" for key, value in details.items() if key not in ("name", "template")]
    return ", ".join([_form_name(entry.get("template", "hh")), *named])


def _form_name(name: Any) -> str:
    return "hh (Human: ... Assistant:)" if name == "hh" else str(name or "?")
