"""Where the processor's time goes in each stage of training, by kind of work, with one thread.

    python benchmarks/profile_stages.py                     # the default recipe, shortened
    python benchmarks/profile_stages.py --model gpt2-124M   # and all other options of roofline.py

Start-up, sampling and evaluations on the way are in it: a stage from its beginning to its checkpoint.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import torch
from roofline import arguments, stages
from torch.profiler import ProfilerActivity, profile

KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear", "_linear_pointwise", "mkldnn", "_scaled_dot"),
    "softmax, logits": ("softmax", "logsumexp", "gather", "scatter", "exp", "log"),
    "norms and activations": ("layer_norm", "gelu", "tanh", "silu", "pow"),
    "optimiser": ("_fused_adamw", "adam", "norm", "lerp", "clip"),
    "copies and fills": ("copy", "fill", "zero", "cat", "index", "clone", "contiguous", "to_copy", "slice", "select"),
    "other elementwise": ("add", "mul", "sub", "div", "sum", "where", "neg", "mean"),
}


def kind(name: str) -> str:
    short = name.removeprefix("aten::").rstrip("_").lower()
    return next((k for k, words in KINDS.items() if any(short.startswith(w) or w in short for w in words)), "the rest")


def main() -> None:
    given = arguments(__doc__)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for stage, run in stages(given, Path(folder)).items():
            with profile(activities=[ProfilerActivity.CPU]) as found:
                run()
            spent: Counter[str] = Counter()
            for event in found.key_averages():
                spent[kind(event.key)] += event.self_cpu_time_total
            total = sum(spent.values())
            parts = ", ".join(f"{name} {spent[name] / total:.0%}" for name, _ in spent.most_common())
            print(f"{stage:7} {total / 1e6:6.1f} s: {parts}", flush=True)


if __name__ == "__main__":
    main()
