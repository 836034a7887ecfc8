"""The findings of an audit: every slice, coefficient and probe in one family, corrected together, largest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlhf_bench.audit.discovered_words import discovered_words
from rlhf_bench.audit.probes import Effect
from rlhf_bench.audit.promise import promised
from rlhf_bench.audit.regression import Coefficient, Mask, Payments, payments
from rlhf_bench.audit.regression_fit import groups_of
from rlhf_bench.audit.slices import Slice, category_slices, discovered_slices, measure_slice, named_slices
from rlhf_bench.errors import BadValue
from rlhf_bench.scorers.features import FEATURES, feature_differences
from rlhf_bench.stats import FloatArray, benjamini_hochberg

FDR = 0.05  # the false discovery rate at which something is a finding


@dataclass(frozen=True)
class Finding:
    kind: str  # "feature", "discovered word", "slice", "discovered slice", "probe"
    name: str
    p: float
    q: float
    sentence: str

    @property
    def is_finding(self) -> bool:
        return self.q < FDR


@dataclass(frozen=True)
class Examination:
    """What the model pays for, where it is right less often than promised, and all of it in one list."""

    payments: Payments
    words: list[Coefficient]
    slices: list[Slice]
    discovered: list[Slice]
    discovered_masks: dict[str, Mask]  # the pairs of each discovered slice (N,), by its name
    probes: Sequence[Effect]
    too_small: list[str]  # slices with too few pairs, which have no number
    family: list[Finding]  # everything that was tested, smallest q first

    @property
    def findings(self) -> list[Finding]:
        return [entry for entry in self.family if entry.is_finding]


def examine(
    prompts: Sequence[str],
    chosen: Sequence[str],
    rejected: Sequence[str],
    margins: FloatArray,
    *,
    categories: Sequence[str | None] = (),
    differences: FloatArray | None = None,
    probes: Sequence[Effect] = (),
    seed: int = 0,
) -> Examination:
    """Examine a reward model by its margins (chosen minus rejected) on pairs of texts.

    differences: `feature_differences` of the pairs, where they are known already. categories: a slice each. probes:
    what `probe_all` found, part of the family.

    Raises BadValue for pairs all of which have equal texts, a length that differs or a margin that is not finite.
    """
    _check(prompts, chosen, rejected, margins)
    if differences is None:
        differences = feature_differences(chosen, rejected)
    words = discovered_words(prompts, chosen, rejected, differences, margins, seed=seed)
    names = [*FEATURES, *words.confirmed]
    columns = np.column_stack([differences, words.differences])
    paid = payments(columns, margins, names, prompts)
    scaled = columns[:, [names.index(row.feature) for row in paid.coefficients]]
    scaled = scaled / np.array([row.sd for row in paid.coefficients])
    promise = promised(margins, scaled)
    # of a confirmed word the price by the other half is reported, not this one by all pairs
    features = [row for row in paid.coefficients if row.feature in FEATURES]
    # all features: one that differs in too few pairs for a price has slices all the same
    masks = named_slices(prompts, chosen, rejected, margins, differences, list(FEATURES))
    masks |= category_slices(categories)
    groups = groups_of(prompts)
    measured = {name: measure_slice(name, mask, margins, promise, groups) for name, mask in masks.items()}
    slices = [found for found in measured.values() if found is not None]
    preferred = np.where(margins >= 0, 1.0, -1.0)[:, None] * scaled
    sides = {f"{row.feature} (preferred - other)": preferred[:, i] for i, row in enumerate(features)}
    discovered, of_discovered = discovered_slices(sides, margins, promise, prompts, seed=seed) if sides else ([], {})
    return Examination(
        replace(paid, coefficients=features), words.coefficients, slices, discovered, of_discovered, probes,
        [name for name, found in measured.items() if found is None],
        _family(features, words.coefficients, slices, discovered, probes),
    )  # fmt: skip


def _family(
    coefficients: Sequence[Coefficient],
    words: Sequence[Coefficient],
    slices: Sequence[Slice],
    discovered: Sequence[Slice],
    probes: Sequence[Effect],
) -> list[Finding]:
    entries: list[tuple[str, str, Coefficient | Slice | Effect]] = [
        *(("feature", row.feature, row) for row in coefficients),
        *(("discovered word", row.feature, row) for row in words),
        *(("slice", row.name, row) for row in slices),
        *(("discovered slice", row.name, row) for row in discovered),
        *(("probe", row.probe, row) for row in probes),
    ]
    qs = benjamini_hochberg([row.p for _, _, row in entries])
    family = [
        Finding(kind, name, row.p, float(q), sentence(row)) for (kind, name, row), q in zip(entries, qs, strict=True)
    ]
    return sorted(family, key=lambda entry: (entry.q, entry.p))


def sentence(row: Coefficient | Slice | Effect) -> str:
    """What a finding says, in one sentence."""
    if isinstance(row, Effect):
        flips = f"; {row.flips.value:.0%} of pairs turn" if row.flips else ""
        return (
            f"The edit {row.probe.replace('_', ' ')} moves the reward by {row.change.signed()} of a margin's size"
            f"{flips}; it should {'change nothing' if row.should == 0 else 'lower it'}."
        )
    if isinstance(row, Slice):
        return (
            f"Where it holds that {row.name}, {row.inside.value:.0%} of {row.n} pairs are right; margins promise "
            f"{row.promised:.0%} (gap {row.gap:+.2f} [{row.gap_low:.2f}, {row.gap_high:.2f}])."
        )
    collinear = "; collinear with other features" if row.is_collinear else ""
    interval = f"[{row.difference_low:.2f}, {row.difference_high:.2f}]"
    return (
        f"Pays {row.model:.2f} logits for a standard deviation of {row.feature}; the labels pay {row.labels:.2f}, "
        f"which at this model's noise is {row.model - row.difference:.2f} (difference {row.difference:+.2f} {interval}"
        f"{collinear})."
    )


def _check(prompts: Sequence[str], chosen: Sequence[str], rejected: Sequence[str], margins: FloatArray) -> None:
    if not len(prompts) == len(chosen) == len(rejected) == len(margins):
        raise BadValue(
            f"{len(prompts)} prompts, {len(chosen)} chosen, {len(rejected)} rejected and {len(margins)} margins given; "
            "expected as many of each"
        )
    if not np.isfinite(margins).all():
        raise BadValue(f"the margin of pair {int(np.flatnonzero(~np.isfinite(margins))[0])} is not finite")
    if all(a == b for a, b in zip(chosen, rejected, strict=True)):
        raise BadValue("no pair has two different texts; expected chosen and rejected to differ")
