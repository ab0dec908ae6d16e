"""Statistics of inner tensors over calibration data, in bounded memory."""

from qcompiler.calibrate.collect import collect, with_outputs
from qcompiler.calibrate.histogram import RangeStatistics

__all__ = ["RangeStatistics", "collect", "with_outputs"]
