"""From a recipe to six checkpoints: what is complete, what must be trained, in which order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rlhf_bench.config import diff
from rlhf_bench.data import PreferenceData, named_filters
from rlhf_bench.data.sources import Reader
from rlhf_bench.errors import BadValue, CheckpointError, ConfigChanged, DataError, UnknownName
from rlhf_bench.files import atomic_write_text, exclusive, json_text
from rlhf_bench.modeling.checkpoints import STAGES, check_run, open_checkpoint, read_training, run_seeds, stage_path
from rlhf_bench.modeling.model_files import check_path
from rlhf_bench.modeling.models import default_device
from rlhf_bench.progress import Progress
from rlhf_bench.runtime.processes import ALONE, Processes
from trainers.ancestry import configuration, descendants_of, parents_of, with_ancestors
from trainers.combinations import check_combinations, check_fsdp
from trainers.execution import run_trainer
from trainers.ignored_keys import check_given
from trainers.lora import check_lora
from trainers.lora_layers import check_layers
from trainers.recipe import Recipe
from trainers.recipe_files import load_recipe
from trainers.reward_sources import check_reward_functions
from trainers.save import save_stage
from trainers.stage import Stage, StageResult
from trainers.step_checkpoints import steps_folder
from trainers.tracking import check_trackers

__all__ = ["train"]

REFERENCE_CACHE = ".reference_logps"  # beside the runs: they share it
LEARN_PAIRS = ("reward", "dpo")  # from the difference of chosen and rejected


def train(
    stages: Sequence[str] = STAGES,
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
    """Train `stages` and what they descend from; returns the run's folder.

    A stage that is complete with the same configuration is left alone; with `force`, `stages` are trained again, and so
    is what descends from them, where it was there. The old checkpoint stays until the new one takes its place.
    `seeds` = N trains seeds seed ... seed + N - 1, each in a folder of its own. With `stop_on_alarm` a stage ends at
    its first alarm, and nothing after it is trained. `report_to` names trackers: tensorboard, wandb. Of several
    `processes` all call this with the same arguments; the first alone writes. With `fsdp` they divide the models.

    Raises:
        ConfigChanged: a stage is complete, or under way, with another configuration; the message names the keys.
        UsageError: a recipe, key or value that does not exist or fit, or `fsdp` with one process.
        DataError: data that cannot be used, such as pairs for reward or dpo of which none differs.
        MissingExtra: a tracker that is not installed.
        StoppedByAlarm: with `stop_on_alarm`; the state before the alarm is kept.
        Interrupted: asked to stop; what was trained is kept.
    """
    progress = progress or Progress(quiet=True)
    check_run(run := "default" if run is None else run)
    resolved = load_recipe(recipe, list(overrides))
    check_combinations(resolved)
    check_trackers(report_to)
    if fsdp and processes.size == 1:
        raise BadValue(
            "--fsdp: given with one process, expected several that divide the models; start them with torchrun or "
            "accelerate launch (docs/processes.md)"
        )
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
    folder = root / run
    data = _data(resolved, progress, [stage for stage in wanted if stage in LEARN_PAIRS])
    trained = 0
    for seed, name in processes.first(lambda: _jobs(stages, resolved, folder, seeds, force=force)):
        job = Stage(
            name=name,
            recipe=resolved,
            seed=resolved.seed if seed is None else seed,
            folder=stage_path(folder, name, seed).parent,
            work=stage_path(folder, f".{name}.work", seed),
            progress=progress,
            data=data,
            device=default_device(),
            processes=processes,
            cache=root / REFERENCE_CACHE,
            fsdp=fsdp,
            stop_on_alarm=stop_on_alarm,
            report_to=tuple(report_to) if processes.is_first else (),
        )
        with processes.only_first(exclusive(job.folder)):
            trained += run_stage(job, resume=resume, force=force and name in stages)
    if not trained:
        names = ", ".join(with_ancestors(stages, resolved))
        progress.log(f"{folder}: everything is complete ({names}); nothing to train")
    return folder


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


def run_stage(stage: Stage, *, resume: bool, force: bool) -> bool:
    """Train one stage unless it is complete; True if it was trained.

    With `force` a complete one stays until the new one is saved in its place; what descends from it goes only then.
    """
    target, wanted = stage.folder / stage.name, configuration(stage.recipe, stage.name)
    if not force and stage.processes.first(lambda: _complete(target, wanted, stage.seed)):
        return False
    parents = stage.processes.first(lambda: _begin(stage, wanted, resume=resume, force=force))
    several = f", {stage.processes.size} processes{' (FSDP)' if stage.fsdp else ''}" if stage.processes.size > 1 else ""
    stage.progress.log(f"{stage.name}: seed {stage.seed}, {stage.precision} on {stage.device}{several}, {target}")
    result = run_trainer(stage)
    stage.processes.first(lambda: _keep(stage, result, target, wanted, parents))
    numbers = ", ".join(f"{key} {value:.4g}" for key, value in result.metrics.items())
    stage.progress.log(f"{stage.name}: complete in {result.seconds:.0f} s{'; ' + numbers if numbers else ''}")
    return True


def _begin(stage: Stage, wanted: dict[str, Any], *, resume: bool, force: bool) -> dict[str, str]:
    """The hashes of the stage's parents, which are whole, once its work folder is fit to begin or to continue.

    What a killed process was writing is removed: this one holds the lock.
    """
    for left in (
        *stage.folder.glob(f".{stage.name}.new-*"),
        *steps_folder(stage.folder / stage.name).glob(".checkpoint-*.new-*"),
    ):
        shutil.rmtree(left, ignore_errors=True)
    parents = {name: open_checkpoint(stage.parent(name)).hash for name in parents_of(stage.name, stage.recipe)}
    if not resume:
        shutil.rmtree(stage.work, ignore_errors=True)
    _check_under_way(stage, wanted, force=force)
    return parents


def _keep(stage: Stage, result: StageResult, target: Path, wanted: dict[str, Any], parents: dict[str, str]) -> None:
    """Save a trained stage in its place; what descended from the old one goes."""
    descendants = descendants_of(stage.name, stage.recipe) if target.exists() else []
    for name in descendants:  # before the parent changes: a state continued from another parent would go unnoticed
        shutil.rmtree(stage.folder / f".{name}.work", ignore_errors=True)
    save_stage(stage, result, target, wanted, {name: {"hash": parent} for name, parent in parents.items()})
    shutil.rmtree(stage.work, ignore_errors=True)
    for folder in (stage.folder / name for name in descendants):
        shutil.rmtree(steps_folder(folder), ignore_errors=True)
        if folder.exists():
            stage.progress.log(f"{folder}: removed, to be trained again")
            shutil.rmtree(folder)


def _complete(target: Path, wanted: dict[str, Any], seed: int) -> bool:
    training = read_training(target)
    if training is None:
        return False
    open_checkpoint(target)  # whole, and its parents are what it was trained on
    differences = [str(d) for d in diff(_with_new_keys(training["config"], wanted), wanted)]
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
    nothing to continue. With `force` another configuration begins it anew."""
    file = stage.work / "config.json"
    wanted = {**wanted, "seed": stage.seed}
    if file.exists() and any(stage.work.glob("state-*.pt")):
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(
                f"{file} cannot be read, so nobody knows what the interrupted {stage.name} was trained with; give "
                "--no-resume to start it anew"
            ) from error
        differences = diff(_with_new_keys(stored, wanted), wanted)
        if not differences:
            return
        if not force:
            raise ConfigChanged(
                f"{stage.name} was interrupted under another configuration ({'; '.join(map(str, differences))}); "
                "give the same configuration to continue, or --no-resume to start anew"
            )
    shutil.rmtree(stage.work, ignore_errors=True)
    atomic_write_text(file, json_text(wanted))


def _with_new_keys(stored: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration with those keys of `wanted` that came later, at their defaults."""
    defaults = Recipe().model_dump(mode="json")
    filled = dict(stored)
    for name, section in wanted.items():
        known = stored.get(name, {})
        if isinstance(section, dict) and isinstance(known, dict) and isinstance(defaults.get(name), dict):
            filled[name] = {key: defaults[name][key] for key in section if key in defaults[name]} | known
    return filled


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


def _data(recipe: Recipe, progress: Progress, learners: Sequence[str]) -> Any:
    """Loads a split once for all stages. The first that trains asks for it, and ends where `learners` find nothing."""
    reader = Reader(recipe.data.source, seed=recipe.data.seed, skip_bad=recipe.data.skip_bad)

    @cache
    def load(split: str) -> PreferenceData:
        training = split == "train"
        filters = named_filters(recipe.data.filters) if training and recipe.data.filters != "none" else None
        data = reader.load(split, limit=recipe.data.limit if training else None, filters=filters)
        for line in (*data.notes, data.summary()):
            progress.log(f"data: {line}")
        if learners and all(pair.chosen == pair.rejected for pair in data.pairs):
            raise DataError(
                f"{data.source}, {split}: chosen and rejected are the same text in all {len(data):,} pairs, so "
                f"{' and '.join(learners)} would have nothing to learn; expected pairs that differ: give other data"
            )
        return data

    return load
