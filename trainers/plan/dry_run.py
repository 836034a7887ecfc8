"""`train --dry-run`: stages, data, tokens, memory, hours here and on a GPU, and what has to be downloaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from rlhf_bench.data.demonstrations import Demonstrations
from rlhf_bench.data.hub import is_hub_id
from rlhf_bench.data.labelled import both_sides
from rlhf_bench.modeling.models import best_precision, default_device
from rlhf_bench.progress import Progress
from rlhf_bench.report.render.terminal import text_of, wrapped
from rlhf_bench.report.table import Cell, Column, Table
from rlhf_bench.types import HH_MINI, STAGES
from trainers.config.ancestry import with_ancestors
from trainers.config.checks import check_combinations, check_given
from trainers.config.loading import load_recipe
from trainers.config.recipe import NewModel, Recipe, RolloutConfig
from trainers.engine.data import TrainingData
from trainers.plan.cost import Lengths, peak_memory, stage_work
from trainers.plan.probe import GPU_FLOPS, GPU_SHARE, GPU_STEPS, gpu_rates, measure, model_config, shape_of

_WIDTH = 100  # characters
SAMPLE = 500  # pairs that are measured for their lengths
CHARACTERS = 4  # a token of English text
HUB_ROWS = {  # training rows of what the recipes name, where the data is not here yet; as the hub's pages round them
    "Anthropic/hh-rlhf": 160_800,
    "Dahoas/synthetic-instruct-gptj-pairwise": 33_100,
    "trl-lib/tldr-preference": 92_900,
    "yahma/alpaca-cleaned": 51_800,
}


def dry_run(stages: Sequence[str], *, recipe: str, overrides: Sequence[str], seconds: float) -> str:
    """What `train` of these stages would do, as text. Nothing is downloaded or written; measuring takes `seconds`.

    Raises as `load_recipe` and the checks of combinations do; ModelError where the model's configuration is not here.
    """
    resolved = load_recipe(recipe, list(overrides))
    check_combinations(resolved)
    wanted = with_ancestors(stages, resolved)
    check_given(recipe, overrides, wanted)
    data = None if _is_missing(resolved.data.source) else TrainingData(resolved, wanted, Progress(quiet=True))
    table = _table(resolved, wanted, data, seconds)
    head = [f"recipe {recipe}: {resolved.description}", *_data_lines(resolved, data)]
    downloads = [line for name in _hub_names(resolved, wanted) for line in _download(*name)]
    lines = [*head, *(downloads or ["downloads: none, everything is here"])]
    return "\n".join([*(line for text in lines for line in wrapped(text, _WIDTH)), "", text_of(table, width=_WIDTH)])


def _table(recipe: Recipe, stages: Sequence[str], data: TrainingData | None, seconds: float) -> Table:
    config, device = model_config(recipe.model), default_device()
    precision = best_precision(device) if recipe.precision == "auto" else recipe.precision
    shape, here = shape_of(config), measure(config, device, precision, seconds=seconds)
    lengths = _lengths(recipe, data)
    rows: list[list[Cell]] = []
    total_here = total_gpu = 0.0
    for stage in stages:
        section = getattr(recipe, stage)
        work = stage_work(recipe, stage, _rows(recipe, stage, data), lengths)
        at_once = section.batch_size * getattr(section, "num_generations", 1)
        gpu = gpu_rates(shape, at_once if isinstance(section, RolloutConfig) else 1).hours(work)
        memory = peak_memory(recipe, stage, shape, precision) / 2**30
        rows.append([stage, work.steps, work.rows, work.tokens / 1e6, memory, here.hours(work), gpu])
        total_here, total_gpu = total_here + here.hours(work), total_gpu + gpu
    rows.append(["all", None, None, None, None, total_here, total_gpu])
    columns = [
        Column("stage", "Stage"), Column("steps", "Steps"), Column("rows", "Rows"),
        Column("tokens", "Tokens (million)", 2), Column("memory", "Memory at peak (GB)", 1),
        Column("here", "Hours here", 2), Column("gpu", "Hours on a GPU", 2),
    ]  # fmt: skip
    notes = [
        f"Model: {shape.parameters / 1e6:.1f} million parameters. Estimates: rollouts at their longest, without the "
        "evaluations while training. Tokens: trained, read and drawn.",
        f"Hours here: measured on {device.type} in {precision} with random weights of the model's shape: "
        f"{here.trained:,.0f} tokens a second trained, {here.read:,.0f} read, {here.drawn:,.0f} drawn.",
        f"Hours on a GPU: not measured. Assumed is an A100 at {GPU_SHARE:.0%} of its {GPU_FLOPS / 1e12:.0f} TFLOP/s in "
        f"bf16, and {GPU_STEPS:g} tokens a second drawn for each response.",
    ]
    return Table("dry-run", "Stages", columns, rows, notes)


def _rows(recipe: Recipe, stage: str, data: TrainingData | None) -> int:
    """How many pairs, demonstrations or labelled responses the stage learns from."""
    if stage == "sft" and (source := recipe.sft.source) is not None:  # their lengths are taken to be those of the data
        if _is_missing(source):
            return HUB_ROWS.get(source, 50_000)
        return len(Demonstrations(source, seed=recipe.data.seed, skip_bad=recipe.data.skip_bad).split("train"))
    if stage == "dpo" and recipe.dpo.loss == "kto_unpaired":
        return 2 * _pairs(recipe, data) if data is None else len(data.labelled("train"))
    return _pairs(recipe, data)


def _pairs(recipe: Recipe, data: TrainingData | None) -> int:
    if data is not None:
        return len(data.pairs("train"))
    known = HUB_ROWS.get(recipe.data.source, recipe.data.limit or 50_000)
    return min(known, recipe.data.limit or known)


def _lengths(recipe: Recipe, data: TrainingData | None) -> Lengths:
    """Mean lengths, at 4 characters a token; the limits where the data is not here."""
    longest = recipe.data
    if data is None:
        return Lengths(longest.max_prompt_tokens, longest.max_response_tokens)
    sides = both_sides(data.pairs("train").pairs[:SAMPLE]) or data.labelled("train")[:SAMPLE]
    return Lengths(
        fmean(min(len(side.prompt) / CHARACTERS, longest.max_prompt_tokens) for side in sides),
        fmean(min(len(side.response) / CHARACTERS, longest.max_response_tokens) for side in sides),
    )


def _data_lines(recipe: Recipe, data: TrainingData | None) -> Iterator[str]:
    source, lengths = recipe.data.source, _lengths(recipe, data)
    if data is None:
        yield (
            f"data: {source} is not here; about {_pairs(recipe, None):,} training pairs before filters, taken at the "
            f"limits of {lengths.prompt:g} tokens a prompt and {lengths.response:g} a response"
        )
        return
    yield f"data: {data.pairs('train').summary()}"
    yield (
        f"lengths: about {lengths.prompt:.0f} tokens a prompt and {lengths.response:.0f} a response, at "
        f"{CHARACTERS} characters a token"
    )


def _hub_names(recipe: Recipe, stages: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Kind, name and key of what comes from the hub."""
    if not isinstance(recipe.model, NewModel) and not Path(recipe.model).exists():
        yield "model", recipe.model, "model"
    backbone = recipe.reward.backbone
    if "reward" in stages and backbone not in STAGES and not Path(backbone).exists():
        yield "model", backbone, "reward.backbone"
    if _is_hub_data(recipe.data.source):
        yield "dataset", recipe.data.source, "data.source"
    if "sft" in stages and recipe.sft.source is not None and _is_hub_data(recipe.sft.source):
        yield "dataset", recipe.sft.source, "sft.source"


def _download(kind: str, name: str, key: str) -> list[str]:
    folder = _cached(kind, name)
    if folder.exists():
        return [f"{name}: here, in {folder}"]
    what = "a folder" if kind == "model" else "a file or folder"
    return [
        f"download: {kind} {name}, to {folder}. Offline: copy that folder there from a machine that has it (or set "
        f"HF_HOME), or name {what} with --set {key}=PATH"
    ]


def _cached(kind: str, name: str) -> Path:
    """Where the hub's client keeps it."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(os.path.expanduser(HF_HUB_CACHE)) / f"{kind}s--{name.partition('@')[0].replace('/', '--')}"


def _is_hub_data(source: str) -> bool:
    return source != HH_MINI and not Path(source).expanduser().exists() and is_hub_id(source)


def _is_missing(source: str) -> bool:
    return _is_hub_data(source) and not _cached("dataset", source).exists()
