"""The models' colours as the page's style: those of the plots, with enough contrast to a light and a dark card."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.colors import to_hex, to_rgb

from rlhf_bench.report.plots.style import Look, ink

_LIGHTNESS = 0.30  # relative luminance, at least: 4.5 to 1 against the dark card and more


def model_colours(looks: Iterable[Look]) -> str:
    """Style rules that define --m0, --m1, ... for light and dark pages."""
    colours = [look.colour for look in looks]
    light = "".join(f"--m{number}:{ink(colour)};" for number, colour in enumerate(colours))
    dark = "".join(f"--m{number}:{_pale(colour)};" for number, colour in enumerate(colours))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"


def _pale(colour: str) -> str:
    red, green, blue = to_rgb(colour)
    while _luminance(red, green, blue) < _LIGHTNESS:
        red, green, blue = (0.9 * part + 0.1 for part in (red, green, blue))
    return to_hex((red, green, blue))


def _luminance(red: float, green: float, blue: float) -> float:
    """Relative luminance of sRGB, 0 to 1 (WCAG 2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
