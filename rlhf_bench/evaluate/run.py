"""Evaluate models side by side: same prompts, same sampling, one definition of every number.

Work is done a (seed, model) at a time and each finished shard is stored, so an evaluation that was interrupted goes on
where it stopped. When all parts are there, they become the results folder (DESIGN, "Results").
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_bench.errors import StoreError
from rlhf_bench.evaluate.assemble import finish
from rlhf_bench.evaluate.manifest import make_manifest
from rlhf_bench.evaluate.parts import Part, anchor_parts, model_part, pool_parts
from rlhf_bench.evaluate.plan import Setup, prepare
from rlhf_bench.evaluate.request import Request
from rlhf_bench.evaluate.result import Evaluation
from rlhf_bench.evaluate.suite import suite_name
from rlhf_bench.files import exclusive, remove_half_written
from rlhf_bench.progress import Progress
from rlhf_bench.runtime.processes import ALONE, Processes
from rlhf_bench.stats import resampling
from rlhf_bench.store import ResultStore

if TYPE_CHECKING:
    from rlhf_bench.evaluate.measure_base import Measure

__all__ = ["evaluate", "run_request"]


def evaluate(
    suite: str | None = None,
    *,
    run: str | None = None,
    models: Mapping[str, str] | None = None,
    templates: Mapping[str, str] | None = None,
    responses: Sequence[tuple[str | None, str]] = (),
    columns: Mapping[str, str] | None = None,
    skip_bad: bool = False,
    strip: Sequence[str] = (),
    reference: str | None = None,
    reward_models: Mapping[str, str] | None = None,
    perplexity_models: Mapping[str, str] | None = None,
    data: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    samples: int | None = None,
    best_of_n: int | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
    force: bool = False,
    checkpoints: Path = Path("checkpoints"),
    results: Path = Path("results"),
    progress: Progress | None = None,
) -> Evaluation:
    """Run a suite over a run's checkpoints, `models` and response files; gives what is stored, as frames and figures.

    suite: a name or a YAML file; hh-test, or `responses` where the prompts are those of response files
    run: a trained run; `default` unless models come with data of their own, or responses with their prompts
    models: name -> path or hub name of a causal language model; {seed} in a path stands for each seed of the run
    templates: name of one of `models` or `perplexity_models` -> the form of its prompts (templates.TEMPLATES); what its
        training.json says by default, else hh
    responses: (name, file) each; without a name a file's models are called as in the file
    columns: prompt, response, reference -> the columns of the response files, where they are not recognised
    skip_bad: leave out rows of response files and data that cannot be used
    strip: prompt, think, special: what is taken out of the responses of files (data.strip.STRIPPED)
    reference: the model that KL is taken to and rewards are standardised by
    reward_models: name -> path; the first is `reward` in every table, others are shown beside it
    perplexity_models: name -> path or hub name of a causal language model that reads every response, whoever wrote it:
        `perplexity:NAME` and `bits_per_byte:NAME`
    best_of_n: responses of the reference to each prompt, from which `reward` chooses the best of n; 0: none
    data: a data source for the prompts; by default what the run was trained on
    split: of the data; by default the suite's, or every pair of a file that the run was not trained on
    settings: key=value in place of what the suite says, such as prompts=null or wording=natural

    What is stored already is reused; another configuration gets a folder of its own.

    Raises:
        UsageError: an unknown suite, model or value.
        CheckpointError: a checkpoint that is missing, damaged or stale.
        DataError: data or a response file that cannot be used.
        StoreError: the results folder cannot be written, or what it holds has lost rows.
    """
    request = Request.of(
        suite, run, models=dict(models or {}), templates=dict(templates or {}), responses=tuple(responses),
        columns=dict(columns or {}), skip_bad=skip_bad, strip=tuple(strip), reference=reference,
        reward_models=dict(reward_models or {}), perplexity_models=dict(perplexity_models or {}), data=data,
        split=split, limit=limit, samples=samples, best_of_n=best_of_n, seed=seed, settings=tuple(settings),
        checkpoints=Path(checkpoints),
    )  # fmt: skip
    return Evaluation(run_request(request, force=force, results=Path(results), progress=progress))


def run_request(
    request: Request,
    *,
    force: bool = False,
    results: Path = Path("results"),
    expected: str | None = None,
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> Path:
    """As `evaluate`; gives the results folder alone. `expected` is the key of a result that is to be repeated.

    Of several `processes` all call this with the same arguments: they divide the batches that one process would
    compute, and the first alone writes.

    Raises StoreError where models, data or versions of the suite are no longer those of that key.
    """
    progress = progress or Progress(quiet=True)
    parent = results / suite_name(request.suite)
    if not force and (stored := processes.first(lambda: _stored(parent, request))):
        processes.first(lambda: _tidy(stored, request))
        progress.log(f"{stored}: everything is stored; nothing to compute")
        return stored
    setup = prepare(request, progress)
    manifest = make_manifest(request, setup)
    if expected not in (None, manifest["key"]):
        raise StoreError(
            f"models, data or suite are no longer what they were: their hash is {manifest['key']}, the manifest says "
            f"{expected}; restore them, or evaluate what is there now without --from"
        )
    folder = processes.first(lambda: _folder(parent, request.label, manifest["key"], force=force))
    _say_other_version(parent / request.label, folder, setup.suite.version, progress)
    store = ResultStore(folder)
    if processes.first(lambda: _complete(store)):
        processes.first(lambda: _tidy(folder, request))
        progress.log(f"{folder}: everything is stored; nothing to compute")
        return folder
    processes.first(lambda: _make_parts(folder))
    with processes.only_first(exclusive(folder)):
        processes.first(lambda: store.write_manifest(manifest))
        parts: list[Part] = []
        anchors: list[Part] = []
        pools: list[Part] = []
        for number in setup.seeds:  # a seed's reference and reward models are loaded once, and let go before the next
            measure, work = _measure(setup, number, processes), folder / ".parts"
            parts += [model_part(work, setup, measure, p, progress, processes) for p in setup.parts if p.seed == number]
            anchors += anchor_parts(work, setup, measure, number, progress, processes)
            pools += pool_parts(work, setup, measure, number, progress, processes)
        with resampling(setup.suite.resamples):
            processes.first(lambda: finish(store, setup, [*parts, *anchors], pools))
        processes.first(lambda: _tidy(folder, request))
    return folder


def _make_parts(folder: Path) -> None:
    try:
        (folder / ".parts").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror}); give --results a folder that can") from error


def _tidy(folder: Path, request: Request) -> None:
    """Of a finished evaluation only the result stays, not its parts, nor what a killed attempt was writing.

    Its manifest names the judge and the baseline that were asked for last, who decide none of its numbers.
    """
    shutil.rmtree(folder / ".parts", ignore_errors=True)
    remove_half_written(folder)
    store = ResultStore(folder)
    manifest = store.read_manifest()
    asked = manifest.get("request", {})
    judge = {"judge": dict(request.judge)} if request.judge else {}
    now = {**manifest, "baseline": request.spec.baseline or manifest["reference"], "request": {**asked, **judge}}
    if now != manifest:
        store.write_manifest(now)


def _stored(parent: Path, request: Request) -> Path | None:
    """The complete result of the same request on files that have not changed since; nothing is loaded to see it."""
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
    keys = {candidate: _stored_key(candidate) for candidate in (folder, hashed)}
    own = next((candidate for candidate, stored in keys.items() if stored == key), None)
    if force:
        again = own or folder  # where it is stored already, what is beside it is another's
        shutil.rmtree(again, ignore_errors=True)
        return again
    free = own or next((candidate for candidate, stored in keys.items() if stored is None), None)
    if free is None:
        raise StoreError(f"{hashed} holds another evaluation; remove it or use --force")
    return free


def _say_other_version(first: Path, folder: Path, version: int, progress: Progress) -> None:
    """Why a folder of another name is made, where a suite has changed since the first was."""
    if folder == first:
        return
    stored = ResultStore(first).read_manifest().get("suite_version", version)
    if stored != version:
        progress.log(
            f"{first} is of version {stored} of the suite, which is now {version}: it is kept, and {folder} made"
        )


def _stored_key(folder: Path) -> str | None:
    if not (folder / "manifest.json").exists():
        return None
    return str(ResultStore(folder).read_manifest().get("key"))


def _complete(store: ResultStore) -> bool:
    """Raises StoreError where it was complete and has lost rows since: --force says that it may be made again."""
    try:
        if not (store.path / "scores.parquet").exists() or not store.read_metrics():
            return False
    except StoreError:  # no numbers, or a file that cannot be read: it is computed again
        return False
    store.check_responses()
    return True


def _measure(setup: Setup, seed: int, processes: Processes) -> Measure | None:
    """What one seed's models are measured with; None where texts alone are counted and compared."""
    if setup.sampling is None:
        return None
    from rlhf_bench.evaluate.measure_base import Measure
    from rlhf_bench.modeling.models import default_device

    return Measure(
        items=setup.items, source=setup.source, sampling=setup.sampling, samples=setup.suite.samples,
        seed=setup.suite.seed * 1_000_003 + seed,
        reference=next((m for m in setup.models if m.name == setup.reference and m.seed == seed), None),
        scorers=setup.scorers[seed], readers=setup.readers,
        # texts from elsewhere may be longer than what is sampled here
        max_response=None if setup.texts else setup.sampling.max_new_tokens,
        device=default_device(), metrics=setup.suite.metrics, processes=processes,
    )  # fmt: skip
