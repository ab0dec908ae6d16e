"""What was done and measured, as JSON and as a page.

``report.json`` holds every number (:func:`to_json`, :func:`read`, :func:`validate`); the page (:func:`render_html`) and
the lines for the terminal (:func:`summary_lines`) are drawn from it and from nothing else.
"""

from qcompiler.report.explanation import explain_model, explain_node
from qcompiler.report.page import render_html
from qcompiler.report.record import read, to_json
from qcompiler.report.schema import SCHEMA, validate
from qcompiler.report.summary import summary_lines

__all__ = [
    "SCHEMA",
    "explain_model",
    "explain_node",
    "read",
    "render_html",
    "summary_lines",
    "to_json",
    "validate",
]
