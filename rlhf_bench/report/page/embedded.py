"""What the page holds of the plots: images as data URIs, so that nothing in them can run or load anything, and the
models' colours as style."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from matplotlib.colors import to_hex, to_rgb

from rlhf_bench.report.plots.style import Look, ink, luminance

_LIGHTNESS = 0.30  # relative luminance, at least: 4.5 to 1 against the dark card and more
_SVG_LIMIT = 200_000  # characters; a larger drawing goes in as PNG
_LEFT_OUT = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
_NUMBER = re.compile(r"-?\d+\.\d\d\d+")  # more decimals than a screen shows
_SPACE = re.compile(r"\s+")
_KEPT = " '()*+,-./:;=?@[]_<>"  # what means nothing to a URI, nor to HTML within double quotes


def image_uri(plots: Path, name: str) -> Markup | None:
    """The drawing of a name in the folder of plots, for an attribute in double quotes; None where there is none."""
    svg, png = plots / f"{name}.svg", plots / f"{name}.png"
    if svg.exists():
        text = small_svg(svg.read_text(encoding="utf-8"))
        if len(text) <= _SVG_LIMIT or not png.exists():
            return Markup("data:image/svg+xml," + quote(text.replace('"', "'"), safe=_KEPT))
    if not png.exists():
        return None
    return Markup("data:image/png;base64," + base64.b64encode(png.read_bytes()).decode("ascii"))


def small_svg(text: str) -> str:
    """A drawing without its comments and metadata, its coordinates rounded to what a screen shows."""
    text = _SPACE.sub(" ", _LEFT_OUT.sub("", text)).replace("> <", "><").strip()
    return _NUMBER.sub(_rounded, text)


def _rounded(found: re.Match[str]) -> str:
    value = float(found.group())
    return f"{value:.5g}" if abs(value) < 10 else f"{value:.2f}".rstrip("0").rstrip(".")  # a small one may be a scale


def model_colours(looks: Iterable[Look]) -> str:
    """Style rules that define --m0, --m1, ...: the plots' colours, with enough contrast to a light and a dark card."""
    colours = [look.colour for look in looks]
    light = "".join(f"--m{number}:{ink(colour)};" for number, colour in enumerate(colours))
    dark = "".join(f"--m{number}:{_pale(colour)};" for number, colour in enumerate(colours))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"


def _pale(colour: str) -> str:
    red, green, blue = to_rgb(colour)
    while luminance(red, green, blue) < _LIGHTNESS:
        red, green, blue = (0.9 * part + 0.1 for part in (red, green, blue))
    return to_hex((red, green, blue))
