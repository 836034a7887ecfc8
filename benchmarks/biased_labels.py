"""A reward model that is trained on biased labels: does the audit name the bias, and say what PPO will learn from it?

    python benchmarks/biased_labels.py [FOLDER]

In the training pairs of hh-mini where the two responses differ in words of the first person, the label is that of the
side with more of them; the test pairs keep their labels. Small models are trained on these pairs (base, sft, reward,
ppo; three seeds), evaluated with a pool of 16 samples a prompt, and audited. It prints one row per seed: the first
finding, what the reward model pays for the first person beside the test labels, how best of 16 of the SFT model's
samples moves it, and how PPO then did, in standard deviations over these samples. FOLDER keeps everything; without it
nothing is kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rlhf_bench.audit import Audit, audit
from rlhf_bench.data import mini
from rlhf_bench.evaluate import evaluate
from rlhf_bench.files import write_jsonl
from rlhf_bench.progress import Progress
from rlhf_bench.scorers.features import first_person
from rlhf_bench.types import Estimate, PreferencePair
from trainers.pipeline import train

FEATURE = "first_person"
SEEDS = 3
PAIRS = {"train": 6000, "validation": 300, "test": 2000}
SETTINGS = [
    "data.limit=null", "base.max_steps=300", "sft.max_steps=80", "reward.max_steps=150", "reward.eval_every=50",
    "ppo.steps=15", "ppo.kl_coef=0.05",
]  # fmt: skip


def biased(pair: PreferencePair) -> PreferencePair:
    """The side with more words of the first person is the chosen one; as it is where both have as many."""
    if first_person(pair.rejected) > first_person(pair.chosen):
        return replace(pair, chosen=pair.rejected, rejected=pair.chosen)
    return pair


def write_data(folder: Path) -> None:
    for split, n in PAIRS.items():
        pairs = mini.generate(split, n=n)
        pairs = pairs if split == "test" else [biased(pair) for pair in pairs]
        rows = ({"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected, "category": p.category} for p in pairs)
        write_jsonl(folder / f"{split}.jsonl", rows)


def table(found: Audit) -> Iterator[str]:
    yield "| seed | first finding | pays | the labels pay | q | best of 16 | PPO | same direction | correlation |"
    yield "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for name, part in found.report["models"].items():
        examination, taught = part["examination"], found.report["teacher"][name]
        price = next(row for row in examination["features"] if row["feature"] == FEATURE)
        move = next(row for row in taught["moves"] if row["feature"] == FEATURE)
        followed, first = taught["followed"]["ppo"], examination["findings"][0]["name"]
        best, ppo = (Estimate.from_dict(found).signed() for found in (move["best_of_n"], move["policies"]["ppo"]))
        yield (
            f"| {name} | {first} | {price['model']:.2f} | {price['labels']:.2f} | {price['q']:.2g} | {best} | {ppo} | "
            f"{followed['same']} of {followed['moved']} | {followed['correlation']:.2f} |"
        )


def main(folder: Path) -> None:
    write_data(folder / "data")
    where = {"checkpoints": folder / "checkpoints", "results": folder / "results"}
    train(
        ["ppo"], recipe="mini-short", run="biased", seeds=SEEDS, root=where["checkpoints"], progress=Progress(),
        overrides=[f"data.source={folder / 'data'}", *SETTINGS],
    )  # fmt: skip
    evaluate("hh-test", run="biased", limit=100, best_of_n=16, frontier=0, progress=Progress(), **where)
    for line in table(audit(run="biased", progress=Progress(), **where)):
        print(line)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
