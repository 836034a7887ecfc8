"""An audit as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf_bench.store import ResultStore
from rlhf_bench.types import Estimate

__all__ = ["audit_text"]

_COLUMNS = {"accuracy": "reward model", "longer": "longer", "shorter": "shorter", "untrained": "untrained"}


def audit_text(folder: Path) -> str:
    """Accuracy by category beside its baselines, of the audit in `folder`; several seeds together, then one by one.

    Raises StoreError where the folder holds no audit that can be read.
    """
    report = ResultStore(folder.parent).read_audit() or {"models": {}, "data": {}}
    parts: dict[str, Any] = {f"seed {seed}": part for seed, part in report["models"].items()}
    if report.get("pooled"):
        parts = {f"{len(parts)} seeds": report["pooled"], **parts}
    data = report["data"]
    lines = [
        f"accuracy on {data.get('source')} ({data.get('split')}), 95 % interval over prompts; "
        "longer/shorter: by characters; untrained: a fresh head"
    ]
    for i, (name, part) in enumerate(parts.items()):
        rows = _rows(part) if i == 0 else [row for row in _rows(part) if row[0] in ("all", "unseen")]
        ece = part.get("ece")
        title = name if ece is None else f"{name}, calibration error {ece:.3f}"
        lines += ["", title, *_align([["", *_COLUMNS.values(), "ceiling", "pairs"], *rows])]
    return "\n".join([*_findings(report["models"]), *lines])


def _findings(models: Mapping[str, Any]) -> list[str]:
    """The three largest findings of the first seed, a sentence each; nothing for an audit without an examination."""
    examined = [(seed, part["examination"]) for seed, part in models.items() if part.get("examination")]
    if not examined:
        return []
    seed, first = examined[0]
    if first["missing"]:
        return [f"findings: not sought ({first['missing']})", ""]
    found = first["findings"]
    head = f"findings, seed {seed} (q < .05): {len(found) or 'none'}; all in features.csv and slices.csv"
    return [head, *(f"- {entry['sentence']}" for entry in found[:3]), ""]


def _rows(part: Mapping[str, Any]) -> list[list[str]]:
    groups = {"all": part["overall"], **part["by_category"], "unseen": part.get("unseen")}
    return [
        [
            name,
            *(_cell(group.get(key)) for key in _COLUMNS),
            "-" if group.get("ceiling") is None else f"{group['ceiling']:.3f}",
            f"{group.get('pairs', '-')}",
        ]
        for name, group in groups.items()
        if group
    ]


def _cell(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "-"
    estimate = Estimate.from_dict(found)
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]  # fmt: skip
