"""report.html: one file that holds everything, opens from disk and loads nothing from the network."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from rlhf_bench.files import atomic_write_text
from rlhf_bench.report.alarms import alarm_lines, training_alarm_lines
from rlhf_bench.report.contents import Plot, contents
from rlhf_bench.report.notes import one_seed_note, toy_note
from rlhf_bench.report.plots.names import names_note
from rlhf_bench.report.render.html import HtmlTable, html_table
from rlhf_bench.report.responses import side_by_side
from rlhf_bench.report.result import Result
from rlhf_bench.report.table import number_text
from rlhf_bench.report.tables.pareto import front_of, hypervolume_text
from rlhf_bench.report.tables.summary import missing_lines
from rlhf_bench.report.verdict import verdict
from rlhf_bench.store import ResultStore

__all__ = ["write_page"]

_PROMPTS = 30
_MISTAKES = 20  # of a model
_SVG_LIMIT = 600_000  # bytes; a larger drawing goes in as PNG


class Image(NamedTuple):
    plot: Plot
    uri: str
    caption: str


class Section(NamedTuple):
    title: str
    images: list[Image]
    tables: list[HtmlTable]

    @property
    def id(self) -> str:
        return self.title.lower().replace(" ", "-")


def write_page(result: Result) -> Path:
    """Write report.html beside the manifest. The plots are those in plots/; missing ones are left out."""
    environment = Environment(
        loader=PackageLoader("rlhf_bench.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path = result.path / "report.html"
    atomic_write_text(path, environment.get_template("report.html.j2").render(_context(result)) + "\n")
    return path


def _context(result: Result) -> dict[str, Any]:
    return {
        "result": result,
        "manifest": result.manifest,
        "facts": _facts(result),
        "verdict": verdict(result),
        "first": [*one_seed_note(result), *toy_note(result)],
        "sections": _sections(result),
        "alarms": {"Alarms": alarm_lines(result), "Alarms while training": training_alarm_lines(result)},
        "mistakes": _mistakes(result),
        "prompts": side_by_side(result, _PROMPTS),
        "missing": missing_lines(result),
        "manifest_json": json.dumps(result.manifest, indent=2, ensure_ascii=False),
        "number": _number,
        "question": _question,
    }


def _sections(result: Result) -> list[Section]:
    """What has a row or a drawing, in the order of the report."""
    sections: dict[str, Section] = {}
    for entry in contents(result):
        section = sections.setdefault(entry.section, Section(entry.section, [], []))
        if isinstance(entry, Plot):
            if uri := _data_uri(result, entry.name):
                section.images.append(Image(entry, uri, _caption(result, entry)))
        elif entry.rows and entry.section:
            section.tables.append(html_table(entry))
    return [section for section in sections.values() if section.images or section.tables]


def _caption(result: Result, plot: Plot) -> str:
    """What the plot shows, the hypervolume of its front, and the whole names of models that it shortens."""
    front = front_of(result, plot.front) if plot.front else None
    parts = [plot.caption, f"{hypervolume_text(result, front)}." if front else "", names_note(result.models)]
    return " ".join(part for part in parts if part)


def _number(value: float | None, digits: int) -> str:
    return number_text(value, digits).replace("-", "−")


def _question(prompt: str) -> str:
    """The end of a prompt, for a heading of one line: in the HH form the human's last turn."""
    return prompt.strip().removesuffix("Assistant:").strip().rpartition("Human:")[2].strip()[-130:]


def _facts(result: Result) -> list[tuple[str, str]]:
    manifest, data, sampling = result.manifest, result.manifest["data"], result.sampling
    samples = sampling.get("samples", "?")
    prompts = f"{data.get('n_prompts', '?')} × {samples} sample{'' if samples == 1 else 's'}"
    drawn = f"temperature {sampling.get('temperature', '?')}, top-p {sampling.get('top_p', '?')}"
    return [
        ("Data", result.data_label),
        ("Prompts", prompts),
        ("Training seeds", ", ".join(map(str, result.seeds))),
        ("Reference", result.reference),
        ("Sampling", f"{drawn}, at most {sampling.get('max_new_tokens', '?')} tokens"),
        ("Date", str(manifest.get("time", "?")).replace("T", " ")[:16]),
        ("Hardware", str(manifest.get("hardware", "?"))),
    ]


def _mistakes(result: Result) -> dict[str, list[dict[str, Any]]]:
    """The worst of each audited model."""
    rows = ResultStore(result.path).read_mistakes()
    by_model = {name: [row for row in rows if row["model"] == name] for name in result.audit.get("models", {})}
    return {name: found[:_MISTAKES] for name, found in by_model.items() if found}


def _data_uri(result: Result, name: str) -> str | None:
    """The plot as a data URI: an image, so nothing in it can run or load anything."""
    for suffix, kind in ((".svg", "image/svg+xml"), (".png", "image/png")):
        path = result.path / "plots" / f"{name}{suffix}"
        if path.exists() and (suffix == ".png" or path.stat().st_size <= _SVG_LIMIT):
            return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    return None
