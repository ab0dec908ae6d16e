"""The colours: text can be read on what it stands on, by day and by night (WCAG 2.2, contrast of level AA)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

CSS = (files("qcompiler.report") / "report.css").read_text("utf-8")
SCHEMES = dict(zip(("light", "dark", "print"), re.findall(r":root \{(.*?)\}", CSS, re.DOTALL), strict=True))
PAIRS = [
    *((ink, paper) for ink in ("text", "muted", "accent", "fail") for paper in ("page", "panel")),
    ("muted", "soft"),
    ("text", "soft"),
    ("text", "warn-soft"),
    *((kind, f"{kind}-soft") for kind in ("pass", "fail", "warn", "accent")),
]


def colours(scheme: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})\b", SCHEMES[scheme]))


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, as WCAG defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("ink", "paper"), PAIRS, ids="-on-".join)
def test_text_has_contrast(scheme: str, ink: str, paper: str) -> None:
    palette = colours(scheme)
    assert contrast(palette[ink], palette[paper]) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bars_stand_out(scheme: str) -> None:
    palette = colours(scheme)
    for bar in ("compiled", "error"):
        assert contrast(palette[bar], palette["panel"]) >= 3
    assert contrast(palette["compiled"], palette["source"]) >= 1.8  # they differ in length and place, too


def test_every_colour_that_is_used_is_defined() -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", CSS))
    assert used == {*colours("light"), "shade", "mono"}
    assert colours("dark").keys() == colours("light").keys()


def test_every_class_of_the_template_has_a_style() -> None:
    names = ("report.html.j2", "comparison.html.j2", "macros.html.j2")
    template = "".join((files("qcompiler.report") / name).read_text("utf-8") for name in names)
    classes = {one for found in re.findall(r'class="([\w -]+)"', template) for one in found.split()}
    styled = set(re.findall(r"\.([a-z][\w-]*)", CSS))
    assert classes - styled <= {"pair", "one", "label"}
