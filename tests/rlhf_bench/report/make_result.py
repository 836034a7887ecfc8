"""A made-up results folder for tests and for looking at a report: no model is run, every number comes from a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rlhf_bench.audit.calibration import calibration
from rlhf_bench.files import atomic_write_text, json_text, write_jsonl
from rlhf_bench.store import ANCHORS, ResultStore
from rlhf_bench.types import Estimate

MODELS = ("base", "sft", "ppo", "grpo", "dpo", "bon-16")
NASTY = "=1+1 <script>alert('x')</script> & 50% of $5_000 \u2028 | ``` http://example.org/"
#        reward, gold, KL, tokens, ended, ROUGE-L
WORLD = {
    "base": (-1.9, 0.22, 14.0, 44, 0.35, 0.14),
    "sft": (-0.2, 0.48, 0.0, 27, 0.97, 0.31),
    "ppo": (1.25, 0.55, 9.0, 39, 0.93, 0.25),
    "grpo": (1.05, 0.61, 5.5, 34, 0.96, 0.27),
    "dpo": (0.80, 0.57, 7.4, 36, 0.88, 0.26),
    "bon-16": (0.62, 0.59, 1.9, 30, 0.97, 0.30),
    "chosen": (0.55, 0.66, math.nan, 29, 1.0, math.nan),
    "rejected": (-0.50, 0.40, math.nan, 26, 1.0, 0.24),
}
WORDS = ["the", "a", "quiet", "river", "runs", "past", "old", "stone", "walls", "where", "people", "tell", "stories"]


def make_result(
    path: Path,
    *,
    models: Sequence[str] = MODELS,
    seeds: Sequence[int] = (0,),
    n_prompts: int = 12,
    samples: int = 2,
    gold: bool = True,
    audit: bool = True,
    nasty: bool = False,
) -> Path:
    """Write a results folder in the project's format and return its path."""
    rng = np.random.default_rng(7)
    store = ResultStore(path)
    names = [*models, *ANCHORS]
    rows, scores = _responses(rng, names, seeds, n_prompts, samples, gold, nasty)
    table = pd.DataFrame(scores)
    store.write_manifest(_manifest(path, models, seeds, n_prompts, samples))
    store.write_responses(rows)
    store.write_scores(table.drop(columns="reward_z"))  # as an evaluation, which stores what was measured
    store.write_metrics(_metrics(table, names, seeds, gold))
    for model in ("base", "sft", "reward", "ppo", "grpo", "dpo"):
        for seed in seeds:
            write_jsonl(path / "training" / f"{model}-{seed}.jsonl", log_rows(model, seed))
    if audit:
        _write_audit(store, rng, seeds, nasty)
    return path


def log_rows(stage: str, seed: int = 0, steps: int = 120) -> list[dict[str, Any]]:
    """Training log rows under TRL's names: a train row a step, an evaluation row each 20."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        fall, rise, noise = math.exp(-step / 40), 1 - math.exp(-step / 50), rng.normal(0, 0.06)
        train: dict[str, dict[str, float]] = {
            "base": {"loss": 2.4 + 4 * fall + 2 * noise},
            "sft": {"loss": 1.6 + fall + noise},
            "reward": {"loss": 0.45 + 0.25 * fall + noise, "accuracy": min(1.0, 0.5 + 0.26 * rise + noise)},
            "ppo": {"objective/scores": 1.4 * rise + 4 * noise, "objective/kl": 9 * rise + 8 * noise},
            "grpo": {"reward": 1.2 * rise + 4 * noise, "kl": 0.2 * rise + 0.2 * noise},
            "dpo": {
                "loss": 0.35 + 0.34 * fall + noise,
                "rewards/accuracies": min(1.0, 0.5 + 0.28 * rise + noise),
                "rewards/margins": 0.9 * rise + noise,
            },
        }
        rows.append({"step": step, "learning_rate": 1e-4, **train[stage]})
        if step % 20 == 0:
            gap = {key: value + 0.05 for key, value in train[stage].items() if key in ("loss", "reward", "kl")}
            if "accuracy" in train[stage]:
                gap["accuracy"] = 0.5 + 0.22 * rise
            rows.append({"step": step, **{f"eval_{key}": value for key, value in gap.items()}})
    return rows


def _responses(
    rng: np.random.Generator,
    names: Sequence[str],
    seeds: Sequence[int],
    n_prompts: int,
    samples: int,
    gold: bool,
    nasty: bool,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    hardness = rng.normal(0, 0.5, n_prompts)
    for seed in seeds:
        for model in names:
            reward, gold_mean, kl, tokens, ended, rouge = WORLD.get(model, WORLD["bon-16"])
            shift = rng.normal(0, 0.08) if len(seeds) > 1 else 0.0
            for prompt in range(n_prompts):
                for sample in range(1 if model in ANCHORS else samples):
                    length = int(np.clip(rng.normal(tokens, tokens / 4), 5, 64))
                    finished = rng.random() < ended
                    per_token = np.abs(rng.normal(kl / tokens, kl / tokens / 2 + 1e-9, length))
                    per_token *= np.exp(-np.arange(length) / 30) * 1.6
                    words = rng.choice(WORDS, length)
                    text = " " + " ".join(words) + "."
                    ends = np.cumsum([len(word) + 1 for word in words])  # a token a word, with the space before it
                    ends[-1] += 1
                    if nasty and prompt == 0:
                        text = NASTY
                    key = {"model": model, "seed": seed, "prompt_id": f"p{prompt:04d}", "sample": sample}
                    rows.append(
                        {
                            **key,
                            "prompt": f"\n\nHuman: Tell me story number {prompt}, please.\n\nAssistant:",
                            "response": text,
                            "reference": " A story about rain, told well.",
                            "finish_reason": "eos" if finished else "length",
                            "n_prompt_tokens": 12,
                            "n_tokens": length,
                        }
                    )
                    drawn = reward + shift + hardness[prompt] + rng.normal(0, 0.7) + 0.012 * (length - tokens)
                    row: dict[str, Any] = {
                        **key,
                        "category": ("facts", "advice", "refusal")[prompt % 3],
                        "reward": drawn + 0.3 * seed,
                        "reward_z": (drawn - WORLD["sft"][0]) / 0.86,
                        "n_tokens": float(length),
                        "n_words": float(length),
                        "ended": float(finished),
                        "rouge1": rouge + 0.08 + rng.normal(0, 0.06),
                        "rouge2": rouge - 0.10 + rng.normal(0, 0.04),
                        "rougeL": rouge + rng.normal(0, 0.05),
                        "distinct1": 0.8 + rng.normal(0, 0.03),
                        "distinct2": 0.95 + rng.normal(0, 0.02),
                        "repetition": abs(rng.normal(0.04, 0.03)),
                        "kl_k1": kl + rng.normal(0, 2.5) if model != "sft" else 0.0,
                        "kl_k3": kl * 1.1 + abs(rng.normal(0, 2)) if model != "sft" else 0.0,
                        "kl_exact": float(per_token.sum()) if model != "sft" else 0.0,
                        "token_kl": None if math.isnan(kl) else [float(x) for x in per_token],
                        "token_ends": None if math.isnan(kl) else ends.tolist(),
                    }
                    if math.isnan(kl):
                        row |= {"kl_k1": math.nan, "kl_k3": math.nan, "kl_exact": math.nan}
                    if gold:
                        row["gold"] = gold_mean + 0.1 * hardness[prompt] + rng.normal(0, 0.12)
                        for part in ("correct", "polite", "ended_well"):
                            row[f"gold_{part}"] = gold_mean + rng.normal(0, 0.1)
                    scores.append(row)
    return rows, scores


def _estimate(values: pd.Series, n_seeds: int) -> Estimate:
    """A t-like interval over prompt means: good enough to draw, not the project's statistics."""
    values = values.dropna()
    if values.empty:
        return Estimate(math.nan, math.nan, math.nan, 0)
    half = 1.98 * float(values.std()) / math.sqrt(len(values)) * (1.5 if n_seeds > 1 else 1.0)
    mean = float(values.mean())
    return Estimate(mean, mean - half, mean + half, len(values), n_seeds=n_seeds)


def _metrics(table: pd.DataFrame, names: Sequence[str], seeds: Sequence[int], gold: bool) -> dict[str, Any]:
    metrics = [
        c
        for c in table.columns
        if c not in ("model", "seed", "prompt_id", "sample", "category", "token_kl", "token_ends")
    ]

    def of(part: pd.DataFrame, n_seeds: int) -> dict[str, dict[str, Any]]:
        found = {}
        for model in names:
            rows = part[part["model"] == model]
            means = rows.groupby("prompt_id")[metrics].mean()
            cells = {name: _estimate(means[name], n_seeds) for name in metrics}
            spread = float(rows["reward"].std())
            cells["reward_std"] = Estimate(spread, spread * 0.93, spread * 1.08, len(means), n_seeds=n_seeds)
            if model not in ANCHORS:
                cells["perplexity"] = Estimate(5.2, 4.9, 5.6, len(means), n_seeds=n_seeds)
            found[model] = {key: cell.to_dict() for key, cell in cells.items() if cell.n}
        return found

    pairwise = []
    for metric in ["reward" if len(seeds) == 1 else "reward_z", *(["gold"] if gold else []), "kl_exact", "rougeL"]:
        means = table.groupby(["model", "prompt_id"])[metric].mean().unstack(0)
        for a, b in combinations([n for n in names if n not in ANCHORS], 2):
            difference = _estimate(means[a] - means[b], len(seeds))
            p = 0.0004 if difference.excludes(0) else 0.31
            per_seed = {str(seed): difference.to_dict() for seed in seeds}
            pairwise.append(
                {
                    "metric": metric,
                    "a": a,
                    "b": b,
                    "difference": difference.to_dict(),
                    "p_paired": p,
                    "p_wilcoxon": p * 1.2 if metric != "kl_exact" else None,
                    "p_holm": min(1.0, p * 6),
                    "detectable": 1.4 * (difference.high - difference.value),
                    "per_seed": per_seed,
                }
            )
    anchors = [
        {"model": a, "metric": m, "reason": "no model wrote these responses: the data's own"}
        for a in ANCHORS
        for m in ("kl_exact", "kl_k1", "kl_k3", "perplexity")
    ]
    same = {"model": "chosen", "metric": "rougeL", "reason": "it is the text that others are compared with"}
    return {
        "models": of(table, len(seeds)),
        "per_seed": {str(seed): of(table[table["seed"] == seed], 1) for seed in seeds},
        "pairwise": pairwise,
        "missing": [*anchors, same],
        "training": {
            stage: [
                {"seed": s, "samples": 2048, "tokens": 65536, "seconds": 42.0, "seconds_with_reward": 50.0 + 3 * s}
                for s in seeds
            ]
            for stage in ("base", "sft", "ppo", "grpo", "dpo")
        },
        "reward_model": [
            {"seed": seed, "accuracy": Estimate(0.741, 0.702, 0.777, 480).to_dict(), "ceiling": 0.823} for seed in seeds
        ],
        "marks": {},
    }


def _manifest(path: Path, models: Sequence[str], seeds: Sequence[int], n_prompts: int, samples: int) -> dict[str, Any]:
    return {
        "suite": "hh-test",
        "suite_version": 1,
        "run": path.name,
        "data": {"source": "hh-mini", "split": "test", "fingerprint": "0123456789abcdef", "n_prompts": n_prompts},
        "models": {
            name: [{"seed": s, "path": f"checkpoints/mini/seed-{s}/{name}", "hash": "ab12", "kind": "checkpoint"}]
            for name in models
            for s in seeds[:1]
        },
        "reference": "sft",
        "reward_model": [{"seed": s, "path": f"checkpoints/mini/seed-{s}/reward", "hash": "cd34"} for s in seeds],
        "sampling": {
            "samples": samples,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "max_new_tokens": 64,
            "stop": ["\n\nHuman:"],
        },
        "seed": 0,
        "seeds": list(seeds),
        "versions": {"rlhf-bench": "0.1.0", "torch": "2.13.0"},
        "hardware": "cpu, 2 threads",
        "command": "rlhf-bench eval --suite hh-test",
        "time": "2026-01-02T03:04:05+00:00",
    }


def _write_audit(store: ResultStore, rng: np.random.Generator, seeds: Sequence[int], nasty: bool) -> None:
    def row(accuracy: float, n: int) -> dict[str, Any]:
        def share(p: float) -> dict[str, Any]:
            half = 1.96 * math.sqrt(p * (1 - p) / n)
            return Estimate(p, p - half, min(1.0, p + half), n, method="wilson").to_dict()

        longer = share(0.58)
        return {
            "accuracy": share(accuracy),
            "longer": longer,
            "shorter": share(0.42),
            "untrained": share(0.51),
            "ceiling": 0.82,
            "n": n,
        }

    margins = np.linspace(-1.5, 3.0, 480)
    sure = asdict(calibration(margins, [str(i) for i in range(480)]))
    models = {
        f"seed {seed}": {
            "overall": row(0.74, 480),
            "by_category": {"facts": row(0.81, 160), "advice": row(0.66, 160), "refusal": row(0.77, 160)},
            "unseen": row(0.63, 120),
            "unseen_by_category": {"compare": row(0.61, 60)},
            "calibration": sure,
            "calibration_by_category": {"advice": sure},
        }
        for seed in seeds
    }
    pooled = {**models[f"seed {seeds[0]}"], "overall": row(0.742, 480)} if len(seeds) > 1 else None
    audit = store.path / "audit"
    audit.mkdir(parents=True, exist_ok=True)
    atomic_write_text(audit / "audit.json", json_text({"models": models, "pooled": pooled}))
    mistakes = [
        {
            "pair_id": f"m{k}",
            "category": ("advice", "facts")[k == 0],
            "margin": -2.4 + 0.1 * k,
            "prompt": f"\n\nHuman: How do I fix a leaking tap, version {k}?\n\nAssistant:",
            "chosen": NASTY if nasty else " Turn off the water first.",
            "rejected": " Wow, what a great question!!! Just hope for the best, always.",
            "chosen_score": -1.1,
            "rejected_score": 1.3 - 0.1 * k,
            "tags": ["more exclamation", "less length"][: 1 + k % 2],
            "slices": ["more than one turn"] if k % 3 == 0 else [],
            "model": f"seed {seeds[0]}",
        }
        for k in range(12)
    ]
    write_jsonl(audit / "mistakes.jsonl", mistakes)


def estimate(value: float, half: float = 0.1) -> dict[str, Any]:
    return Estimate(value, value - half, value + half, 12, method="bootstrap").to_dict()


def frontier(turn: dict[str, Any]) -> dict[str, Any]:
    """A curve sqrt(2 KL) up to 0.5 nats: ppo has 60 % of it, grpo is beyond it."""
    kls = [0.5 * (i / 9) ** 2 for i in range(10)]
    points = [
        {"kl": kl, "bias": 0.01, "reward_z": estimate(math.sqrt(2 * kl)), "reward": estimate(0.8 * math.sqrt(2 * kl))}
        for kl in kls
    ]
    none = {"efficiency": None, "excess": None, "needed": None, "reason": None}
    models = {
        "ppo": {**none, "kl": 0.3, "gain": 0.46, "efficiency": estimate(0.6), "excess": estimate(-0.3)},
        "grpo": {**none, "kl": 5.5, "gain": 2.0, "needed": 598742, "reason": "KL 5.50 is beyond the 0.50 nats"},
    }
    return {"n_samples": 64, "reach": 0.5, "level": 0.95, "start": {"reward": -0.2, "reward_z": 0.0}, "points": points,
            "by_size": {"8": None, "16": 0.9, "32": 0.95}, "turns": {"gold": turn}, "models": models}  # fmt: skip
