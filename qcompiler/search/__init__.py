"""Choosing between variants by measurement: quality on data, latency on the machine."""

from qcompiler.search.candidate import Candidate, Choice, Limits
from qcompiler.search.choose import choose, sensitivities
from qcompiler.search.journal import Journal
from qcompiler.search.profile import GroupTimes, estimated, group_times, operator_times
from qcompiler.search.quality import Accuracy, Metric, Quality, compare, find_metric

__all__ = [
    "Accuracy",
    "Candidate",
    "Choice",
    "GroupTimes",
    "Journal",
    "Limits",
    "Metric",
    "Quality",
    "choose",
    "compare",
    "estimated",
    "find_metric",
    "group_times",
    "operator_times",
    "sensitivities",
]
