"""compile(), and what there is to compile with."""

from qcompiler.compiler.asking import input_specs
from qcompiler.compiler.assess import environment, measure, peak_rss, statistics_of
from qcompiler.compiler.catalog import find_recipe, find_target, passes, plugin_problems, recipes, targets
from qcompiler.compiler.compilation import compile
from qcompiler.compiler.distillation import distill
from qcompiler.compiler.kept import ResultCache, result_cache
from qcompiler.compiler.recovering import forget_training
from qcompiler.compiler.result import Result
from qcompiler.compiler.rewriting import name_all
from qcompiler.compiler.sensitivity import PruningSensitivity, Sensitivity, pruning_sensitivity, sensitivity

__all__ = [
    "PruningSensitivity",
    "Result",
    "ResultCache",
    "Sensitivity",
    "compile",
    "distill",
    "environment",
    "find_recipe",
    "find_target",
    "forget_training",
    "input_specs",
    "measure",
    "name_all",
    "passes",
    "peak_rss",
    "plugin_problems",
    "pruning_sensitivity",
    "recipes",
    "result_cache",
    "sensitivity",
    "statistics_of",
    "targets",
]
