"""How often each alarm is raised where nothing is wrong, and how long before gold falls where something is.

    python benchmarks/alarm_rates.py          # some 20 minutes of one core; prints the tables of docs/metrics.md

Trains base, sft and a reward model once, of the size of the recipe mini-short, and then, under seeds by which no limit
was chosen,

- 30 short runs each of ppo, grpo and dpo without a fault, each run evaluated on a few prompts;
- 30 runs of grpo that over-optimise: no KL penalty, a large learning rate and many steps.

What is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

from rlhf_bench.evaluate import evaluate
from rlhf_bench.files import read_jsonl
from rlhf_bench.progress import Progress
from rlhf_bench.stats.estimates import clopper_pearson
from trainers.engine.alarms import ALARMS
from trainers.pipeline import train

SHARED = ("base", "sft", "reward")
SETTINGS = ["base.max_steps=150", "sft.max_steps=60", "reward.max_steps=100"]
POLICIES = ("ppo", "grpo", "dpo")
SOUND = ["ppo.steps=12", "ppo.batch_size=24", "ppo.eval_every=2", "ppo.eval_size=16", "dpo.max_steps=12"]
SOUND += ["grpo.steps=12", "grpo.batch_size=4", "grpo.eval_every=2", "grpo.eval_size=16"]
FAULT = ["grpo.beta=0.0", "grpo.lr=3e-4", "grpo.schedule=constant", "grpo.steps=24", "grpo.batch_size=4"]
FAULT += ["grpo.eval_every=1", "grpo.eval_size=24"]
OF_EVALUATION = {
    "reward_without_gold": "reward up, gold down", "reward_without_rougeL": "reward up, ROUGE-L down",
    "length": "length may explain the gain", "distinct2": "distinct-2", "repetition": "repetition",
    "copied": "copied prompts", "refused": "refusals", "self_bleu": "self-BLEU", "ended": "endings",
    "phrase": "a phrase that most responses share",
}  # fmt: skip
FIRST_SEED = 1000
AROUND = 2  # evaluations on either side over which gold is averaged before its peak is read off
ROOT = Path("checkpoints")


class Run(NamedTuple):
    training: dict[str, dict[str, int]]  # stage -> alarm -> the step that raised it
    evaluation: dict[str, set[str]]  # model -> kinds of alarm
    gold: list[tuple[int, float]]  # of grpo's evaluations while training: (step, mean)


def run(kind: str, seed: int, stages: Sequence[str], settings: Sequence[str], *, prompts: int) -> Run:
    """Train and evaluate one run; its shared stages are copies of those that were trained once."""
    name = f"alarm-rates-{kind}-{seed}"
    for stage in SHARED:
        if not (target := ROOT / name / stage).exists():
            shutil.copytree(ROOT / "alarm-rates" / stage, target)
            record = json.loads((target / "training.json").read_text("utf-8"))
            (target / "training.json").write_text(json.dumps({**record, "seed": seed}), "utf-8")
    overrides = [*SETTINGS, *settings, f"seed={seed}"]
    train(stages, recipe="mini-short", run=name, overrides=overrides, progress=Progress(quiet=True))
    found = evaluate("hh-test", run=name, limit=prompts, samples=1, seed=seed, progress=Progress(quiet=True))
    metrics = json.loads((found.folder / "metrics.json").read_text("utf-8"))
    raised: dict[str, set[str]] = {}
    for alarm in metrics["alarms"]:
        raised.setdefault(alarm["model"], set()).add(alarm["kind"])
    of_training: dict[str, dict[str, int]] = {stage: {} for stage in stages}
    for alarm in metrics["training_alarms"] or []:
        if alarm["model"] in stages:
            of_training[alarm["model"]][alarm["name"]] = int(alarm["step"])
    log = read_jsonl(ROOT / name / "grpo" / "log.jsonl")
    gold = [(int(row["step"]), float(row["eval_gold"])) for row in log if "eval_gold" in row]
    return Run(of_training, raised, gold)


def peak(gold: Sequence[tuple[int, float]]) -> int:
    """The step at which gold is highest, as the mean of an evaluation and its neighbours."""
    means = [fmean(value for _, value in gold[max(0, i - AROUND) : i + AROUND + 1]) for i in range(len(gold))]
    return gold[means.index(max(means))][0]


def rate(count: int, n: int) -> str:
    """The share with the upper limit of Clopper and Pearson; 0 of 30 is "at most 10 %" by its one-sided one."""
    if count == 0:
        return f"0 of {n}: at most {1 - 0.05 ** (1 / n):.0%}"
    limits = clopper_pearson(count / n, n, level=0.95)
    return f"{count} of {n}: {count / n:.0%} [{limits.low:.0%}, {limits.high:.0%}]"


def false_alarms(runs: Sequence[Run]) -> Iterator[str]:
    n = len(runs)
    yield f"| alarm while training | {' | '.join(POLICIES)} |"
    yield f"| --- |{' ---: |' * len(POLICIES)}"
    for name in ALARMS:
        yield f"| `{name}` | {' | '.join(rate(sum(name in r.training[p] for r in runs), n) for p in POLICIES)} |"
    yield ""
    yield f"| alarm of the evaluation | {' | '.join(POLICIES)} | any of the three |"
    yield f"| --- |{' ---: |' * (len(POLICIES) + 1)}"
    for kind, title in OF_EVALUATION.items():
        counts = [sum(kind in r.evaluation.get(p, ()) for r in runs) for p in POLICIES]
        any_of = sum(any(kind in r.evaluation.get(p, ()) for p in POLICIES) for r in runs)
        yield f"| {title} | {' | '.join(rate(count, n) for count in [*counts, any_of])} |"


def lead(runs: Sequence[Run]) -> Iterator[str]:
    """The tables of the runs that over-optimise."""
    last = max(step for step, _ in runs[0].gold)
    falls = [r for r in runs if peak(r.gold) < last]
    peaks = sorted(peak(r.gold) for r in falls)
    yield f"Gold is highest before the last of {last} steps in {len(falls)} of {len(runs)} runs, at step {peaks[0]} to "
    yield f"{peaks[-1]} (median {median(peaks):g})."
    yield ""
    yield "| alarm while training | raised | before gold's peak | steps before it: median (least to most) |"
    yield "| --- | ---: | ---: | ---: |"
    for name in ALARMS:
        ahead = sorted(peak(r.gold) - r.training["grpo"][name] for r in falls if name in r.training["grpo"])
        spread = f"{median(ahead):g} ({ahead[0]} to {ahead[-1]})" if ahead else "-"
        yield f"| `{name}` | {len(ahead)} of {len(falls)} | {sum(a > 0 for a in ahead)} | {spread} |"
    yield ""
    yield "| alarm of the evaluation, at the end | raised |"
    yield "| --- | ---: |"
    for kind, title in OF_EVALUATION.items():
        yield f"| {title} | {sum(kind in r.evaluation.get('grpo', ()) for r in runs)} of {len(runs)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", nargs="?", choices=["sound", "fault", "both"], default="both")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--prompts", type=int, default=50, help="of each evaluation")
    arguments = parser.parse_args()
    overrides = [*SETTINGS, f"seed={FIRST_SEED}"]
    train(SHARED, recipe="mini-short", run="alarm-rates", overrides=overrides, progress=Progress(quiet=True))
    seeds = range(FIRST_SEED + 1, FIRST_SEED + 1 + arguments.runs)
    for kind in ["sound", "fault"] if arguments.kind == "both" else [arguments.kind]:
        stages, settings, table = (POLICIES, SOUND, false_alarms) if kind == "sound" else (("grpo",), FAULT, lead)
        runs = [run(kind, seed, stages, settings, prompts=arguments.prompts) for seed in seeds]
        print("\n".join([*table(runs), ""]), flush=True)


if __name__ == "__main__":
    main()
