"""Which models no other model beats: more reward at less KL."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["pareto_front"]


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the points (kl, reward) that no other point dominates, by rising KL.

    A point is dominated if another has no more KL and no less reward, and is better in at least one of them.
    Point estimates are compared: the intervals are on the plot, the front does not know them.
    """

    def dominated(name: str) -> bool:
        kl, reward = points[name]
        return any(k <= kl and r >= reward and (k < kl or r > reward) for k, r in points.values())

    return sorted((name for name in points if not dominated(name)), key=lambda name: points[name])
