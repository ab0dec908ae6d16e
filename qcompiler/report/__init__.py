"""What was done and measured, as JSON and as a page.

``report.json`` holds every number (:func:`to_json`, :func:`read`, :func:`validate`); the page (:func:`render_html`) and
the lines for the terminal (:func:`summary_lines`) are drawn from it and from nothing else.
"""

from qcompiler.report.comparison import Compared, compare_reports
from qcompiler.report.explanation import explain_model, explain_node
from qcompiler.report.neighbourhood import MOST_IN_A_ROW, MOST_PICTURES, STEPS
from qcompiler.report.page import render_comparison, render_html
from qcompiler.report.record import read, to_json
from qcompiler.report.schema import SCHEMA, validate
from qcompiler.report.summary import distance, gates_line, size_change, speed_change, summary_lines

__all__ = [
    "MOST_IN_A_ROW",
    "MOST_PICTURES",
    "SCHEMA",
    "STEPS",
    "Compared",
    "compare_reports",
    "distance",
    "explain_model",
    "explain_node",
    "gates_line",
    "read",
    "render_comparison",
    "render_html",
    "size_change",
    "speed_change",
    "summary_lines",
    "to_json",
    "validate",
]
