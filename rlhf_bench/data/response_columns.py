"""Which column of a response file is the prompt, the response, the reference and the model's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf_bench.data.parsing import Numbered
from rlhf_bench.data.tool_outputs import PLAIN
from rlhf_bench.errors import DataError, UnknownName

# The names of each role, in any case. Of two names for a response the earlier group is the model's: where `generated`
# and `output` are both there, `output` is what the response is compared with.
GENERATED = (
    "response", "responses", "model_response", "generated", "generated_text", "generated_response", "generated_answer",
    "generation", "generations", "prediction", "predictions", "pred", "preds", "predicted", "model_output",
    "model_answer", "hypothesis",
)  # fmt: skip
EITHER = ("completion", "completions", "output", "outputs", "answer", "answers")  # of a model, or of the data
ROLES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "query", "input", "prompts", "questions", "instructions"),
    "response": (*GENERATED, *EITHER),
    "reference": (
        "reference", "references", "reference_response", "reference_text", "ground_truth", "target", "targets",
        "expected", "gold", "gold_answer", "chosen",
    ),
    "model": ("generator", "model", "model_id", "model_name"),
}  # fmt: skip
GIVEN = ("prompt", "response", "reference", "model")  # what --columns can name
ID = ("prompt_id", "question_id", "custom_id", "doc_id", "id", "uid")  # replaces a prompt that a file lacks
_OURS = frozenset({"model", "seed", "prompt_id", "sample", "prompt", "response"})
_SUFFIX = "_response"


@dataclass(frozen=True)
class ResponseLayout:
    """What a file's columns are."""

    what: str
    columns: Mapping[str, str]  # role -> column; "id" in place of "prompt" where a file has no prompt
    responses: Mapping[str | None, str]  # model (None: not named by a column) -> column
    ours: bool = False
    tool: bool = False  # plain rows of a tool's output: its own columns are known

    def note(self, present: Sequence[str]) -> str:
        if self.tool:
            return self.what
        shown = [f"{role} from {column!r}" for role, column in self.columns.items() if column and role != "response"]
        shown += [f"response{f' of {model}' if model else ''} from {c!r}" for model, c in self.responses.items()]
        used = {*self.columns.values(), *self.responses.values()}
        ignored = [] if self.ours else [column for column in present if column not in used]
        return f"{self.what}: {', '.join(shown)}" + (f"; not used: {', '.join(ignored)}" if ignored else "")


def response_layout(
    present: Sequence[str], rows: Sequence[Numbered], given: Mapping[str, str], source: str, tool: str | None
) -> ResponseLayout:
    """The layout of a file with the columns `present`; `tool` names the tool that wrote what are plain rows now.

    Raises UnknownName for a role that is not in GIVEN; DataError where a given column is absent, a role has no column,
    or two columns can be the response.
    """
    for role, named in given.items():
        if role not in GIVEN:
            raise UnknownName("column", role, GIVEN)
        if named not in present:
            raise DataError(f"{source} has no column {named!r} (given for {role}); it has: {', '.join(present)}")
    if tool is not None:
        return ResponseLayout(tool, {role: role for role in PLAIN if role != "response"}, {None: "response"}, tool=True)
    if set(present) >= _OURS and not given:
        columns = {"prompt": "prompt", "model": "model"}
        columns |= {"reference": "reference"} if "reference" in present else {}
        return ResponseLayout("responses of rlhf-bench", columns, {None: "response"}, ours=True)
    by_lower = {column.strip().lower(): column for column in reversed(present)}
    columns = dict(given)
    _find(columns, "prompt", ROLES["prompt"], by_lower)
    _find_texts(columns, by_lower, source)
    _find(columns, "model", ROLES["model"], by_lower)
    wide = _wide(present, columns) if "response" not in given else {}
    if "prompt" not in columns and (wide or "response" in columns) and _has_no_prompt(rows, columns, wide):
        columns["id"] = next((by_lower[name] for name in ID if name in by_lower), "")  # "": numbered
    elif "prompt" not in columns or not (wide or "response" in columns):
        lacking = " and ".join(role for role in ("prompt", "response") if role not in columns)
        raise DataError(
            f"{source} has the columns {', '.join(present) or 'none'}, none known as its {lacking}; expected such as "
            "prompt, response and reference, or <name>_response; name them with --columns prompt=NAME,response=NAME"
        )
    if columns.get("prompt", "").lower() == "instruction" and "prompt" not in given and "input" in by_lower:
        columns["context"] = by_lower["input"]
    if "system" in by_lower and by_lower["system"] not in columns.values():
        columns["system"] = by_lower["system"]
    if wide:
        columns = {role: column for role, column in columns.items() if role not in ("response", "model")}
        return ResponseLayout("one column per model", columns, wide)
    alpaca = {"instruction", "output", "generator"} <= by_lower.keys() and not given
    what = "AlpacaEval's model outputs" if alpaca else "responses" if "id" in columns else "prompt and response"
    return ResponseLayout(what, columns, {None: columns["response"]})


def _find(columns: dict[str, str], role: str, names: Sequence[str], by_lower: Mapping[str, str]) -> None:
    """Put the first of `names` that is free into `columns`."""
    known = (by_lower[name] for name in names if name in by_lower)
    column = next((column for column in known if column not in columns.values()), None)
    if role not in columns and column is not None:
        columns[role] = column


def _find_texts(columns: dict[str, str], by_lower: Mapping[str, str], source: str) -> None:
    """The columns of response and reference. Raises DataError that names both readings where there are two."""
    taken = set(columns.values())
    known = [name for name in ROLES["reference"] if name in by_lower and by_lower[name] not in taken]
    generated = [by_lower[name] for name in GENERATED if name in by_lower and by_lower[name] not in taken]
    either = [by_lower[name] for name in EITHER if name in by_lower and by_lower[name] not in taken]
    if "response" not in columns:
        candidates = generated or either
        if len(candidates) > 1:
            raise DataError(_two_readings(source, "response", candidates))
        if candidates:
            columns["response"] = candidates[0]
    if "reference" in columns:
        return
    left = [column for column in either if column != columns.get("response")]
    if known:
        columns["reference"] = by_lower[known[0]]
    elif len(left) > 1:
        raise DataError(_two_readings(source, "reference", left))
    elif left:
        columns["reference"] = left[0]


def _two_readings(source: str, role: str, columns: Sequence[str]) -> str:
    first, second = columns[:2]
    if role == "response":
        readings = f"response={first},reference={second} or --columns response={second},reference={first}"
    else:
        readings = f"reference={first} or --columns reference={second}"
    return f"{source}: the columns {first!r} and {second!r} can both be the {role}; name it with --columns {readings}"


def _wide(present: Sequence[str], columns: Mapping[str, str]) -> dict[str | None, str]:
    """model -> its `<model>_response` column; empty if the file has one response column under a known name."""
    known = {name for names in ROLES.values() for name in names}
    if "response" in columns and not columns["response"].lower().endswith(_SUFFIX):
        return {}
    taken = set(columns.values())
    free = [c for c in present if c.lower().endswith(_SUFFIX) and c.lower() not in known and c not in taken]
    also = [columns["response"]] if free and "response" in columns else []
    return {column[: -len(_SUFFIX)]: column for column in [*also, *free]}


def _has_no_prompt(rows: Sequence[Numbered], columns: Mapping[str, str], wide: Mapping[str | None, str]) -> bool:
    """True where no unknown column holds texts: one that does is likely the prompt under another name."""
    used = {*columns.values(), *wide.values()}
    first = rows[0][1] if rows else {}
    return not any(isinstance(v, str) and " " in v.strip() for column, v in first.items() if column not in used)
