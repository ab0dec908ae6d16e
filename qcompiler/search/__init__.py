"""Choosing between variants by measurement: quality on data, latency on the machine."""

from qcompiler.search.choose import Candidate, Choice, Limits, choose
from qcompiler.search.latency import Timing, interleaved
from qcompiler.search.quality import Accuracy, Metric, Quality, compare, find_metric

__all__ = [
    "Accuracy",
    "Candidate",
    "Choice",
    "Limits",
    "Metric",
    "Quality",
    "Timing",
    "choose",
    "compare",
    "find_metric",
    "interleaved",
]
