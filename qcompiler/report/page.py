"""The HTML page: one file, drawn from the report alone, that loads nothing and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from qcompiler.report import units
from qcompiler.report.comparison import Compared, comparison_view
from qcompiler.report.plain import plain
from qcompiler.report.schema import check
from qcompiler.report.summary import gate_limit, gate_value, plural, sentence
from qcompiler.report.view import option, view

__all__ = ["render_comparison", "render_html"]

_FILTERS = [name for name in units.__all__ if name.islower()]
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def render_html(report: Mapping[str, Any]) -> str:
    """The page. It holds its style, needs no network and no script, and everything from the report is escaped.

    Raises ValueError if the report does not fit the schema.
    """
    held = plain(report)
    check(held)
    page = _template().render(view(held))
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", page)


def render_comparison(found: Sequence[Compared]) -> str:
    """The page that lays compiled models side by side: a table, and which of them no other beats. Like the other, it
    needs no network and no script."""
    page = _template("comparison.html.j2").render(comparison_view(found))
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", page)


@cache
def _template(name: str = "report.html.j2") -> Template:
    here = files("qcompiler.report")
    environment = Environment(
        loader=FunctionLoader(lambda name: (here / name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(units, name) for name in _FILTERS} | {"option": option, "sentence": sentence}
    environment.globals |= {"gate_limit": gate_limit, "gate_value": gate_value, "plural": plural}
    return environment.get_template(name)
