"""Evaluate models side by side: same prompts, same sampling, one definition of every number.

Work is done a (seed, model) at a time and each finished shard is stored, so that an evaluation which was interrupted
continues where it stopped. When all parts are there, `collect` makes the results folder of them (`store.result`).
What `force` evaluates again is made inside the old result, and takes its place when it is whole (`replacing`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from rlhf_bench.errors import BenchError, ModelError, NotFinite, StoreError
from rlhf_bench.evaluate.collect import Failed, collect
from rlhf_bench.evaluate.manifest import make_manifest
from rlhf_bench.evaluate.models import SeedModels
from rlhf_bench.evaluate.plan import Plan, prepare
from rlhf_bench.evaluate.replacing import empty_unless_same, finish_replacing, new_result, replace_result
from rlhf_bench.evaluate.request import Request
from rlhf_bench.evaluate.responses import anchor_names, anchor_rows, file_rows, sampled_rows
from rlhf_bench.evaluate.scoring import Scored, pool_of, scored
from rlhf_bench.evaluate.served import Service, served_rows
from rlhf_bench.evaluate.served_kl import log_ratios
from rlhf_bench.evaluate.sources import ModelSource, ResponseSet, ServerModel
from rlhf_bench.evaluate.suite import suite_name
from rlhf_bench.files import exclusive, remove_half_written
from rlhf_bench.progress import Progress
from rlhf_bench.runtime.memory import return_freed_memory
from rlhf_bench.runtime.processes import ALONE, Processes
from rlhf_bench.runtime.writer import Writer
from rlhf_bench.scorers.base import Origin
from rlhf_bench.stats import resampling
from rlhf_bench.store import PartStore, ResultStore
from rlhf_bench.types import Item, ResponseRow

# Prompts that are evaluated and stored at a time. Fixed, so that neither an interruption nor the number of processes
# changes which rows share a batch.
SHARD = 1000

POOLED = ("best_of_n", "frontier")  # what a pool of the reference's responses is drawn for

OnBatch = Callable[[int], None]  # is called with how many responses are finished
Known = Callable[[Sequence[Item]], list[ResponseRow]]  # the responses to some prompts, of a file or of the data


def run_request(
    request: Request,
    *,
    force: bool = False,
    results: Path = Path("results"),
    expected: str | None = None,
    max_cost: str | None = None,
    max_calls: int | None = None,
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> Path:
    """Evaluate what the request names; gives the results folder. What is stored already is not computed again.

    Of several `processes` all call this with the same arguments: they divide the batches that one process would
    compute, and one of them writes. `expected` is the key of a result that is to be repeated.
    `max_cost` (US dollars) and `max_calls` limit what each model behind a server may cost over all runs.

    Raises StoreError where models, data or the suite's version are no longer those of that key.
    """
    progress, writer = progress or Progress(quiet=True), Writer(processes)
    parent = results / suite_name(request.suite)
    writer.look(finish_replacing, parent)
    if not force and (stored := writer.look(_stored, parent, request)):
        writer.write(_tidy, stored, request)
        progress.log(f"{stored}: everything is stored; nothing to compute")
        return stored
    plan = prepare(request, progress)
    manifest = make_manifest(request, plan)
    if expected not in (None, manifest["key"]):
        raise StoreError(
            f"models, data or suite are no longer what they were: their hash is {manifest['key']}, the manifest has "
            f"{expected}; restore them, or evaluate what is there now without --from"
        )
    folder = writer.look(_folder, parent, request.label, manifest["key"], force=force)
    _log_other_version(parent / request.label, folder, plan.suite.version, progress)
    place = new_result(folder) if force else folder
    store, parts = ResultStore(place), PartStore(place)
    if not force and writer.look(_complete, store):
        writer.write(_tidy, folder, request)
        progress.log(f"{folder}: everything is stored; nothing to compute")
        return folder
    writer.look(parts.create)  # a folder that cannot be written ends every process
    with writer.holding(exclusive(folder)):
        if force:
            writer.look(empty_unless_same, place, manifest["key"])
        writer.write(store.write_manifest, manifest)
        service = Service(results / "judge.sqlite", request.skip_bad, progress, max_cost, max_calls)
        shards, failed = _computed(plan, parts, service, processes)
        return_freed_memory()
        with resampling(plan.suite.resamples):
            for line in writer.look(collect, store, parts, plan, shards, failed):
                progress.log(line)
        if force:
            writer.write(replace_result, folder)
        writer.write(_tidy, folder, request)
    return_freed_memory()
    return folder


def _computed(
    plan: Plan, parts: PartStore, service: Service, processes: Processes
) -> tuple[dict[str, list[list[str]]], list[Failed]]:
    """The shards of every part, by kind, and the models that could not be evaluated; none is in memory afterwards."""
    shards, failed, progress = defaultdict[str, list[list[str]]](list), list[Failed](), service.progress
    for seed in plan.seeds:  # a seed's reference and reward models are loaded once, and released before the next
        for part in _parts(plan, SeedModels(plan, seed, processes), service):
            try:
                shards[part.kind].append(_evaluated(part, plan, parts, progress, Writer(processes)))
            except Exception as error:
                if processes.size > 1 or not _can_be_left_out(part, plan, error):
                    raise
                lines = str(error).strip().splitlines()[:1]
                names = [] if isinstance(error, BenchError) else [type(error).__name__]
                failed.append(Failed(str(part.model), seed, ": ".join([*names, *lines])))
                progress.log(f"{part.label}: could not be evaluated, and is left out: {failed[-1].reason}")
    return shards, failed


class _Part(NamedTuple):
    """One model's responses under one seed, or the pool that best-of-n chooses from."""

    kind: str  # "model", "anchor" or "pool"
    key: str  # under which its shards are stored
    label: str
    count: Callable[[Sequence[Item]], int]  # how many responses some prompts have
    compute: Callable[[Sequence[Item], OnBatch], Scored]
    model: str | None = None  # of a model that is evaluated, its name


def _parts(plan: Plan, models: SeedModels, service: Service) -> Iterator[_Part]:
    seed, samples = models.seed, plan.suite.samples
    own = [one for one in plan.evaluated if one.seed == seed]
    # Servers first: one that cannot be used, or a limit that is too low, is an error before anything is sampled here.
    for one in sorted(own, key=lambda one: not isinstance(one, ServerModel)):
        key, label = f"{quote(one.name, safe='')}-{seed}", f"{one.name}, seed {seed}"
        if isinstance(one, ServerModel):
            work = partial(_served, one, models, samples, service)
            yield _Part("model", key, label, _times(samples), work, one.name)
        elif isinstance(one, ResponseSet):
            rows = partial(file_rows, one)
            yield _Part("model", key, label, _counted(rows), partial(_known, rows, models, "file"), one.name)
        else:
            yield _Part("model", key, label, _times(samples), partial(_sampled, one, models, samples), one.name)
    for name in anchor_names(plan.items):  # their folder keeps a model's name from being mistaken for them
        key, label, rows = f"anchors/{name}-{seed}", f"{name}, seed {seed}", partial(anchor_rows, name, seed)
        yield _Part("anchor", key, label, _counted(rows), partial(_known, rows, models, "data"))
    n, reference = plan.suite.pool, plan.reference_model(seed)
    if n and reference is not None and not {(plan.reference, key) for key in POOLED} & plan.missing.keys():
        label = f"pool of {n} of {plan.reference}, seed {seed}"
        yield _Part("pool", f"best_of_n/{seed}", label, _times(n), partial(_pool, reference, models, n))


def _times(samples: int) -> Callable[[Sequence[Item]], int]:
    return lambda items: samples * len(items)


def _counted(rows: Known) -> Callable[[Sequence[Item]], int]:
    return lambda items: len(rows(items))


def _sampled(source: ModelSource, models: SeedModels, samples: int, items: Sequence[Item], on_batch: OnBatch) -> Scored:
    return scored(sampled_rows(source, models, items, samples=samples, on_batch=on_batch), models.context(source))


def _served(
    source: ServerModel, models: SeedModels, samples: int, service: Service, items: Sequence[Item], on_batch: OnBatch
) -> Scored:
    rows = served_rows(source, models, items, samples=samples, service=service)
    on_batch(samples * len(items))
    context = models.context(source.weights, origin="server")
    if source.weights is None:
        context = replace(context, log_ratios=log_ratios(rows, source, models, service))
    return scored(rows, context)


def _known(rows: Known, models: SeedModels, origin: Origin, items: Sequence[Item], on_batch: OnBatch) -> Scored:
    found = rows(items)
    on_batch(len(found))
    return scored(found, models.context(None, origin=origin))


def _pool(reference: ModelSource, models: SeedModels, n: int, items: Sequence[Item], on_batch: OnBatch) -> Scored:
    rows = sampled_rows(reference, models, items, samples=n, on_batch=on_batch)
    return pool_of(rows, models.context(reference, chooser=True))


def _can_be_left_out(part: _Part, plan: Plan, error: Exception) -> bool:
    """Whether the other models' numbers have a meaning without this part: a model's, and not the reference's.

    What may succeed another time, such as a full disk or memory, is no reason to leave a model out.
    """
    of_the_model = (ModelError, NotFinite, RuntimeError, ValueError, LookupError, TypeError)
    return part.model not in (None, plan.reference) and isinstance(error, of_the_model) and "memory" not in str(error)


def _evaluated(part: _Part, plan: Plan, parts: PartStore, progress: Progress, writer: Writer) -> list[str]:
    """The part's shards; those that are not stored are computed by all processes together."""
    shards = _shards(part, plan)
    stored = writer.look(parts.stored, list(shards))
    if len(stored) < len(shards):
        counts = {shard: part.count(items) for shard, items in shards.items()}
        done = sum(counts[shard] for shard in stored)
        with progress.task(part.label, total=sum(counts.values()), start=done) as task:
            for shard, items in shards.items():
                if shard not in stored:
                    writer.write(parts.write, shard, *part.compute(items, task.advance))
    return list(shards)


def _shards(part: _Part, plan: Plan) -> dict[str, Sequence[Item]]:
    """The names of a part's shards, each with its prompts: SHARD of them.

    One shard has all where they are few, and where the suite's own metrics compare responses to different prompts.
    """
    key, items = part.key, plan.pool_items if part.kind == "pool" else plan.items
    if len(items) <= SHARD or plan.suite.metrics:
        return {key: items}
    return {f"shards/{key}/{start}": items[start : start + SHARD] for start in range(0, len(items), SHARD)}


def _tidy(folder: Path, request: Request) -> None:
    """Keep only the result of a finished evaluation, not its parts, nor what a killed attempt was writing.

    Its manifest has the judge and the baseline of the last request, which decide none of its numbers.
    """
    PartStore(folder).remove()
    remove_half_written(folder)
    store = ResultStore(folder)
    manifest = store.read_manifest()
    judge = {"judge": dict(request.judge)} if request.judge else {}
    baseline = request.spec.baseline or manifest["reference"]
    now = {**manifest, "baseline": baseline, "request": {**manifest.get("request", {}), **judge}}
    if now != manifest:
        store.write_manifest(now)


def _stored(parent: Path, request: Request) -> Path | None:
    """The complete result of the same request on files that have not changed since; no model is loaded for it."""
    stamp = request.stamp()
    for manifest in sorted(parent.glob(f"{request.label}*/manifest.json")):
        store = ResultStore(manifest.parent)
        finished = (store.path / "metrics.json").exists()
        if finished and store.read_manifest().get("stamp") == stamp and _complete(store):
            return manifest.parent
    return None


def _folder(parent: Path, run: str, key: str, *, force: bool) -> Path:
    """results/<suite>/<run>, or with a short hash where that holds another configuration."""
    folder, hashed = parent / run, parent / f"{run}-{key[:6]}"
    there = [candidate for candidate in (folder, hashed) if (candidate / "manifest.json").exists()]
    own = next((one for one in there if str(ResultStore(one).read_manifest().get("key")) == key), None)
    if force:
        return own or folder  # where it is stored already, what is beside it is another's
    free = own or next((candidate for candidate in (folder, hashed) if candidate not in there), None)
    if free is None:
        raise StoreError(f"{hashed} holds another evaluation; remove it or use --force")
    return free


def _log_other_version(first: Path, folder: Path, version: int, progress: Progress) -> None:
    """Log why a folder of another name is made, where a suite has changed since the first was."""
    if folder == first:
        return
    stored = ResultStore(first).read_manifest().get("suite_version", version)
    if stored != version:
        progress.log(
            f"{first} is of version {stored} of the suite, which is now {version}: it is kept, and {folder} made"
        )


def _complete(store: ResultStore) -> bool:
    """Whether the result is complete. Raises StoreError where it has lost rows since: --force evaluates it again."""
    try:
        if not (store.path / "scores.parquet").exists() or not store.read_metrics():
            return False
    except StoreError:  # no numbers, or a file that cannot be read: it is computed again
        return False
    store.check_responses()
    return True
