"""Statistics of inner tensors over calibration data, in bounded memory."""

from qcompiler.calibrate.collect import collect
from qcompiler.calibrate.effect import least_effect
from qcompiler.calibrate.exposing import reachable, with_outputs
from qcompiler.calibrate.histogram import RangeStatistics
from qcompiler.calibrate.moments import Moments, second_moments
from qcompiler.calibrate.patches import key_of, results, vectors
from qcompiler.calibrate.states import with_states

__all__ = [
    "Moments",
    "RangeStatistics",
    "collect",
    "key_of",
    "least_effect",
    "reachable",
    "results",
    "second_moments",
    "vectors",
    "with_outputs",
    "with_states",
]
