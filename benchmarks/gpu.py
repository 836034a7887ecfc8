"""What there is to measure on a GPU, in under ten minutes: one table after another.

    pip install ".[peers]"
    python benchmarks/gpu.py                                   # GPT-2 of 124M in bf16
    python benchmarks/gpu.py --device cpu --model tiny --rows 2 --steps 4 --tokens 4   # that the script works

selftest of the model; each stage's share of the matrix peak; sampling beside `generate`; and training beside TRL, with
the memory of both. Each part is a process of its own, by the scripts beside this one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from sizes import MODELS, write_inputs

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--model", default="gpt2-124M", choices=list(MODELS))
    parser.add_argument("--rows", type=int, default=32, help="texts or pairs of a step")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48, help="of a sampled response")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU was found; --device cpu --model tiny shows that the script works")
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ""} if given.device == "cpu" else {})}
    print(torch.cuda.get_device_name() if given.device == "cuda" else "cpu", flush=True)
    shape = ["--model", given.model, "--rows", str(given.rows), "--steps", str(given.steps)]
    shape += ["--tokens", str(given.tokens), "--precision", "bf16"]
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), given.model, pairs=2)
        parts = {
            "selftest": ["-m", "rlhf_bench", "selftest", "--model", str(Path(folder) / "policy")],
            "share of the peak": [str(HERE / "roofline.py"), *shape],
            "sampling": [str(HERE / "sampling.py"), "--models", given.model, "--tokens", str(given.tokens)],
            "beside TRL": [str(HERE / "against_trl.py"), *shape],
        }
        for name, words in parts.items():
            began = time.perf_counter()
            print(f"\n{name}", flush=True)
            subprocess.run([sys.executable, *words], check=True, env=environment)
            print(f"({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
