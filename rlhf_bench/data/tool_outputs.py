"""Outputs of evaluation tools and of batch APIs as plain rows: prompt, response, reference, model, finish_reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rlhf_bench.data.hh import Message
from rlhf_bench.data.messages import as_messages, content_text
from rlhf_bench.data.parsing import Numbered
from rlhf_bench.data.tabular import RawTable, Unusable

Row = Mapping[str, Any]
PLAIN = ("prompt", "response", "reference", "model", "finish_reason")
_MESSAGES = ("messages", "conversations", "conversation")
_LENGTH, _STOPPED = ("length", "max_tokens", "model_length"), ("stop", "end_turn", "eos")


def plain_rows(table: RawTable) -> tuple[str, list[Numbered]] | None:
    """(the tool in words, plain rows) of a tool's output, which its columns show; None for any other table.

    A row of several samples becomes several rows of its number; a row that cannot be used is one of its bad rows.
    """
    found = next(((what, read) for what, needed, read in _TOOLS if needed(table)), None)
    if found is None:
        return None
    what, read = found
    plain: list[Numbered] = []
    seen: set[str] = set()
    for number, row in table.rows:
        try:
            if "filter" in row and "doc_id" in row:  # lm-eval has a row for each of its filters, of the same response
                key = f"{row['doc_id']} {row.get('doc_hash')} {row.get('resps')}"
                if key in seen:
                    continue
                seen.add(key)
            plain += [(number, one) for one in read(row)]
        except Unusable as why:
            table.add_bad(number, str(why))
        except (AttributeError, IndexError, KeyError, TypeError):  # another shape than the tool's
            table.add_bad(number, f"is not of the form of {what}")
    return what, plain


def finish_reason(given: Any) -> str | None:
    return "length" if given in _LENGTH else "stop" if given in _STOPPED else None


def _lm_eval(row: Row) -> Iterator[Row]:
    arguments = row.get("arguments")
    first: Any = next(iter(arguments.values()), None) if isinstance(arguments, Mapping) else arguments
    while isinstance(first, Sequence) and not isinstance(first, str) and first:
        first = first[0]
    prompt = first.get("arg_0") if isinstance(first, Mapping) else first
    samples = row.get("resps")
    while isinstance(samples, list) and len(samples) == 1 and isinstance(samples[0], list):
        samples = samples[0]
    if not isinstance(samples, list) or not all(isinstance(text, str) for text in samples):
        raise Unusable("has no generated text in 'resps': a task that compares log-probabilities has none")
    target = row.get("target")
    for text in samples:
        yield {"prompt": prompt, "response": text, "reference": target}


def _batch(row: Row) -> Iterator[Row]:
    response, error = row.get("response"), row.get("error")
    status = response.get("status_code", 200) if isinstance(response, Mapping) else None
    if error or status != 200:
        raise Unusable(f"is a request that failed ({error or f'status {status}'})")
    body = response.get("body", {}) if isinstance(response, Mapping) else {}
    for text, reason in _choices(body):
        yield {
            "prompt": f"(id {row['custom_id']})", "response": text, "model": body.get("model"), "finish_reason": reason,
        }  # fmt: skip


def _choices(body: Any) -> Iterator[tuple[Any, str | None]]:
    """(text, why it ended) of each choice of a chat, completion or Responses API's answer."""
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(choices, list) or not choices:
        output = body.get("output") if isinstance(body, Mapping) else None
        messages = [item for item in output or () if isinstance(item, Mapping) and item.get("type") == "message"]
        if not messages:
            raise Unusable("has no choices in its response")
        yield content_text(messages[-1].get("content")), None
        return
    for choice in choices:
        message = choice.get("message")
        text = content_text(message.get("content")) if isinstance(message, Mapping) else choice.get("text")
        yield text, finish_reason(choice.get("finish_reason") or choice.get("stop_reason"))


def _inspect(row: Row) -> Iterator[Row]:
    output = row.get("output")
    if row.get("error") and not (isinstance(output, Mapping) and output.get("choices")):
        raise Unusable("is a sample that ended with an error")
    target = row.get("target")
    model = (output.get("model") if isinstance(output, Mapping) else None) or row.get("model")
    for text, reason in _choices(output):
        yield {
            "prompt": row.get("input"), "response": text, "reference": target, "model": model, "finish_reason": reason,
        }  # fmt: skip


def _answers(row: Row) -> Iterator[Row]:
    """MT-Bench and Arena-Hard: the turns of each choice. Where the questions are in another file, ids replace them."""
    name = row.get("question_id", row.get("uid"))
    questions = next((row[key] for key in ("prompt", "question", "turns") if isinstance(row.get(key), list)), None)
    model = row.get("model_id") or row.get("model")
    for choice in row["choices"]:
        before: list[Message] = []
        for turn, given in enumerate(choice.get("turns", ()), start=1):
            text = content_text(given)
            if text is None:
                raise Unusable("has a turn without text")
            if questions is None:  # without the turns before, so that other models' answers have the same prompt
                yield {"prompt": f"(question {name}, turn {turn})", "response": text, "model": model}
                continue
            before.append(Message("user", str(questions[turn - 1])))
            yield {"prompt": [m._asdict() for m in before], "response": text, "model": model}
            before.append(Message("assistant", text))


def _conversation(row: Row) -> Iterator[Row]:
    messages = as_messages(next((row[name] for name in _MESSAGES if row.get(name)), None))
    if messages is None or messages[-1].role != "assistant":
        raise Unusable("has messages that do not end with the assistant's")
    if len(messages) < 2:
        raise Unusable("has messages without a turn before the assistant's")
    yield {
        "prompt": [message._asdict() for message in messages[:-1]], "response": messages[-1].content,
        "reference": row.get("reference"), "model": row.get("model"),
    }  # fmt: skip


def _has(*needed: str) -> Callable[[RawTable], bool]:
    return lambda table: set(needed) <= set(table.columns)


def _is_inspect(table: RawTable) -> bool:
    return {"input", "output"} <= set(table.columns) and all(
        isinstance(row.get("output"), Mapping) or row.get("error") for _, row in table.rows
    )


def _is_answers(table: RawTable) -> bool:
    return "choices" in table.columns and bool({"question_id", "uid"} & set(table.columns))


def _is_conversation(table: RawTable) -> bool:
    others = {column.lower() for column in table.columns}
    return bool({*table.columns} & {*_MESSAGES}) and not others & {
        "prompt",
        "instruction",
        "question",
        "response",
        "output",
    }


_TOOLS = (
    ("samples of lm-eval", _has("doc", "resps"), _lm_eval),
    ("output of a batch API", _has("custom_id", "response"), _batch),
    ("samples of inspect_ai", _is_inspect, _inspect),
    ("model answers of MT-Bench or Arena-Hard", _is_answers, _answers),
    ("conversations, the last turn the response", _is_conversation, _conversation),
)
