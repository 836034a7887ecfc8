"""The prompts of an evaluation: a suite's own, those of response files, or the pairs of a data source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_bench.data.own_prompts import read_own_prompts
from rlhf_bench.data.sources import Reader
from rlhf_bench.data.splits import ALL, order_key
from rlhf_bench.errors import BadValue, DataError
from rlhf_bench.evaluate.matching import ResponseFiles, T, files_items, match
from rlhf_bench.evaluate.request import Request
from rlhf_bench.evaluate.suite import OWN_PROMPTS, Suite, suite_path
from rlhf_bench.progress import Progress
from rlhf_bench.scorers.rules import check_suite_metrics
from rlhf_bench.types import HH_MINI, Item, fingerprint, stable_hash


class Prompts(NamedTuple):
    items: list[Item]  # one a prompt
    source: str
    split: str
    seed: int
    fingerprint: str
    ceiling: float | None = None  # the best accuracy that a reward model can have on these pairs, where it is known


def read_prompts(
    request: Request, config: Mapping[str, Any] | None, files: ResponseFiles, progress: Progress
) -> Prompts:  # fmt: skip
    """`config`: that of the run that takes part, None without one.

    Raises BadValue where no prompts are named, UnknownName and DataError as their readers do.
    """
    suite = request.spec
    trained_on = None if config is None else str(config["data"]["source"])
    if suite.own_prompts is not None:
        return _own(request, suite.own_prompts, trained_on, files, progress)
    if suite.data is None and trained_on is None:
        if not request.responses:
            raise BadValue("--model without a run: no prompts to evaluate on; give --data SOURCE or --run NAME")
        items = _choose(_checked(suite, files_items(files, progress)), suite)
        source = ", ".join(Path(file).name for _, file in request.responses)
        return Prompts(items, source, "all", 0, _print_of(items))
    seed = 0 if config is None else int(config["data"]["seed"])
    reader = Reader(suite.data or trained_on or "", seed=seed, skip_bad=request.skip_bad)
    return _of_data(suite, reader, _split(request, reader, trained_on), files, progress)


def _split(request: Request, reader: Reader, trained_on: str | None) -> str:
    """The suite's split; of a file that no run was trained on, and that has no such split of its own, every pair."""
    suite, keys = request.spec, {setting.partition("=")[0] for setting in request.settings}
    chosen = request.split is not None or "split" in keys
    given = request.data is not None or "data" in keys
    if chosen or not given or suite.split in reader.own_splits:
        return suite.split
    known = trained_on is not None and Path(trained_on).resolve() == Path(reader.source).resolve()
    return suite.split if known else ALL


def _own(
    request: Request, name: str, trained_on: str | None, files: ResponseFiles, progress: Progress
) -> Prompts:  # fmt: skip
    suite = request.spec
    wording = suite.wording or ("mini" if trained_on == HH_MINI else "natural")
    path = suite_path(request.suite).parent / name.replace("{wording}", wording)
    read = _checked(suite, read_own_prompts(path))
    note = f", {wording} wording" if "{wording}" in name else ""
    progress.log(f"data: {len(read)} prompts of the suite's own{note}")
    items = _choose_questions(match(read, files, progress), suite)
    return Prompts(items, OWN_PROMPTS, wording if note else path.stem, 0, _print_of(items))


def _of_data(suite: Suite, reader: Reader, split: str, files: ResponseFiles, progress: Progress) -> Prompts:
    loaded = reader.load(split)
    for line in (*loaded.notes, loaded.summary()):
        progress.log(f"data: {line}")
    matched = match(loaded.pairs, files, progress)
    pairs = _choose(matched, suite)
    if len(pairs) < (n := len({pair.prompt for pair in matched})):
        progress.log(f"data: {len(pairs):,} of {n:,} prompts, chosen by a hash; --limit takes another number")
    ceiling = None
    if reader.source == HH_MINI:
        from rlhf_bench.data import mini

        ceiling = mini.ceiling(pairs)
    items = [Item(pair.prompt, pair.chosen, pair.rejected, pair.category) for pair in pairs]
    check_suite_metrics(suite.metrics, items)
    return Prompts(items, reader.source, split, reader.seed, fingerprint(pairs), ceiling)


def _checked(suite: Suite, items: list[Item]) -> list[Item]:
    """All prompts that there are, which the suite's metrics fit; of those chosen, a category may have none."""
    check_suite_metrics(suite.metrics, items)
    return items


def _print_of(items: Sequence[Item]) -> str:
    return stable_hash(*(part or "" for item in items for part in (item.prompt, item.chosen)))


def _choose(given: Sequence[T], suite: Suite) -> list[T]:
    """Choose one a prompt, `suite.prompts` of them, by a hash that nothing else depends on."""
    by_prompt: dict[str, T] = {}
    for one in given:
        by_prompt.setdefault(one.prompt, one)
    ordered = sorted(by_prompt.values(), key=lambda one: order_key(suite.seed, one.prompt))
    return ordered[: suite.prompts]


def _choose_questions(given: Sequence[Item], suite: Suite) -> list[Item]:
    """Choose as `_choose` does, but whole questions, and of each category as equal a share as there is."""
    questions: dict[str, list[Item]] = {}
    for item in given:
        assert item.probe is not None
        questions.setdefault(item.probe.question, []).append(item)
    of_category: dict[str | None, int] = {}
    ranked = []
    for question in sorted(questions, key=lambda text: order_key(suite.seed, text)):
        category = questions[question][0].category
        place = of_category[category] = of_category.get(category, -1) + 1
        ranked.append((place, question))
    chosen: list[Item] = []
    for _, question in sorted(ranked, key=lambda pair: pair[0]):  # stable: by hash within a place
        if suite.prompts is not None and len(chosen) + len(questions[question]) > suite.prompts:
            break
        chosen += questions[question]
    if not chosen:
        raise DataError(
            f"{suite.prompts} prompt requested, but a question of this suite has {len(given) // len(questions)}; "
            "give a --limit of at least as many"
        )
    return chosen
