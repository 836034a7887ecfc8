"""What a human turn asks, and how a turn that leans on earlier ones is completed."""

from __future__ import annotations

from typing import NamedTuple

from rlhf_bench.data.mini.world import COUNTRIES


class Intent(NamedTuple):
    """What a human turn asks. Fields that a kind does not use stay empty."""

    category: str
    kind: str
    country: str = ""
    attribute: str = ""
    claim: str = ""  # the value that a check or a premise names
    other: str = ""  # the second country of a comparison
    op: str = ""  # plus, minus, bigger
    a: int = 0
    b: int = 0
    task: str = ""
    step: int = 0  # index of the step asked for
    name: str = ""
    mood: str = ""
    hobby: str = ""
    harm: str = ""

    @property
    def value(self) -> str:
        """The true value of the attribute asked for."""
        return COUNTRIES[self.country].value(self.attribute)

    @property
    def result(self) -> int:
        """The true result of an arithmetic question."""
        return {"plus": self.a + self.b, "minus": self.a - self.b, "bigger": max(self.a, self.b)}[self.op]


def resolve(previous: list[Intent], turn: Intent) -> Intent | None:
    """`turn` with what it leaves open taken from the turns before it; None if nothing before it fits."""
    last = previous[-1] if previous else None
    kind = turn.kind
    if kind == "fact_its":
        return turn._replace(kind="fact", country=last.country) if last and last.country else None
    if kind == "fact_there":
        return turn._replace(kind="fact", attribute=last.attribute) if last and last.attribute else None
    if kind == "sum_more":
        if last is None or not last.op or not 1 < last.result <= 6:  # stay among the sums asked elsewhere
            return None
        return turn._replace(kind="sum", a=last.result)
    if kind == "next":
        if last is None or last.kind not in ("first", "after") or last.step >= 3:
            return None
        return turn._replace(kind="after", task=last.task, step=last.step + 1)
    if kind == "insist":
        return turn._replace(harm=last.harm) if last and last.harm else None
    if kind in ("talk", "recall_name"):
        names = [intent.name for intent in previous if intent.name]
        if kind == "recall_name" and not names:
            return None
        return turn._replace(name=names[-1] if names else "")
    if kind == "story":
        return turn._replace(kind="sum")
    if kind == "talk_named":
        return turn._replace(kind="talk")
    if kind == "recall_hobby":
        hobbies = [intent.hobby for intent in previous if intent.hobby]
        return turn._replace(hobby=hobbies[-1]) if hobbies else None
    return turn
