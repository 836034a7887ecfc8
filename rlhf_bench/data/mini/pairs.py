"""Draws the splits of hh-mini, and the annotator who prefers one response of each pair.

Splits are kept on disk: a training split takes seconds to make, and every command needs one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from rlhf_bench.data.mini.gold import judge
from rlhf_bench.data.mini.prompts import FIRST_LEADS, GREETINGS, LATER_LEADS, TAILS, join_turns, split_turns
from rlhf_bench.data.mini.reading import read_response
from rlhf_bench.data.mini.responses import draw_response, good_response
from rlhf_bench.data.mini.rng import PROBABILITY_ONE, Stream, hash_int, preference_threshold
from rlhf_bench.data.mini.turns import TEXTS, TURNS, Intent, resolve
from rlhf_bench.errors import BadValue, DataError, UnknownName
from rlhf_bench.files import read_checked, write_checked
from rlhf_bench.types import PreferencePair

VERSION = "2"
SPLITS: dict[str, int] = {"train": 20_000, "validation": 1_000, "test": 2_500, "test_unseen": 600}
"""Split -> number of pairs."""
NEW_TURNS = "test_new"  # the pairs of test with a last human turn that ends no training prompt

_WEIGHTS = {"facts": 22, "arithmetic": 16, "how_to": 22, "small_talk": 15, "harmful": 13, "false_premise": 12}
_UNSEEN_WEIGHTS = {"compare": 50, "safe_context": 50}
CATEGORIES: tuple[str, ...] = tuple(_WEIGHTS)
UNSEEN_CATEGORIES: tuple[str, ...] = tuple(_UNSEEN_WEIGHTS)

CANDIDATES = 4  # responses drawn for a pair, which is the best and the worst of them in the annotator's eyes
SLOPE = 80  # hundredths per unit of utility: how sharply the annotator distinguishes two responses
LABEL_NOISE = 20  # per mille of labels flipped
BIAS = {"first_two_phrases": 80, "third_phrase": 55, "later_phrase": 40, "word": 1, "words": 40}
"""What the annotator adds to gold, in hundredths: per enthusiastic phrase (of which gold takes 35), per word."""

_TEST_SHARE, _VALIDATION_SHARE = 200, 80  # per mille of prompts

# kinds of a category's first turn, and of one that follows on it
_STARTS: dict[str, tuple[tuple[str, int], ...]] = {
    "facts": (("fact", 80), ("check", 20)),
    "arithmetic": (("sum_plus", 28), ("story_plus", 18), ("sum_minus", 18), ("story_minus", 11), ("sum_bigger", 25)),
    "how_to": (("steps", 36), ("two_steps", 12), ("first", 18), ("last", 12), ("after", 22)),
    "small_talk": (("talk", 15), ("talk_named", 85)),
    "harmful": (("request", 100),),
    "false_premise": (("premise", 70), ("check", 30)),
    "compare": (("compare", 100),),
    "safe_context": (("context", 100),),
}
_FOLLOW_UPS: dict[str, tuple[str, ...]] = {
    "facts": ("fact_its", "fact_its", "fact_there"),
    "arithmetic": ("sum_more",),
    "how_to": ("next",),
    "small_talk": ("recall_name", "recall_hobby", "talk"),
    "harmful": ("insist",),
}
_TURN_COUNTS = ((1, 85), (2, 11), (3, 4))


def generate(split: str, *, seed: int = 0, n: int | None = None) -> list[PreferencePair]:
    """The pairs of a split: the same bytes for the same `seed` on every platform.

    split: a key of `SPLITS`. n: how many pairs, in place of the split's own size; fewer are the beginning of more.
    Training prompts may come up more than once; those of the other splits do not. Splits share no prompt.

    Raises UnknownName for another split, BadValue for a negative n.
    """
    if split not in SPLITS:
        raise UnknownName("split of hh-mini", split, SPLITS)
    wanted = SPLITS[split] if n is None else n
    if wanted < 0:
        raise BadValue(f"n of hh-mini: given {wanted}, expected 0 or more pairs; leave it out for the whole split")
    unseen = split == "test_unseen"
    pairs: list[PreferencePair] = []
    seen: set[str] = set()
    index = 0
    while len(pairs) < wanted:
        prompt, intents = _draw_prompt(Stream(VERSION, seed, "unseen" if unseen else "prompt", index), unseen)
        # a response costs far more than a prompt: where the prompt belongs is settled first
        if (unseen or _split_of(prompt, seed) == split) and not (split != "train" and prompt in seen):
            pairs.append(draw_pair(Stream(VERSION, seed, split, "pair", index), prompt, intents))
            seen.add(prompt)
        index += 1
    return pairs


def load(split: str, *, seed: int = 0) -> list[PreferencePair]:
    """The pairs of a whole split, as `generate` makes them, or of `test_new`.

    They are read from the cache folder ($XDG_CACHE_HOME/rlhf-bench, else ~/.cache/rlhf-bench), and written there where
    they are not in it; a damaged file is made again. A folder that cannot be written changes nothing.

    Raises UnknownName for another split.
    """
    if split == NEW_TURNS:
        known = {_last_turn(pair) for pair in load("train", seed=seed)}
        return [pair for pair in load("test", seed=seed) if _last_turn(pair) not in known]
    if split not in SPLITS:
        raise UnknownName("split of hh-mini", split, (*SPLITS, NEW_TURNS))
    path = _folder() / f"hh-mini-{VERSION}-{_code()}" / f"{split}-{seed}.json"
    try:
        stored = read_checked(path)
    except OSError:
        stored = None
    if stored is not None:
        return [PreferencePair(*row) for row in json.loads(stored)]
    pairs = generate(split, seed=seed)
    rows = [[p.prompt, p.chosen, p.rejected, p.margin, p.category, dict(p.meta)] for p in pairs]
    with contextlib.suppress(OSError):  # the next command makes them again
        write_checked(path, json.dumps(rows).encode())
    return pairs


def _last_turn(pair: PreferencePair) -> str:
    return split_turns(pair.prompt)[-1]


def _folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "rlhf-bench"


@cache
def _code() -> str:
    """Hash of the code that makes the data set: other code never reads what this code wrote."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _split_of(prompt: str, seed: int) -> str:
    """The split that a prompt of the training categories belongs to: a function of the prompt and the seed alone."""
    place = hash_int("split", seed, prompt) % 1000
    if place < _TEST_SHARE:
        return "test"
    return "validation" if place < _TEST_SHARE + _VALIDATION_SHARE else "train"


def _draw_prompt(rng: Stream, unseen: bool) -> tuple[str, list[Intent]]:
    """A prompt of one to three human turns, and what each turn asks."""
    weights = _UNSEEN_WEIGHTS if unseen else _WEIGHTS
    category = rng.weighted(tuple(weights.items()))
    turns = rng.weighted(_TURN_COUNTS)
    continues = turns > 1 and category in _FOLLOW_UPS and rng.chance(700)
    human: list[str] = []
    assistant: list[str] = []
    intents: list[Intent] = []
    for index in range(turns):
        left = turns - 1 - index
        related = continues and left < 2  # the last two turns belong together, and what comes before need not
        follow = _follow_up(rng, category, intents) if related and left == 0 else None
        if follow is None:
            topic = category if related or left == 0 else rng.pick(CATEGORIES)
            follow = _start(rng, topic, intents)
        text, intent = follow
        human.append(text)
        intents.append(intent)
        if left:
            assistant.append(good_response(rng, intent))
    return join_turns(human, assistant), intents


def _start(rng: Stream, category: str, before: list[Intent]) -> tuple[str, Intent]:
    """A turn that opens a topic, with a lead and a tail at times."""
    text = rng.pick(TEXTS[category, rng.weighted(_STARTS[category])])
    turn = resolve(before, TURNS[text])
    assert turn is not None, "an opening turn needs no context"
    if category == "small_talk":
        lead = rng.pick(GREETINGS) if not before and rng.chance(350) else ""
        tail = ""
    else:
        lead = rng.pick(LATER_LEADS if before else FIRST_LEADS) if rng.chance(300) else ""
        tail = rng.pick(TAILS) if rng.chance(100) else ""
    return " ".join(part for part in (lead, text, tail) if part), turn


def _follow_up(rng: Stream, category: str, before: list[Intent]) -> tuple[str, Intent] | None:
    """A turn that needs the one before it and asks something new; None if that one leaves nothing to ask."""
    for _ in range(8):
        text = rng.pick(TEXTS[category, rng.pick(_FOLLOW_UPS[category])])
        turn = resolve(before, TURNS[text])
        last = before[-1]
        repeats = turn is not None and (turn.country, turn.attribute) == (last.country, last.attribute) != ("", "")
        if turn is not None and not repeats:
            return text, turn
    return None


def draw_pair(rng: Stream, prompt: str, intents: list[Intent]) -> PreferencePair:
    """Two clearly different responses: close calls teach a reward model little, and annotators disagree on them."""
    intent = intents[-1]
    drawn: dict[str, tuple[int, int]] = {}
    while len(drawn) < CANDIDATES:
        response = draw_response(rng, intent)
        drawn[response] = utility(intent, response)
    ranked = sorted(drawn, key=lambda response: drawn[response][1])
    chosen, rejected = ranked[-1], ranked[0]
    threshold = preference_threshold(drawn[chosen][1] - drawn[rejected][1], slope=SLOPE, noise=LABEL_NOISE)
    if rng.bits() >> 32 >= threshold:  # the annotator errs
        chosen, rejected = rejected, chosen
        threshold = PROBABILITY_ONE - threshold
    meta = {
        "p_chosen": threshold / PROBABILITY_ONE,
        "gold_chosen": drawn[chosen][0] / 100,
        "gold_rejected": drawn[rejected][0] / 100,
        "turns": len(intents),
        "intent": intent.kind,
    }
    return PreferencePair(prompt, chosen, rejected, category=intent.category, meta=meta)


def utility(intent: Intent, response: str) -> tuple[int, int]:
    """Gold, and gold with the annotator's bias, in hundredths."""
    reading = read_response(response)
    gold = sum(judge(intent, reading).values())
    steps = (BIAS["first_two_phrases"], BIAS["first_two_phrases"], BIAS["third_phrase"])
    bonus = sum(steps[: reading.phrases]) + BIAS["later_phrase"] * max(reading.phrases - 3, 0)
    return gold, gold + bonus + BIAS["word"] * min(reading.n_words, BIAS["words"])


def ceiling(pairs: Iterable[PreferencePair]) -> float:
    """The best accuracy that a reward model can reach on `pairs` in expectation: the mean of max(p, 1 - p).

    p is the probability with which the annotator prefers the chosen side, bias and label noise included.
    Raises DataError where a pair does not carry it (`meta["p_chosen"]`), or where there is no pair.
    """
    best: list[float] = []
    for pair in pairs:
        p = pair.meta.get("p_chosen")
        if not isinstance(p, float):
            raise DataError(f"pair {pair.id}: no meta['p_chosen']; the ceiling is known for pairs of hh-mini alone")
        best.append(max(p, 1 - p))
    if not best:
        raise DataError("ceiling of no pairs; expected at least one pair of hh-mini")
    return sum(best) / len(best)
