"""Samples to calibrate and to score with: opened by ``open_dataset``, halved by ``split``.

This room knows arrays and the names, shapes and element types of a model's inputs; it knows no graphs.
"""

from qcompiler.data.dataset import Dataset, InputSpec, Sample, split
from qcompiler.data.opening import DataSpec, open_dataset

__all__ = ["DataSpec", "Dataset", "InputSpec", "Sample", "open_dataset", "split"]
