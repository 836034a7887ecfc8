"""How the time of an evaluation grows with prompts, samples, models and the length of responses.

    python benchmarks/scaling.py

A random GPT-2 of 2 layers and width 32 is sampled and scored by a reward model of that size, with the KL to itself, as
in stream.py. Each of the four is made four times as large, alone; the exponent is that of the processor seconds beyond
those of the smallest evaluation, which are start-up for the most part: 1 is linear.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from stream import save_models, write_prompts

FACTOR = 4


class Size(NamedTuple):
    prompts: int = 1000
    samples: int = 2
    models: int = 1
    tokens: int = 12

    def times(self, name: str, factor: int) -> Size:
        return self._replace(**{name: factor * getattr(self, name)})


SMALLEST = Size(prompts=20)


def evaluation_seconds(size: Size) -> float:
    """Processor seconds of one evaluation in this process, imports left out."""
    from rlhf_bench.evaluate import evaluate

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        write_prompts(folder / "data" / "test.jsonl", size.prompts, words=8, responses=0)
        save_models(folder / "model", folder / "reward")
        suite = folder / "suite.yaml"
        suite.write_text(
            f"version: 1\nprompts: {size.prompts}\nsamples: {size.samples}\nmax_new_tokens: {size.tokens}\n"
        )
        began = time.process_time()
        evaluate(
            str(suite), models={f"model{i}": str(folder / "model") for i in range(size.models)},
            data=str(folder / "data"), reward_models={"reward": str(folder / "reward")}, results=folder / "results",
        )  # fmt: skip
        return time.process_time() - began


def measured(size: Size) -> float:
    """`evaluation_seconds` in a process of its own."""
    out = subprocess.run([sys.executable, __file__, *map(str, size)], check=True, stdout=subprocess.PIPE).stdout
    return float(json.loads(out.splitlines()[-1]))


def main() -> None:
    least, once = measured(SMALLEST), measured(Size())
    print(f"{SMALLEST}: {least:.1f} s; {Size()}: {once:.1f} s")
    for name in Size._fields:
        larger = measured(Size().times(name, FACTOR))
        exponent = math.log((larger - least) / (once - least), FACTOR)
        print(f"{FACTOR} x {name}: {larger:.1f} s, exponent {exponent:.2f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(evaluation_seconds(Size(*map(int, sys.argv[1:]))))
    else:
        main()
