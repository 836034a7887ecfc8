"""Draws one response to an intent: what it says, how it says it, and what is wrong with it.

Everything is drawn independently per side of a pair; `gold.py` judges the text alone and never sees these draws.
"""

from __future__ import annotations

from typing import Literal

from rlhf_bench.data.mini import phrases as ph
from rlhf_bench.data.mini.rng import Stream
from rlhf_bench.data.mini.turns import TEXTS, TURNS, Intent
from rlhf_bench.data.mini.world import COUNTRIES, HARMS, HOBBIES, MOODS, NAMES, NUMBERS, PLACES, TASKS, VALUES

Quality = Literal["right", "wrong", "vague", "off", "half"]

_QUALITY: tuple[tuple[Quality, int], ...] = (("right", 720), ("wrong", 110), ("vague", 90), ("off", 40), ("half", 40))
_DETAIL: dict[Quality, int] = {"right": 500, "wrong": 300, "vague": 100, "off": 0, "half": 150}
_TONE = (("polite", 420), ("plain", 330), ("rude", 250))
_CUT = 150
_REPEAT = 30
_REPEAT_WORDS = 12  # longer sentences are not repeated: responses stay short
_ENTHUSIASM = ((0, 790), (1, 165), (2, 32), (3, 13))
_OTHER_TOPICS = (("facts", "fact"), ("arithmetic", "sum_plus"), ("how_to", "first"), ("small_talk", "talk"))
# polite ones of some categories
_OPENERS: dict[str, tuple[str, ...]] = {"small_talk": ph.POLITE_TALK_OPENERS, "harmful": ph.POLITE_REFUSAL_OPENERS}
_CLOSERS: dict[str, tuple[str, ...]] = {
    "small_talk": ph.POLITE_TALK_CLOSERS, "harmful": ph.POLITE_REFUSAL_CLOSERS, "how_to": ph.POLITE_TASK_CLOSERS,
}  # fmt: skip


def draw_response(rng: Stream, intent: Intent) -> str:
    """A response of mixed quality; begins with a space, carries no end marker."""
    quality = rng.weighted(_QUALITY)
    sentences = draw_content(rng, intent, quality)
    if rng.chance(_DETAIL[quality]):
        sentences += _detail(rng, intent, wrong=quality == "wrong")
    sentences = _tone(rng, intent, sentences)
    short = [index for index, sentence in enumerate(sentences) if len(sentence.split()) <= _REPEAT_WORDS]
    if short and rng.chance(_REPEAT):
        index = rng.pick(short)
        sentences.insert(index + 1, sentences[index])
    for _ in range(rng.weighted(_ENTHUSIASM)):
        sentences.insert(rng.below(len(sentences) + 1), rng.pick(ph.ENTHUSIASM))
    text = " ".join(sentences)
    return " " + (_cut(rng, text) if rng.chance(_CUT) else text)


def good_response(rng: Stream, intent: Intent) -> str:
    """A short right answer, for the assistant's earlier turns."""
    sentences = draw_content(rng, intent, "right")
    if rng.chance(200):
        sentences.insert(0, rng.pick(_OPENERS.get(intent.category, ph.POLITE_OPENERS)))
    return " " + " ".join(sentences)


def _tone(rng: Stream, intent: Intent, sentences: list[str]) -> list[str]:
    tone = rng.weighted(_TONE)
    if tone == "plain":
        return [rng.pick(ph.NEUTRAL_OPENERS), *sentences] if rng.chance(150) else sentences
    if tone == "polite":
        openers = _OPENERS.get(intent.category, ph.POLITE_OPENERS)
        closers = _CLOSERS.get(intent.category, ph.POLITE_CLOSERS)
    elif intent.kind == "talk":
        openers, closers = ph.RUDE_TALK_OPENERS, ph.RUDE_TALK_CLOSERS
    else:
        openers, closers = ph.RUDE_OPENERS, ph.RUDE_CLOSERS
    where = rng.weighted((("start", 55), ("end", 30), ("both", 15)))
    start = [rng.pick(openers)] if where != "end" else []
    end = [rng.pick(closers)] if where != "start" else []
    return [*start, *sentences, *end]


def _cut(rng: Stream, text: str) -> str:
    """`text` without its last one to four words, and visibly unfinished."""
    words = text.split(" ")
    keep = max(len(words) - 1 - rng.below(4), 2)
    while keep > 2 and words[keep - 1][-1] in ".!?":  # a whole sentence would look finished
        keep -= 1
    return " ".join(words[:keep]).rstrip(".!?,:")


def _say(rng: Stream, forms: tuple[str, ...], *args: str, **slots: str) -> list[str]:
    text = rng.pick(forms).format(*args, **slots)
    return [text[0].upper() + text[1:]]


def _other(rng: Stream, items: tuple[str, ...], *but: str) -> str:
    return rng.pick([item for item in items if item not in but])


def draw_content(rng: Stream, intent: Intent, quality: Quality) -> list[str]:
    if quality == "off":
        if rng.chance(500):
            return [rng.pick(ph.OFF_TOPIC)]
        topic = rng.pick([key for key in _OTHER_TOPICS if key[0] != intent.category])
        return draw_content(rng, TURNS[rng.pick(TEXTS[topic])], "right")
    family = {
        "fact": _fact, "check": _premise, "premise": _premise, "sum": _sum, "talk": _talk, "recall_name": _recall,
        "recall_hobby": _recall, "request": _request, "insist": _request, "context": _context, "compare": _compare,
    }  # fmt: skip
    return family.get(intent.kind, _how_to)(rng, intent, quality)


def _detail(rng: Stream, intent: Intent, *, wrong: bool) -> list[str]:
    """A supporting detail; of a wrong answer, sometimes a wrong one."""
    if intent.kind in ("fact", "check", "premise"):
        true = COUNTRIES[intent.country].detail(intent.attribute)
        detail = _other(rng, PLACES[intent.attribute], true) if wrong and rng.chance(500) else true
        return _say(rng, ph.FACT_DETAIL[intent.attribute], d=detail)
    if intent.kind == "sum":
        return _say(rng, ph.WORKING[intent.op], a=NUMBERS[intent.a], b=NUMBERS[intent.b])
    if intent.task:
        return [TASKS[intent.task].tip]
    if intent.kind == "talk":
        return [MOODS[intent.mood].advice if intent.mood else HOBBIES[intent.hobby]]
    if intent.harm and not wrong:
        why = [rng.pick(ph.WHY_NOT)] if rng.chance(300) else []
        return [*why, *_say(rng, ph.ALTERNATIVE, alt=HARMS[intent.harm])]
    return []


def _fact(rng: Stream, intent: Intent, quality: Quality) -> list[str]:
    true = intent.value
    other = _other(rng, VALUES[intent.attribute], true)
    if quality == "vague":
        return _say(rng, ph.VAGUE["fact"], c=intent.country)
    if quality == "half":
        return _say(rng, ph.HEDGE["fact"], v=true, w=other)
    return _say(rng, ph.FACT[intent.attribute], c=intent.country, v=true if quality == "right" else other)


def _premise(rng: Stream, intent: Intent, quality: Quality) -> list[str]:
    true, claim, c = intent.value, intent.claim, intent.country
    if quality == "vague":
        return _say(rng, ph.VAGUE["fact"], c=c)
    if claim == true:  # a check of something true
        if quality == "wrong":
            other = _other(rng, VALUES[intent.attribute], true)
            return _say(rng, ph.CORRECT_PREMISE[intent.attribute], c=c, v=other, w=true)
        yes = _say(rng, ph.CHECK_RIGHT)
        return yes if quality == "half" else [*yes, *_say(rng, ph.FACT[intent.attribute], c=c, v=true)]
    if quality == "half":
        return _say(rng, ph.NOT_RIGHT)
    if quality == "right":
        return _say(rng, ph.CORRECT_PREMISE[intent.attribute], c=c, v=true, w=claim)
    if rng.chance(700):
        return _say(rng, ph.PREMISE_ACCEPTED[intent.attribute], c=c, w=claim)
    other = _other(rng, VALUES[intent.attribute], true, claim)
    return _say(rng, ph.CORRECT_PREMISE[intent.attribute], c=c, v=other, w=claim)


def _sum(rng: Stream, intent: Intent, quality: Quality) -> list[str]:
    true = intent.result
    if intent.op == "bigger":
        wrong = min(intent.a, intent.b)
    else:
        wrong = rng.pick([n for n in range(max(true - 3, 0), min(true + 3, 12) + 1) if n != true])
    a, b, v, w = NUMBERS[intent.a], NUMBERS[intent.b], NUMBERS[true], NUMBERS[wrong]
    if quality == "vague":
        return _say(rng, ph.VAGUE["sum"])
    if quality == "half":
        return _say(rng, ph.HEDGE["sum"], v=v, w=w)
    return _say(rng, ph.ARITHMETIC[intent.op], a=a, b=b, v=v if quality == "right" else w)


def _how_to(rng: Stream, intent: Intent, quality: Quality) -> list[str]:
    own = TASKS[intent.task].steps
    foreign = TASKS[_other(rng, tuple(TASKS), intent.task)].steps
    if quality == "vague":
        return _say(rng, ph.VAGUE["how_to"], t=intent.task)
    if intent.kind in ("first", "after", "last"):
        forms = {"first": ph.STEP_FIRST, "after": ph.STEP_AFTER, "last": ph.STEP_LAST}[intent.kind]
        if quality == "right":
            return _say(rng, forms, own[intent.step])
        near = [step for step in own if step != own[intent.step]]
        return _say(rng, forms, rng.pick(near if quality == "half" or rng.chance(500) else foreign))
    if quality == "half":
        return _say(rng, ph.STEPS[1], rng.pick(own))
    count = 2 if intent.kind == "two_steps" else rng.weighted(((4, 40), (3, 40), (2, 20)))
    if quality == "wrong" and rng.chance(600):
        steps = list(foreign)
    elif quality == "wrong":
        steps = [own[2], own[0], own[3], own[1]]  # a mixed-up order
    else:
        steps = list(own)
    if quality == "right" and count < 4:
        drop: set[int] = set()
        while len(drop) < 4 - count:
            drop.add(rng.below(4))
        steps = [step for index, step in enumerate(steps) if index not in drop]
    return _say(rng, ph.STEPS[count], *steps[:count])


def _talk(rng: Stream, intent: Intent, quality: Quality) -> list[str]:
    if quality == "vague":
        return _say(rng, ph.VAGUE["talk"])
    name, mood, hobby = intent.name, intent.mood, intent.hobby
    wrong_name = False
    if quality == "wrong":
        if name and rng.chance(400):
            wrong_name = True
            name = _other(rng, NAMES, name)
        elif mood:
            mood = _other(rng, tuple(MOODS), mood)
        else:
            hobby = _other(rng, tuple(HOBBIES), hobby)
    if quality == "half" and name:
        return _say(rng, ph.TALK["greet"], n=name)
    greet = _say(rng, ph.TALK["greet"], n=name) if name and rng.chance(350) else []
    called = f", {name}" if name and not greet and (wrong_name or rng.chance(800)) else ""
    if hobby:
        return [*greet, *_say(rng, ph.TALK["hobby"], h=hobby, n=called)]
    tone = "good" if MOODS[mood].good else "bad"
    return [*greet, *_say(rng, ph.TALK[tone], m=mood, n=called)]


def _recall(rng: Stream, intent: Intent, quality: Quality) -> list[str]:
    if quality in ("vague", "half"):
        return _say(rng, ph.VAGUE["recall"])
    true, items = (intent.name, NAMES) if intent.kind == "recall_name" else (intent.hobby, tuple(HOBBIES))
    return _say(rng, ph.RECALL[intent.kind], x=true if quality == "right" else _other(rng, items, true))


def _request(rng: Stream, intent: Intent, quality: Quality) -> list[str]:
    if quality == "vague":
        return _say(rng, ph.VAGUE["harm"])
    if quality == "half":  # says no, and helps after all
        return [*_say(rng, ph.REFUSE), *_say(rng, ph.COMPLY)]
    return _say(rng, ph.REFUSE if quality == "right" else ph.COMPLY)


def _context(rng: Stream, intent: Intent, quality: Quality) -> list[str]:
    if quality == "vague":
        return _say(rng, ph.VAGUE["harm"])
    if quality == "half":  # refuses a question that is worth an answer
        return _say(rng, ph.REFUSE)
    return _say(rng, ph.CONTEXT if quality == "right" else ph.COMPLY)


def _compare(rng: Stream, intent: Intent, quality: Quality) -> list[str]:
    c, o, attribute = intent.country, intent.other, intent.attribute
    v, w = COUNTRIES[c].value(attribute), COUNTRIES[o].value(attribute)
    if quality == "vague":
        return _say(rng, ph.VAGUE["compare"], c=c, o=o)
    if quality == "half":
        return _say(rng, ph.FACT[attribute][:1], c=c, v=v)
    if quality == "wrong":
        v = _other(rng, VALUES[attribute], v, w)
    return _say(rng, ph.COMPARE[attribute], c=c, o=o, v=v, w=w)
