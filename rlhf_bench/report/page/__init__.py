"""report.html: one file that holds everything, opens from disk and loads nothing from the network.

The template gives every table and plot, which read without a script. The page's own script, the *.js beside this file
one after the other, makes tables sort, draws reward against KL, and lists responses and mistakes from the JSON that
`data` makes. A policy in the page lets no other script run, by the script's hash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rlhf_bench.files import atomic_file, policy_hash
from rlhf_bench.report.alarms import alarm_lines, training_alarm_lines
from rlhf_bench.report.contents import Plot, contents
from rlhf_bench.report.notes import first_notes
from rlhf_bench.report.page.compared import compared_table
from rlhf_bench.report.page.data import page_data, page_looks, script_pieces
from rlhf_bench.report.page.embedded import image_uri, model_colours
from rlhf_bench.report.plots.names import names_note
from rlhf_bench.report.render.html import HtmlTable, html_table
from rlhf_bench.report.responses import ResponseView, side_by_side
from rlhf_bench.report.result import Result
from rlhf_bench.report.table import number_text
from rlhf_bench.report.tables.summary import missing_lines
from rlhf_bench.report.tables.tradeoff import front_of, hypervolume_text
from rlhf_bench.report.verdict import verdict

__all__ = ["rendered", "write_page"]

_SCRIPTS = ("dom", "axes", "tables", "tradeoff", "diff", "shading", "prompt", "browser", "mistakes", "curves", "start")
_PROMPTS = _MISTAKES = 20  # without a script
_EXPLORED = "reward_vs_kl"  # the plot that the script draws in place of the image


class Image(NamedTuple):
    plot: Plot
    uri: Markup
    caption: str


class Lines(NamedTuple):
    title: str  # "" for the section's own
    lines: list[tuple[str, str]]  # with a link to the rows that a line is about, or ""


class Section(NamedTuple):
    title: str
    images: list[Image]
    tables: list[HtmlTable]
    lists: list[Lines]
    id: str


def write_page(result: Result) -> Path:
    """Write report.html beside the manifest. The plots are those in plots/; missing ones are left out."""
    path = result.path / "report.html"
    colours = model_colours(page_looks(result).values())
    pieces = _pieces("report.html.j2", scripts=_SCRIPTS, more_style=colours, **_context(result))
    with atomic_file(path) as file:
        file.writelines(piece.encode() for piece in chain(pieces, ["\n"]))
    return path


def _environment() -> Environment:
    """What renders the templates of this folder; texts of models and data are escaped."""
    return Environment(
        loader=PackageLoader("rlhf_bench.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def rendered(name: str, *, scripts: Sequence[str], more_style: str = "", **context: Any) -> str:
    """A template of this folder with its script and style, which its policy allows by their hashes."""
    return "".join(_pieces(name, scripts=scripts, more_style=more_style, **context))


def _pieces(name: str, *, scripts: Sequence[str], more_style: str, **context: Any) -> Iterator[str]:
    """What is `rendered`, piece by piece: a page of many responses would be in memory several times."""
    style = _part("page.css") + more_style
    script = "\n".join(_part(f"{name}.js") for name in scripts)
    hashes = {"style_hash": policy_hash(style), "script_hash": policy_hash(script)}
    template = _environment().get_template(name)
    return template.generate(style=Markup(style), script=Markup(script), **hashes, **context)


def _part(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _context(result: Result) -> dict[str, Any]:
    data = page_data(result)
    return {
        "result": result,
        "manifest": result.manifest,
        "facts": _facts(result),
        "verdict": verdict(result),
        "first": first_notes(result),
        "sections": _sections(result, data),
        "mistakes": data["mistakes"][:_MISTAKES],
        "prompts": side_by_side(result, _PROMPTS),
        "has_curves": bool(data["curves"]),
        "manifest_json": json.dumps(result.manifest, indent=2, ensure_ascii=False),
        "number": _number,
        "question": _question,
        "response_facts": _response_facts,
        "data": script_pieces(data),
    }


def _sections(result: Result, data: Mapping[str, Any]) -> list[Section]:
    """What has a row, a line or a drawing: the first table, what one explores, then the order of the report."""
    found: dict[str, Section] = {}
    explored: list[Image] = []
    first_ones = first_notes(result)  # above all sections
    for entry in contents(result):
        section = found.setdefault(entry.section, _section(entry.section))
        if isinstance(entry, Plot):
            if uri := image_uri(result.path / "plots", entry.name):
                images = explored if entry.name == _EXPLORED else section.images
                images.append(Image(entry, uri, _caption(result, entry)))
        elif entry.rows and entry.section:
            own = [note for note in entry.notes if note not in first_ones]
            section.tables.append(html_table(replace(entry, notes=own)))
    first, *others = [
        section for section in found.values() if section.images or section.tables or section.title == "Summary"
    ]
    drawn = [_section("Explore", images=explored)] if explored or len(data["axes"]) > 1 else []
    responses = [_section("Responses")] if data["prompts"]["id"] else []
    mistakes = [_section("Mistakes")] if data["mistakes"] else []
    behind = {alarm["text"]: f"#alarm={number}" for number, alarm in enumerate(data["alarms"])}
    raised = [(line, behind.get(line, "")) for line in alarm_lines(result)]
    training = [(ln, "#training" if ln != "none" and result.logs else "") for ln in training_alarm_lines(result)]
    alarms = _section("Alarms", Lines("", raised), Lines("While training", training))
    missing = _section("Not available", Lines("", [(line, "") for line in missing_lines(result)]))
    manifest = _section("Manifest")._replace(tables=[html_table(compared_table(result))])
    found_alarms, found_missing = ([section] if section.lists else [] for section in (alarms, missing))
    return [first, *found_alarms, *drawn, *responses, *others, *mistakes, *found_missing, manifest]


def _section(title: str, *lists: Lines, images: list[Image] | None = None) -> Section:
    named = [found for found in lists if found.lines]
    return Section(title, images or [], [], named, title.lower().replace(" ", "-"))


def _caption(result: Result, plot: Plot) -> str:
    """What the plot shows, the hypervolume of its front, and the whole names of models that it shortens."""
    front = front_of(result, plot.front) if plot.front else None
    parts = [plot.caption, f"{hypervolume_text(result, front)}." if front else "", names_note(result.models)]
    return " ".join(part for part in parts if part)


def _number(value: float | None, digits: int) -> str:
    return number_text(value, digits).replace("-", "−")


def _response_facts(view: ResponseView) -> str:
    facts = [
        f"reward {_number(view.reward, 2)}",
        *([f"gold {_number(view.gold, 2)}"] if not math.isnan(view.gold) else []),
    ]
    facts += [] if view.n_tokens is None else [f"{view.n_tokens:g} tokens"]
    return " · ".join([*facts, *(["cut off"] if view.finish_reason == "length" else [])])


def _question(prompt: str) -> str:
    """The end of a prompt, for a heading of one line: in the HH form the human's last turn."""
    return prompt.strip().removesuffix("Assistant:").strip().rpartition("Human:")[2].strip()[-130:]


def _facts(result: Result) -> list[tuple[str, str]]:
    manifest, data, sampling = result.manifest, result.manifest["data"], result.sampling
    samples = sampling.get("samples", "?")
    prompts = f"{data.get('n_prompts', '?')} × {samples} sample{'' if samples == 1 else 's'}"
    drawn = []  # where responses come from files alone nothing was drawn
    if "temperature" in sampling:
        how = f"temperature {sampling['temperature']}, top-p {sampling.get('top_p', '?')}"
        drawn = [("Sampling", f"{how}, ≤ {sampling.get('max_new_tokens', '?')} tokens")]
    return [
        ("Data", result.data_label),
        ("Prompts", prompts),
        ("Training seeds", ", ".join(map(str, result.seeds))),
        ("Reference", result.reference),
        *drawn,
        ("Date", str(manifest.get("time", "?")).replace("T", " ")[:16]),
        ("Hardware", str(manifest.get("hardware", "?"))),
    ]
