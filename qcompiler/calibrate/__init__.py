"""Statistics of inner tensors over calibration data, in bounded memory."""

from qcompiler.calibrate.collect import collect, with_outputs
from qcompiler.calibrate.histogram import RangeStatistics
from qcompiler.calibrate.moments import Moments, second_moments

__all__ = ["Moments", "RangeStatistics", "collect", "second_moments", "with_outputs"]
