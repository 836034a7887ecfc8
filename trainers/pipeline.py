"""Trains the checkpoints of a recipe: what is complete, what must be trained, in which order."""

from __future__ import annotations

import importlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_bench.config import diff
from rlhf_bench.errors import BadValue, CheckpointError, ConfigChanged, Interrupted, UnknownName
from rlhf_bench.files import atomic_write_text, exclusive, json_text
from rlhf_bench.modeling.checkpoints import check_run, open_checkpoint, read_training, run_seeds, stage_path
from rlhf_bench.modeling.model_files import check_path
from rlhf_bench.modeling.models import best_precision, default_device
from rlhf_bench.progress import Progress, clock_time
from rlhf_bench.runtime.pool import Pool
from rlhf_bench.runtime.processes import ALONE, Processes
from rlhf_bench.runtime.writer import Writer
from rlhf_bench.types import STAGES
from trainers.config.ancestry import all_stages, configuration, later_stages, parents_of, with_ancestors
from trainers.config.checks import check_combinations, check_fsdp, check_given
from trainers.config.loading import fine_tuned_instead, load_recipe
from trainers.config.recipe import NewModel, Recipe
from trainers.engine.data import TrainingData
from trainers.engine.lora import check_layers, check_lora
from trainers.engine.machine import Machine, deterministic, workers
from trainers.engine.rewards import check_reward_functions
from trainers.engine.saving import save_stage
from trainers.engine.stage import Folders, Reporting, Stage, StageResult, steps_folder
from trainers.engine.tracking import check_trackers
from trainers.plan.cost import TimeLeft

REFERENCE_CACHE = ".reference_logps"  # beside the runs: they share it


def train(
    stages: Sequence[str] | None = None,
    *,
    recipe: str = "mini",
    run: str | None = None,
    overrides: Sequence[str] = (),
    seeds: int | None = None,
    resume: bool = True,
    force: bool = False,
    fsdp: bool = False,
    stop_on_alarm: bool = False,
    report_to: Sequence[str] = (),
    root: Path = Path("checkpoints"),
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> Path:
    """Train `stages` (None: all of the recipe) and the stages that they start from; returns the run's folder.

    A stage that is complete with the same configuration is not trained again; with `force`, `stages` are, and so are
    the later stages trained from them that were there. The old checkpoint stays until the new one takes its place.
    `seeds` = N trains seeds seed ... seed + N - 1, each in a folder of its own. With `stop_on_alarm` a stage ends at
    its first alarm, and nothing after it is trained. `report_to` names trackers: tensorboard, wandb. Of several
    `processes` all call this with the same arguments; the first alone writes. With `fsdp` models are sharded over them.

    Raises:
        ConfigChanged: a stage is complete, or under way, with another configuration; the message names the keys.
        UsageError: a recipe, key or value that does not exist or fit, or `fsdp` with one process.
        DataError: data that cannot be used, such as pairs for reward or dpo of which none differs.
        MissingExtra: a tracker that is not installed.
        StoppedByAlarm: with `stop_on_alarm`; the state before the alarm is kept.
        Interrupted: by a signal; what was trained is kept.
    """
    progress = progress or Progress(quiet=True)
    check_run(run := "default" if run is None else run)
    resolved = load_recipe(recipe, list(overrides))
    check_combinations(resolved)
    check_trackers(report_to)
    if fsdp and processes.size == 1:
        raise BadValue(
            "--fsdp: given with one process, expected several to shard the models over; start them with torchrun "
            "or accelerate launch (docs/processes.md)"
        )
    stages = all_stages(resolved) if stages is None else stages
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UnknownName("stage", unknown[0], STAGES)
    wanted = with_ancestors(stages, resolved)
    check_given(recipe, overrides, wanted)
    if "reward" in wanted and resolved.reward.backbone not in STAGES:
        check_path(resolved.reward.backbone)
    for stage in wanted:
        check_lora(stage, getattr(getattr(resolved, stage), "lora", None), default_device())
        check_layers(stage, resolved)
    if fsdp:
        check_fsdp(resolved, wanted)
    if {"ppo", "grpo"} & set(stages):
        check_reward_functions(resolved.reward.function)  # now, and not after the stages before
    if (note := fine_tuned_instead(recipe, overrides)) is not None:
        progress.log(note)
    folder = root / run
    data = TrainingData(resolved, wanted, progress)
    machine = _machine(resolved, processes, fsdp=fsdp)
    reporting = Reporting(progress, tuple(report_to), stop_on_alarm)
    writer, trained = Writer(processes), 0
    jobs = writer.look(_jobs, stages, resolved, folder, seeds, force=force)
    time_left, again = TimeLeft(resolved, [name for _, name in jobs]), list[str]()
    for place, (seed, name) in enumerate(jobs, 1):
        target, work = stage_path(folder, name, seed), stage_path(folder, f".{name}.work", seed)
        folders = Folders(target.parent, work, root / REFERENCE_CACHE)
        number = resolved.seed if seed is None else seed
        job = Stage(name, resolved, number, folders, data.pairs, data.labelled, machine, reporting)
        with _interrupted(name, again, stages, resume=resume), writer.holding(exclusive(folders.run)):
            began, forced = time.monotonic(), force and name in stages
            here = run_stage(job, resume=resume, force=forced, place=f"stage {place} of {len(jobs)}")
        trained += here
        again += [name] if forced else []
        pairs = len(data.pairs("train")) if here else 0
        left = time_left.done(name, time.monotonic() - began if here else 0.0, pairs=pairs)
        if here and left is not None and place < len(jobs):
            progress.log(f"{place} of {len(jobs)} stages done; about {clock_time(left)} left for all")
    if not trained:
        names = ", ".join(with_ancestors(stages, resolved))
        progress.log(f"{folder}: everything is complete ({names}); nothing to train")
    return folder


@contextmanager
def _interrupted(name: str, again: Sequence[str], stages: Sequence[str], *, resume: bool) -> Iterator[None]:
    """Adds to the message of an interruption how to continue, where the same command would not.

    again: what this command has trained again, which it would do once more, before it came to what is kept.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        left = " ".join(one for one in STAGES if one in stages and (one == name or one not in again))
        with_these = [f"with the stages {left} alone"] if again else []
        changes = [*with_these, *([] if resume else ["without --no-resume"])]
        if not changes:
            raise
        raise Interrupted(
            f"{name}: interrupted; its last state is kept, and the same command {' and '.join(changes)} continues from "
            "there"
        ) from error


def _machine(recipe: Recipe, processes: Processes, *, fsdp: bool) -> Machine:
    """The machine as a stage begins: without workers of its own."""
    device = default_device()
    precision = best_precision(device) if recipe.precision == "auto" else recipe.precision
    return Machine(device, precision, Pool(None, 1, processes, shards=fsdp))


def _jobs(
    stages: Sequence[str], recipe: Recipe, folder: Path, seeds: int | None, *, force: bool
) -> list[tuple[int | None, str]]:
    """(seed, stage) in the order of training."""
    jobs = []
    for seed in _seeds(recipe, folder, seeds):
        there = [name for name in STAGES if stage_path(folder, name, seed).exists()] if force else []
        again = [name for name in there if set(with_ancestors([name], recipe)) & set(stages)]
        jobs += [(seed, name) for name in with_ancestors([*stages, *again], recipe)]
    return jobs


def run_stage(stage: Stage, *, resume: bool, force: bool, place: str) -> bool:
    """Train one stage unless it is complete; True if it was trained. `place`: which of all stages it is, for the log.

    With `force` a complete one stays until the new one is saved in its place; the later stages that were trained from
    it are removed only then.
    """
    target, wanted = stage.folders.run / stage.name, configuration(stage.recipe, stage.name)
    writer, machine = stage.writer, stage.machine
    if not force and writer.look(_complete, target, wanted, stage.seed):
        return False
    parents = writer.look(_begin, stage, wanted, resume=resume, force=force)
    count = machine.processes.size
    several = f", {count} processes{' (FSDP)' if machine.pool.shards else ''}" if count > 1 else ""
    stage.log(f"{place}, seed {stage.seed}, {machine.precision} on {machine.device}{several}, {target}")
    result = run_trainer(stage)
    writer.write_and_wait(_keep, stage, result, target, wanted, parents)
    numbers = ", ".join(f"{key} {value:.4g}" for key, value in result.metrics.items())
    stage.log(f"complete in {result.seconds:.0f} s{'; ' + numbers if numbers else ''}")
    return True


def run_trainer(stage: Stage) -> StageResult:
    """What the stage's trainer makes of it, with workers and deterministic kernels. Raises ModelError where a model
    that is to be compiled cannot be."""
    machine = stage.machine
    work = workers(
        _parameters(stage), machine.device, machine.processes,
        stage=stage.name, compiled=stage.config.compile, fsdp=machine.pool.shards,
    )  # fmt: skip
    with deterministic(), work as pool:
        result: StageResult = _trainer(stage).train(replace(stage, machine=replace(machine, pool=pool)))
    return result


def _trainer(stage: Stage) -> Any:
    unpaired = stage.name == "dpo" and stage.recipe.dpo.loss == "kto_unpaired"
    return importlib.import_module("trainers.kto_unpaired" if unpaired else f"trainers.{stage.name}")


def _parameters(stage: Stage) -> int:
    """About how many parameters the stage's model has, from the recipe or its parent's weights (fp32)."""
    spec = stage.recipe.model
    if isinstance(spec, NewModel):
        return 12 * spec.n_layer * spec.n_embd**2 + (spec.vocab_size + spec.n_positions) * spec.n_embd
    return sum(file.stat().st_size for file in stage.parent("base").glob("*.safetensors")) // 4


def _begin(stage: Stage, wanted: dict[str, Any], *, resume: bool, force: bool) -> dict[str, str]:
    """The hashes of the stage's parents, which are whole, once its work folder is fit to begin or to continue.

    What a killed process was writing is removed: this one holds the lock.
    """
    for left in (
        *stage.folders.run.glob(f".{stage.name}.new-*"),
        *steps_folder(stage.folders.run / stage.name).glob(".checkpoint-*.new-*"),
    ):
        shutil.rmtree(left, ignore_errors=True)
    parents = {name: open_checkpoint(stage.parent(name)).hash for name in parents_of(stage.name, stage.recipe)}
    if not resume:
        shutil.rmtree(stage.folders.work, ignore_errors=True)
    _check_under_way(stage, wanted, force=force)
    return parents


def _keep(
    stage: Stage, result: StageResult, target: Path, wanted: Mapping[str, Any], parents: Mapping[str, str]
) -> None:
    """Save a trained stage in its place; remove the later stages that were trained from the old one."""
    later = later_stages(stage.name, stage.recipe) if target.exists() else []
    for name in later:  # before the parent changes: a state continued from another parent would go unnoticed
        shutil.rmtree(stage.folders.run / f".{name}.work", ignore_errors=True)
    save_stage(stage, result, target, wanted, {name: {"hash": parent} for name, parent in parents.items()})
    shutil.rmtree(stage.folders.work, ignore_errors=True)
    for folder in (stage.folders.run / name for name in later):
        shutil.rmtree(steps_folder(folder), ignore_errors=True)
        if folder.exists():
            stage.reporting.progress.log(f"{folder}: removed, to be trained again")
            shutil.rmtree(folder)


def _complete(target: Path, wanted: dict[str, Any], seed: int) -> bool:
    training = read_training(target)
    if training is None:
        return False
    open_checkpoint(target)  # whole, and its parents are what it was trained on
    differences = [str(d) for d in diff(training["config"], wanted)]
    if training["seed"] != seed:
        differences.append(f"seed: {training['seed']} -> {seed}")
    if differences:
        raise ConfigChanged(
            f"{target} is complete with another configuration ({'; '.join(differences)}); "
            "use --force to train it again, or --run NAME for a run of its own"
        )
    return True


def _check_under_way(stage: Stage, wanted: dict[str, Any], *, force: bool) -> None:
    """An interrupted stage continues only with the configuration and seed that it began with; with no state there is
    nothing to continue. With `force` another configuration starts it again."""
    file = stage.folders.work / "config.json"
    wanted = {**wanted, "seed": stage.seed}
    if file.exists() and any(stage.folders.work.glob("state-*.pt")):
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(
                f"{file} cannot be read: cannot verify the configuration of the interrupted {stage.name}; give "
                "--no-resume to start it again"
            ) from error
        differences = diff(stored, wanted)
        if not differences:
            return
        if not force:
            raise ConfigChanged(
                f"{stage.name} was interrupted under another configuration ({'; '.join(map(str, differences))}); "
                "give the same configuration to continue, or --no-resume to start again"
            )
    shutil.rmtree(stage.folders.work, ignore_errors=True)
    atomic_write_text(file, json_text(wanted))


def _seeds(recipe: Recipe, folder: Path, seeds: int | None) -> list[int | None]:
    """[None] for a run of one seed without a folder of its own."""
    there: list[int | None] = run_seeds(folder) if folder.exists() else [None]
    if seeds is None:
        return there
    if there == [None] and any((folder / stage).exists() for stage in STAGES):
        raise CheckpointError(
            f"{folder} holds a run of one seed; use --run NAME to train {seeds} seeds in a folder of their own"
        )
    return [recipe.seed + i for i in range(seeds)]
