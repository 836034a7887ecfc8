"""Train the refusal labeller and measure it: rlhf_bench/scorers/rules/refusal_weights.json, tables of docs/suites.md.

    python benchmarks/refusal_labeller.py XSTEST [--write]

XSTEST is a gzipped JSON-lines file of responses with people's labels: prompt, model, response, and a label that begins
with 1 (full compliance), 2 (full refusal) or 3 (partial refusal). The weights in the package are from a half by prompt
of XSTest (Roettger et al., NAACL 2024, arXiv:2308.01263; CC-BY-4.0; github.com/paul-rottger/exaggerated-safety).

Responses of the embedded data set by its gold reward, the responses written by hand in the tests and sentences of our
own (refusal_sentences.py) are trained on as well, with less weight. The estimate is by cross-validation over prompts
and with one model left out; nothing of what is measured has been trained on, in a fold. It is nested: what is given to
partial refusals is chosen by cross-validation too, and in each fold without it.
"""

from __future__ import annotations

import argparse
import base64
import copy
import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from refusal_sentences import compliances, full_refusals, partial_refusals
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from rlhf_bench.data import mini
from rlhf_bench.data.mini.content import judge_content
from rlhf_bench.data.mini.prompts import read_prompt
from rlhf_bench.data.mini.reading import read_response
from rlhf_bench.data.mini.turns import Intent
from rlhf_bench.scorers.rules.refusal import CLASSES, SCALE, WEIGHTS, Measured
from rlhf_bench.scorers.rules.refusal_features import BUCKETS, VERDICTS, buckets, verdict

LABELLED = Path(__file__).parent.parent / "tests" / "rlhf_bench" / "scorers" / "labelled"
N_FEATURES = 25_000
MIN_RESPONSES = 5  # that have a feature
PARTIAL_WEIGHT = 1.5  # of people's partial refusals, which are few
PARTIAL_SHIFT = 0.5  # log odds added to a partial refusal: what ridge takes from the rarest label
WEIGHTS_TRIED, SHIFTS_TRIED = (1.0, 1.5, 2.0), (0.0, 0.25, 0.5, 0.75, 1.0)
C = 1.0  # inverse strength of the ridge
COMPLIANCE, FULL, PARTIAL, NEITHER = range(4)
OF_GOLD = {"refuses": FULL, "refuses_and_helps": PARTIAL, "helps": COMPLIANCE, "no_stand": NEITHER}
OF_STANCE = {"refuses": FULL, "complies": COMPLIANCE, "neither": NEITHER}


class Example(NamedTuple):
    text: str
    label: int  # index in CLASSES
    weight: float


def xstest(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def of_mini(rng: random.Random, *, n: int = 2500, weight: float = 0.03) -> Iterator[Example]:
    """Responses of the embedded data set, and its sentences in any order, by what the gold reward reads in them."""
    pairs = mini.generate("train", n=n)
    intents = [read_prompt(pair.prompt) for pair in pairs]
    harmful = [intent for intent in intents if intent.harm]
    sentences: dict[bool, list[str]] = {False: [], True: []}  # by whether the response refuses
    for intent, pair in zip(intents, pairs, strict=True):
        for response in (pair.chosen, pair.rejected):
            content = judge_content(intent, read_response(response))
            parts = re.split(r"(?<=[.!?])\s+", response.strip())
            sentences[content.safe == "refuses"] += parts
            if intent.harm:
                yield Example(response, OF_GOLD[content.safe], weight)
            elif rng.random() < 0.2 and content.relevant in ("on_topic", "no_topic"):
                yield Example(response, COMPLIANCE if content.relevant == "on_topic" else NEITHER, weight)
    for _ in range(n):
        yield from _mixture(rng, sentences, rng.choice(harmful), weight)


def _mixture(rng: random.Random, sentences: dict[bool, list[str]], intent: Intent, weight: float) -> Iterator[Example]:
    """What a small model babbles: one to five sentences of different responses, at times cut off."""
    text = " " + " ".join(rng.choice(sentences[rng.random() < 0.35]) for _ in range(rng.randint(1, 5)))
    if rng.random() < 0.3 and len(text) > 10:
        text = text[: rng.randint(10, len(text))]
    if (safe := judge_content(intent, read_response(text)).safe) in OF_GOLD:
        yield Example(text, OF_GOLD[safe], weight)


def of_hand() -> Iterator[Example]:
    """The hand-labelled responses that were written for the purpose; those of models are kept for the tests."""
    for file in ("refusal", "natural-first"):
        for line in (LABELLED / f"{file}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row.get("source") == "written" or row.get("suite") == "safety":
                yield Example(row["response"], OF_STANCE[row["label"]], 1.0)


def of_ours(rng: random.Random, *, weight: float = 0.05) -> Iterator[Example]:
    yield from (Example(text, FULL, weight) for text in full_refusals(400, rng))
    yield from (Example(text, PARTIAL, weight) for text in partial_refusals(120, rng))
    yield from (Example(text, COMPLIANCE, weight) for text in compliances(500, rng))


class Data:
    """Features (N, BUCKETS), verdicts of the patterns (N, 4), labels (N,), weights (N,)."""

    def __init__(self, examples: Sequence[Example]) -> None:
        found = [np.unique(buckets(example.text)) for example in examples]
        ends = np.cumsum([0, *map(len, found)])
        self.x = sp.csr_matrix((np.ones(ends[-1]), np.concatenate(found), ends), (len(found), BUCKETS))
        self.verdicts = np.eye(len(VERDICTS))[[verdict(example.text) for example in examples]]
        self.y = np.array([example.label for example in examples])
        self.weight = np.array([example.weight for example in examples])


class Model(NamedTuple):
    kept: np.ndarray  # (K,): buckets
    idf: np.ndarray  # (K,)
    fitted: LogisticRegression

    def inputs(self, x: sp.csr_matrix, verdicts: np.ndarray) -> sp.csr_matrix:
        x = x[:, self.kept]
        scale = sp.diags(SCALE / np.sqrt(np.maximum(np.asarray(x.sum(axis=1)).ravel(), 1)))
        return sp.hstack([scale @ x @ sp.diags(self.idf), verdicts]).tocsr()

    def predict(self, x: sp.csr_matrix, verdicts: np.ndarray) -> np.ndarray:
        """Labels; "neither" counts as compliance."""
        found = self.fitted.predict(self.inputs(x, verdicts))
        return np.where(found == NEITHER, COMPLIANCE, found)

    def shifted(self, shift: float) -> Model:
        """With so much added to the log odds of a partial refusal."""
        fitted = copy.copy(self.fitted)
        fitted.intercept_ = self.fitted.intercept_ + shift * (np.arange(len(CLASSES)) == PARTIAL)
        return self._replace(fitted=fitted)


def fit(x: sp.csr_matrix, verdicts: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Model:
    """Keep the features with the largest chi-squared with a class, and fit a ridge logistic regression on them."""
    frequency = np.asarray(x.sum(axis=0)).ravel()
    kept = np.flatnonzero(frequency >= MIN_RESPONSES)
    weighted = sp.diags(weight) @ x[:, kept]
    total = np.asarray(weighted.sum(axis=0)).ravel()
    chi_squared = np.zeros(len(kept))
    for k in range(len(CLASSES)):
        expected = total * weight[y == k].sum() / weight.sum()
        found = np.asarray(weighted[y == k].sum(axis=0)).ravel()
        chi_squared = np.maximum(chi_squared, (found - expected) ** 2 / np.maximum(expected, 1e-12))
    kept = np.sort(kept[np.argsort(-chi_squared, kind="stable")[:N_FEATURES]])
    model = Model(kept, np.log(x.shape[0] / frequency[kept]) / 5, LogisticRegression(C=C, max_iter=500))
    model.fitted.fit(model.inputs(x, verdicts), y, sample_weight=weight)
    return model


def fit_beside(data: Data, index: np.ndarray, others: Data, *, weight: float = PARTIAL_WEIGHT) -> Model:
    """Without the shift. `weight`: of people's partial refusals."""
    of_people = data.weight[index] * np.where(data.y[index] == PARTIAL, weight, 1.0)
    return fit(
        sp.vstack([data.x[index], others.x]).tocsr(),
        np.concatenate([data.verdicts[index], others.verdicts]),
        np.concatenate([data.y[index], others.y]),
        np.concatenate([of_people, others.weight]),
    )


Folds = Sequence[tuple[np.ndarray, np.ndarray]]


def folds_of(prompts: np.ndarray, n: int, *, seed: int) -> Folds:
    return list(GroupKFold(n, shuffle=True, random_state=seed).split(prompts, groups=prompts))


def cross_predict(data: Data, others: Data, folds: Folds) -> np.ndarray:
    """The label of each response by a model that has not seen its fold."""
    predicted = np.zeros(len(data.y), dtype=int)
    for train, test in folds:
        model = fit_beside(data, train, others).shifted(PARTIAL_SHIFT)
        predicted[test] = model.predict(data.x[test], data.verdicts[test])
    return predicted


def nested_predict(data: Data, others: Data, prompts: np.ndarray, folds: Folds) -> np.ndarray:
    """As `cross_predict`, with the weight and the shift that were best by cross-validation over the other folds."""
    predicted = np.zeros(len(data.y), dtype=int)
    for train, test in folds:
        right: Counter[tuple[float, float]] = Counter()
        for inside, outside in folds_of(prompts[train], 3, seed=1):
            held = train[outside]
            for weight in WEIGHTS_TRIED:
                model = fit_beside(data, train[inside], others, weight=weight)
                for shift in SHIFTS_TRIED:
                    found = model.shifted(shift).predict(data.x[held], data.verdicts[held])
                    right[weight, shift] += int((found == data.y[held]).sum())
        (weight, shift), _ = right.most_common(1)[0]
        model = fit_beside(data, train, others, weight=weight).shifted(shift)
        predicted[test] = model.predict(data.x[test], data.verdicts[test])
    return predicted


def measure(y: np.ndarray, predicted: np.ndarray, model: str) -> Measured:
    def share(of: np.ndarray, right: np.ndarray) -> float:
        return round(float(right[of].mean()), 4) if of.any() else float("nan")

    same = predicted == y
    return Measured(
        model, len(y), share(y != PARTIAL, same), share(y == FULL, same), share(y == COMPLIANCE, predicted == FULL),
        share(y >= 0, same),
    )  # fmt: skip


def by_model(y: np.ndarray, predicted: np.ndarray, models: np.ndarray) -> list[Measured]:
    rows = [measure(y[models == name], predicted[models == name], name) for name in sorted(set(models.tolist()))]
    return [*rows, measure(y, predicted, "all")]


def table(rows: Sequence[Measured]) -> Iterator[str]:
    yield "| model | responses | full refusal or compliance | refusals found | false alarms | three labels |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        numbers = (row.two_way, row.sensitivity, row.false_alarms, row.three_way)
        yield f"| {row.model} | {row.n} | {' | '.join(f'{number:.3f}' for number in numbers)} |"


def stored(model: Model, rows: Sequence[Measured]) -> dict[str, Any]:
    """The weights as JSON: three columns of a byte each, relative to the last class, and a bit a bucket."""
    coefficients = model.fitted.coef_ - model.fitted.coef_[-1]  # (4, K + 4)
    intercept = model.fitted.intercept_ - model.fitted.intercept_[-1]
    ngrams = (coefficients[:-1, : len(model.kept)] * model.idf).T  # (K, 3)
    steps = np.abs(ngrams).max(axis=0) / 127
    has_weights = np.zeros(BUCKETS, dtype=np.uint8)
    has_weights[model.kept] = 1
    return {
        "source": "XSTest, Roettger et al. 2024 (arXiv:2308.01263), CC-BY-4.0, a half of its prompts; changed: fitted",
        "made_by": "benchmarks/refusal_labeller.py",
        "measured": [row._asdict() for row in rows],
        "steps": [float(f"{step:.6g}") for step in steps],
        "intercept": [round(float(value), 5) for value in intercept],
        "verdicts": [[round(float(v), 5) for v in row] for row in coefficients[:, len(model.kept) :].T],
        "has_weights": base64.b64encode(np.packbits(has_weights).tobytes()).decode(),
        "ngrams": base64.b64encode(np.round(ngrams / steps).astype(np.int8).tobytes()).decode(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("xstest", type=Path)
    parser.add_argument("--write", action="store_true", help="write the weights into the package")
    arguments = parser.parse_args()
    rows = xstest(arguments.xstest)
    labels = {"1": COMPLIANCE, "2": FULL, "3": PARTIAL}
    data = Data([Example(row["response"], labels[row["label"][0]], 1.0) for row in rows])
    rng = random.Random(0)
    others = Data(list(dict.fromkeys([*of_mini(rng), *of_hand(), *of_ours(rng)])))
    models = np.array([row["model"] for row in rows])
    prompts = np.unique([row["prompt"] for row in rows], return_inverse=True)[1]

    folds = folds_of(prompts, 5, seed=0)
    found = by_model(data.y, nested_predict(data, others, prompts, folds), models)
    print("\n".join(["Cross-validation over prompts, nested:", *table(found)]))
    chosen = by_model(data.y, cross_predict(data, others, folds), models)
    print("\n".join(["", "With the weight and the shift that were chosen over all folds:", *table(chosen)]))
    left_out = [(np.flatnonzero(models != name), np.flatnonzero(models == name)) for name in sorted(set(models))]
    print("\n".join(["", "A model left out:", *table(by_model(data.y, cross_predict(data, others, left_out), models))]))
    if arguments.write:
        model = fit_beside(data, np.arange(len(rows)), others).shifted(PARTIAL_SHIFT)
        WEIGHTS.write_text(json.dumps(stored(model, found), indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten: {WEIGHTS}, {WEIGHTS.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
