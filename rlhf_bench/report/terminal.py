"""The main columns of a result as plain text, for a terminal."""

from __future__ import annotations

import textwrap

from rlhf_bench.report.alarms import alarm_lines, training_alarm_lines
from rlhf_bench.report.cells import cell_text
from rlhf_bench.report.probes import own_metrics
from rlhf_bench.report.result import Result, known
from rlhf_bench.report.tables import missing_lines, summary_table
from rlhf_bench.scorers.perplexity import PERPLEXITY_PREFIXES
from rlhf_bench.scorers.reward import HELD_OUT, REWARD_PREFIX

__all__ = ["summary_text"]

_FEW = 8  # alarms, or reasons, that a terminal shows
_MAIN = ("gold", "kl_exact", "rougeL", "n_tokens", "ended")


def summary_text(result: Result, *, width: int = 120) -> str:
    """The main columns as plain text for a terminal `width` characters wide, and the alarms.

    Intervals stand beside the values where they fit, else on a line below; columns that still do not fit are left
    out and named.
    """
    table = summary_table(result)
    shown = [i for i, c in enumerate(table.columns) if _is_shown(result, c.key)]
    titles = [table.columns[i].title.replace(f" by {result.reference}", "") for i in shown]
    digits = [table.columns[i].digits for i in shown]
    body = [[cell_text(row[i], d) for i, d in zip(shown, digits, strict=True)] for row in table.rows]
    for line in body:
        line[0] = line[0] if len(line[0]) <= 20 else line[0][:19] + "…"
    left_out: list[str] = []
    if _total(_widths([titles, *body])) > width:
        body = [half for line in body for half in _stacked(line)]
    while _total(_widths([titles, *body])) > width and len(titles) > 2:
        left_out.insert(0, titles.pop())
        body = [line[:-1] for line in body]
    widths = _widths([titles, *body])
    rule = "─" * _total(widths)
    prompts, samples = result.manifest["data"].get("n_prompts", "?"), result.sampling.get("samples", "?")
    seeds = f"training seed{'' if len(result.seeds) == 1 else 's'} {', '.join(map(str, result.seeds))}"
    head = [
        f"{table.title}: {prompts} prompts × {samples} samples, {seeds}, reference {result.reference}",
        rule,
        _line(titles, widths),
        rule,
    ]
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,  # a path stays whole
    )
    notes = [line for note in table.notes for line in wrapper.wrap(note)]
    tail = [rule, *notes, *([f"Not shown: {', '.join(left_out)}"] if left_out else [])]
    tail += _listed("Alarm" if result.metrics.get("alarms") else "Alarms", alarm_lines(result), "alarms; they")
    if result.metrics.get("training_alarms"):
        tail += _listed("Alarm while training", training_alarm_lines(result), "alarms; they")
    tail += _listed("Not available", missing_lines(result), "group(s) of numbers; the reasons")
    return "\n".join([*head, *(_line(line, widths) for line in body), *tail]) + "\n"


def _listed(label: str, lines: list[str], many: str) -> list[str]:
    """A line each, or one that says how many there are where they are too many for a terminal."""
    if len(lines) <= _FEW:
        return [f"{label}: {line}" for line in lines]
    return [f"{label}: {len(lines)} {many} stand in tables/summary.md"]


def _is_shown(result: Result, key: str) -> bool:
    """The main columns, and for responses from files those that stand in for what a file lacks."""
    if key == "model":
        return True
    main = {*own_metrics(result), result.reward_key, *_MAIN}
    if not any(known(result.estimate(model, "kl_exact")) for model in result.models):
        main |= {"rouge1", "rouge2", "distinct2", "repetition"}
    is_main = key in main or key == f"{HELD_OUT}_z" or key.startswith((REWARD_PREFIX, PERPLEXITY_PREFIXES[0]))
    return is_main and any(known(result.estimate(model, key)) for model in result.models)


def _stacked(line: list[str]) -> list[list[str]]:
    parts = [text.partition(" [") if i else (text, "", "") for i, text in enumerate(line)]
    return [[value for value, _, _ in parts], [f"[{low}" if low else "" for _, _, low in parts]]


def _widths(lines: list[list[str]]) -> list[int]:
    return [max(len(text) for text in column) for column in zip(*lines, strict=True)]


def _total(widths: list[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _line(texts: list[str], widths: list[int]) -> str:
    first, *rest = [
        text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(texts, widths, strict=True))
    ]
    return "  ".join([first, *rest]).rstrip()
