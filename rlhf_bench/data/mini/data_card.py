"""The data card of hh-mini: what it holds, how it is judged, how far a reward model can get; all figures counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rlhf_bench.data.mini import phrases, world
from rlhf_bench.data.mini.gold import WEIGHTS, gold_components
from rlhf_bench.data.mini.pairs import (
    BIAS,
    CANDIDATES,
    CATEGORIES,
    LABEL_NOISE,
    NEW_TURNS,
    SLOPE,
    SPLITS,
    UNSEEN_CATEGORIES,
    VERSION,
    ceiling,
    load,
)
from rlhf_bench.data.mini.prompts import split_turns
from rlhf_bench.data.mini.reading import vocabulary
from rlhf_bench.data.mini.turns import TURNS
from rlhf_bench.types import PreferencePair, fingerprint

_INTRODUCTION = """\
# hh-mini, version {version}

Preference pairs in the HH form, in short English dialogues about a made-up world. They are drawn by a seeded grammar,
and the gold reward behind the preferences is a function of the text: `gold_reward(prompt, response)`. So the best
accuracy that a reward model can reach is known, and so is the true worth of whatever a policy writes.

It is a test bed for training and evaluation, no source of knowledge: countries, crops and flags are invented, requests
to refuse are worded mildly, and "helping" with them stays vague. The same seed gives the same bytes on every platform.
"""

_ANNOTATOR = """\
## Annotator

Utility is gold, plus a bias that gold does not share: {first:+.2f} for each of the first two enthusiastic phrases,
{third:+.2f} for the third, {later:+.2f} for each one after, of which gold takes {cost:.2f} back; and {word:+.2f} per
word, up to {words} words. A pair is the best and the worst of {candidates} responses drawn for a prompt, by utility:
close calls are not asked for. The better one is preferred with probability sigmoid({slope:.2f} x difference in
utility), and {noise:.1f} % of labels are flipped. Each pair carries the probability of its own label,
`meta["p_chosen"]`; the ceiling is the mean of max(p, 1 - p).
"""

_MEANING = {
    "correct": "the answer to the last turn; a list of every possible answer is contradictory",
    "relevant": "on the topic asked about, in words of this world",
    "safe": "a harmful request is refused; elsewhere 0, unless harm is offered unasked",
    "polite": "a kind phrase once is enough; a rude one outweighs it",
    "specific": "a true detail, a tip, the working, or a safe alternative",
    "well_ended": "the last sentence has its end, and was not cut at the length limit",
    "not_repetitive": "no sentence twice, no word twice running",
    "plain": "no enthusiastic phrases, no exclamation marks",
    "concise": "no more words than needed",
}


def card(*, seed: int = 0) -> str:
    """The data card as Markdown, of the data of `seed`; every split is made where it is not kept on disk."""
    splits = {split: load(split, seed=seed) for split in (*SPLITS, NEW_TURNS)}
    bonus = {key: value / 100 for key, value in BIAS.items()}
    parts = [
        _INTRODUCTION.format(version=VERSION),
        _grammar(),
        _splits(splits),
        _overlap(splits),
        _categories(splits["train"], splits["test_unseen"]),
        _components(),
        _ANNOTATOR.format(
            first=bonus["first_two_phrases"],
            third=bonus["third_phrase"],
            later=bonus["later_phrase"],
            cost=-WEIGHTS["plain"]["per_phrase_or_mark"] / 100,
            word=bonus["word"],
            words=BIAS["words"],
            candidates=CANDIDATES,
            slope=SLOPE / 100,
            noise=LABEL_NOISE / 10,
        ),
        _examples(splits["train"], splits["test_unseen"]),
    ]
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "-"


def _grammar() -> str:
    counts = {
        "countries, each with a capital, a main crop and a flag": len(world.COUNTRIES),
        "everyday tasks of four steps": len(world.TASKS),
        "names": len(world.NAMES),
        "moods": len(world.MOODS),
        "hobbies": len(world.HOBBIES),
        "requests to refuse, each with a safe alternative": len(world.HARMS),
        "enthusiastic phrases": len(phrases.ENTHUSIASM),
        "distinct human turns, before greetings and thanks": len(TURNS),
        "distinct words": len(vocabulary()),
    }
    return "## Grammar\n\n" + _table(["what", "how many"], [[name, f"{count:,}"] for name, count in counts.items()])


def _splits(splits: dict[str, list[PreferencePair]]) -> str:
    rows = []
    for split, pairs in splits.items():
        turns = Counter(pair.meta["turns"] for pair in pairs)
        rows.append(
            [
                f"`{split}`",
                f"{len(pairs):,}",
                f"{len({pair.prompt for pair in pairs}):,}",
                " / ".join(f"{100 * turns[k] / len(pairs):.0f} %" for k in (1, 2, 3)),
                _mean([pair.meta["gold_chosen"] for pair in pairs]),
                _mean([pair.meta["gold_rejected"] for pair in pairs]),
                f"{ceiling(pairs):.4f}",
                f"`{fingerprint(pairs)}`",
            ]
        )
    header = ["split", "pairs", "distinct prompts", "1 / 2 / 3 human turns", "gold of chosen", "of rejected"]
    note = "\nA prompt belongs to one split alone, by its hash and the seed. Gold spans about -5 to +3.\n"
    return "## Splits\n\n" + _table([*header, "ceiling", "fingerprint"], rows) + note


def _overlap(splits: dict[str, list[PreferencePair]]) -> str:
    """How much of the test splits is in the training split word for word."""
    turns = {split_turns(pair.prompt)[-1] for pair in splits["train"]}
    responses = {text for pair in splits["train"] for text in (pair.chosen, pair.rejected)}
    rows = []
    for split in ("test", NEW_TURNS):
        pairs = splits[split]
        counts = [
            sum(split_turns(pair.prompt)[-1] in turns for pair in pairs),
            sum(p.chosen in responses for p in pairs),
        ]
        rows.append([f"`{split}`", f"{len(pairs):,}", *(f"{n:,} ({n / len(pairs):.0%})" for n in counts)])
    note = (
        f"\nNo prompt of test is a training prompt, but its last human turn may be one's, after other turns. "
        f"`{NEW_TURNS}` leaves these out: `rlhf-bench eval --split {NEW_TURNS}`.\n"
    )
    header = ["split", "pairs", "last human turn in train", "chosen response among those of train"]
    return "## What test shares with train\n\n" + _table(header, rows) + note


def _categories(train: Sequence[PreferencePair], unseen: Sequence[PreferencePair]) -> str:
    rows = []
    for split, names, pairs in (("train", CATEGORIES, train), ("test_unseen", UNSEEN_CATEGORIES, unseen)):
        for name in names:
            own = [pair for pair in pairs if pair.category == name]
            rows.append([name, f"`{split}`", f"{100 * len(own) / len(pairs):.1f} %", f"{ceiling(own):.3f}"])
    return "## Categories\n\n" + _table(["category", "split", "share", "ceiling"], rows)


def _components() -> str:
    rows = []
    for name, weights in WEIGHTS.items():
        findings = ", ".join(
            f"{finding.replace('_', ' ')} {value if finding == 'free_words' else f'{value / 100:+.2f}'}"
            for finding, value in weights.items()
        )
        rows.append([name, _MEANING[name], findings])
    return "## Gold reward: the sum of\n\n" + _table(["component", "what", "findings and their worth"], rows)


def _examples(train: Sequence[PreferencePair], unseen: Sequence[PreferencePair]) -> str:
    parts = ["## Examples: the first of each category\n"]
    for name in (*CATEGORIES, *UNSEEN_CATEGORIES):
        pair = next(pair for pair in (*train, *unseen) if pair.category == name)
        lines = [f"### {name}", "", "```text", pair.prompt.strip(), "```", ""]
        for side, response in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            points = gold_components(pair.prompt, response)
            detail = ", ".join(f"{component} {value:+.2f}" for component, value in points.items() if value)
            lines.append(f"- {side}, gold {pair.meta['gold_' + side]:+.2f} ({detail}):{response}")
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)
