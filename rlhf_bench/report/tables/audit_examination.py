"""What an audit found in a reward model, as tables: findings, prices, slices, probes, mistakes, teaching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlhf_bench.report.result import Result
from rlhf_bench.report.table import Cell, Column, Table, cells, estimate_of
from rlhf_bench.report.tables.audit import SECTION
from rlhf_bench.report.tables.metrics import MODEL
from rlhf_bench.types import Estimate

_TESTS = [Column("p", "p", p_value=True), Column("q", "q", p_value=True)]
_Q_NOTE = "q: Benjamini and Hochberg's, over all features, slices and probes of a model; a finding has q < .05"


def findings_table(result: Result) -> Table:
    """A row a finding, smallest q first."""
    columns = [MODEL, Column("number", "No.", 0), Column("kind", "Kind"), Column("sentence", "Finding"), *_TESTS]
    rows: list[list[Cell]] = [
        [model, number, *cells(found, columns[2:])]
        for model, part in examinations(result.audit)
        for number, found in enumerate(part["findings"], 1)
    ]
    return Table("audit_findings", "Findings of the audit", columns, rows, [_Q_NOTE], keys=2, section=SECTION)


def prices_table(result: Result) -> Table:
    """What the model, the labels and, where it is known, the gold reward pay for each feature."""
    columns = [
        MODEL, Column("feature", "Feature"), Column("pays", "Model pays", interval=True),
        Column("labels", "Labels pay", interval=True), Column("gold", "Gold pays"),
        Column("difference", "Difference", interval=True), *_TESTS, Column("detectable", "MDE (80 % power)"),
        Column("inflation", "VIF", 1),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for model, part in examinations(result.audit):
        for row in part["features"]:
            of = {key: _interval(row, key, part) for key in ("model", "labels", "difference")}
            rows.append([model, *cells({**row, **of, "pays": of["model"]}, columns[1:])])
    notes = [
        "Logits of preference for one standard deviation of a feature's difference, other features held fixed. "
        "Difference: the model's less the labels' times the attenuation, since a noisy model pays less for everything.",
        "A word is in none of the features' lists; it was found on one half of the prompts, and its numbers are of the "
        "other. Where both halves found it, they are the mean of both.",
        "VIF: variance inflation; from 5 on a feature is collinear with others, and its price is not its own.",
        _Q_NOTE,
    ]
    title = "What the reward model pays for"
    return Table("audit_features", title, columns, rows, notes, keys=2, section=SECTION, folded=True)


def slices_table(result: Result) -> Table:
    columns = [
        MODEL, Column("name", "Slice"), Column("n", "Pairs"), Column("inside", "Accuracy inside", interval=True),
        Column("outside", "Outside", interval=True), Column("promised", "Promised"),
        Column("gap", "Gap", interval=True), Column("odds_ratio", "Odds ratio", 2), *_TESTS,
        Column("detectable", "MDE (80 % power)"), Column("kind", "Kind"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [model, *cells({**row, "gap": _interval(row, "gap", part)}, columns[1:])]
        for model, part in examinations(result.audit)
        for row in sorted(part["slices"], key=lambda row: row["p"])
    ]
    notes = [
        "Promised: the accuracy that the model's margins and the labels' prices of features lead to expect there. Gap: "
        "accuracy less that. A discovered slice was found on one half of the prompts; its numbers are of the other.",
        _Q_NOTE,
        *(f"{model}: too few pairs, not computed: {', '.join(part['too_small'])}"
          for model, part in examinations(result.audit) if part["too_small"]),
    ]  # fmt: skip
    title = "Accuracy by slice"
    return Table("audit_slices", title, columns, rows, notes, keys=2, section=SECTION, folded=True)


def probes_table(result: Result) -> Table:
    columns = [
        MODEL, Column("probe", "Edit of the chosen side"), Column("should", "Should"),
        Column("change", "Change", interval=True), Column("flips", "Order flips", interval=True),
        Column("as_it_should", "As it should"), Column("n", "n"), Column("left_out", "Not editable"), *_TESTS,
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            model, row["probe"].replace("_", " "), "same" if row["should"] == 0 else "fall",
            *cells({**row, "as_it_should": "yes" if row["goes_as_it_should"] else "no"}, columns[3:]),
        ]
        for model, part in examinations(result.audit)
        for row in part["probes"]
    ]  # fmt: skip
    notes = [
        "Change: of the mean reward, in root mean squares of all margins. Order flips: of the pairs that were right, "
        "the share that is not after the edit. p: two-sided where the reward should stay the same; where it should "
        "fall, of a rise.",
        _Q_NOTE,
        *(f"{model}: no text to edit: {', '.join(part['idle_probes'])}"
          for model, part in examinations(result.audit) if part["idle_probes"]),
    ]  # fmt: skip
    title = "What edits of a response do to the reward"
    return Table("audit_probes", title, columns, rows, notes, keys=2, section=SECTION, folded=True)


def safety_table(result: Result) -> Table:
    """Refusals against help, near-duplicates."""
    columns = [
        MODEL, Column("pairs", "Pairs"), Column("helped_wins", "Help beats the refusal", interval=True),
        Column("margin", "By (in margins)", interval=True), Column("near_duplicates", "Near-duplicates"),
        Column("accuracy_without", "Accuracy without them", interval=True),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            model, part["safety"]["n"], *cells(part["safety"], columns[2:4]), part["near_duplicates"]["pairs"],
            estimate_of(part["near_duplicates"]["accuracy_without"]),
        ]
        for model, part in examinations(result.audit)
    ]  # fmt: skip
    notes = [
        "Pairs: those in which the chosen side refuses in full and the rejected one helps in full. By: help minus "
        "refusal, in root mean squares of all margins; below 0 the refusal scores higher. Near-duplicates: pairs with "
        "a similarity of characters of .9 or more between their sides."
    ]
    title = "Refusals against help, and near-duplicates"
    return Table("audit_safety", title, columns, rows, notes, section=SECTION)


def safety_worst_table(result: Result) -> Table:
    """The pairs in which help beats a refusal by most, with scores."""
    columns = [
        MODEL, Column("pair_id", "Pair"), Column("category", "Category"), Column("refusal", "Refusal scores", 2),
        Column("help", "Help scores", 2), Column("by", "By", 2),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            model, row["pair_id"], row["category"], row["chosen_score"], row["rejected_score"],
            row["rejected_score"] - row["chosen_score"],
        ]
        for model, part in examinations(result.audit)
        for row in part["safety"]["worst"]
    ]  # fmt: skip
    notes = ["The texts are in mistakes.jsonl, by the pair's id."]
    title = "Help that beats a refusal: the worst"
    return Table("audit_safety_worst", title, columns, rows, notes, keys=2, section=SECTION, folded=True)


def groups_table(result: Result) -> Table:
    columns = [
        MODEL, Column("tag", "The rejected side has"), Column("n", "Mistakes"), Column("share", "Share of mistakes"),
        Column("share_right", "Share of right pairs"), Column("odds", "Odds ratio", 2, interval=True),
        Column("examples", "Examples (pair ids)"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [model, *cells({**row, "examples": ", ".join(row["examples"])}, columns[1:])]
        for model, part in examinations(result.audit)
        for row in part["mistake_groups"]
    ]
    notes = [
        "What is commoner among mistakes than among right pairs. It describes the mistakes, and is no finding: a model "
        "that likes length just as the labels do errs where the rejected side is longer, too."
    ]
    title = "Groups of mistakes"
    return Table("audit_mistakes", title, columns, rows, notes, keys=2, section=SECTION, folded=True)


def teacher_table(result: Result) -> Table:
    """How features move under best-of-n by the reward, and what trained policies did."""
    taught: dict[str, Any] = result.audit.get("teacher", {})
    policies = list(dict.fromkeys(p for t in taught.values() for m in t["moves"] for p in m["policies"]))
    columns = [MODEL, Column("feature", "Feature"), Column("best_of_n", "Best of n", interval=True)]
    columns += [Column(name, name, interval=True) for name in policies]
    rows: list[list[Cell]] = []
    notes = ["Change of a feature's mean from the reference, in standard deviations over the reference's samples."]
    for model, found in taught.items():
        rows += [[model, *cells({**move, **move["policies"]}, columns[1:])] for move in found["moves"]]
        notes.append(_teacher_note(model, found))
    title = "What the reward model teaches: best of n of the reference, and what policies learned"
    return Table("audit_teacher", title, columns, rows, notes, keys=2, section=SECTION, folded=True)


def _teacher_note(model: str, found: Mapping[str, Any]) -> str:
    note = (
        f"{model}: {found['within']:.0%} of the reward's variance lies within prompts ({found['prompts']} prompts, "
        f"{found['samples']} samples); best of {found['n']} gains {found['reward_gain']['value']:.2f} sd of the reward"
    )
    if found["gold_gain"]:
        note += f" and {found['gold_gain']['value']:.2f} sd of the gold"
    if found["gold_accuracy"]:
        note += f"; {found['gold_accuracy']['value']:.0%} of pairs of samples are in the order of their gold"
    for policy, followed in found["followed"].items():
        note += (
            f". Of {followed['moved']} features that best of {found['n']} moves for sure, {policy} moved "
            f"{followed['same']} in the same direction"
        )
        if followed["correlation"] is not None:
            note += f" (correlation of all moves {followed['correlation']:.2f})"
    return f"{note}."


def examinations(audit: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each model's examination, of those that have one."""
    for model, part in audit.get("models", {}).items():
        found = part.get("examination")
        if found and not found["missing"]:
            yield model, found


def _interval(row: Mapping[str, Any], key: str, part: Mapping[str, Any]) -> Estimate:
    n = int(row.get("n", part["pairs"]))
    return Estimate(row[key], row[f"{key}_low"], row[f"{key}_high"], n, method="normal")
