"""Passes in order: options, verification, numeric checks, roll-back, recipes."""

from qcompiler.pipeline.base import Pass, PassContext, convert_option
from qcompiler.pipeline.check import Reference, deviation, tolerance
from qcompiler.pipeline.recipe import GATES, Recipe, find_pass, parse_recipe, with_settings
from qcompiler.pipeline.record import PassRecord
from qcompiler.pipeline.run import Pipeline

__all__ = [
    "GATES",
    "Pass",
    "PassContext",
    "PassRecord",
    "Pipeline",
    "Recipe",
    "Reference",
    "convert_option",
    "deviation",
    "find_pass",
    "parse_recipe",
    "tolerance",
    "with_settings",
]
