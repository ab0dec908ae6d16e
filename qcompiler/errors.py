"""The exceptions that qcompiler raises, and the exit status that each one means on the command line::

    QCompilerError            1   anything below
    ├── ImportFailure         3   the model file cannot be used
    ├── DataError             3   the samples cannot be used
    ├── VerifyError           1   the IR broke one of its own invariants
    ├── PassError             1   a pass could not do its work
    ├── CalibrationError      1   statistics could not be collected
    ├── LoweringError         1   the target cannot express the graph
    ├── TrainingError         1   the model cannot be trained
    ├── ExecutorError         1   who was to do the work cannot be reached
    ├── OutputError           1   the result cannot be written
    ├── GateError             4   ``--strict`` and a gate was not met
    └── UsageError            2   the request itself makes no sense

Every message is one line: what is wrong, where, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "CalibrationError",
    "DataError",
    "ExecutorError",
    "GateError",
    "ImportFailure",
    "LoweringError",
    "OutputError",
    "PassError",
    "QCompilerError",
    "TrainingError",
    "UsageError",
    "VerifyError",
]


class QCompilerError(Exception):
    """Base of every error that the user can act upon.

    ``what`` says what is wrong and where, ``hint`` what to do; the message is both. ``exit_status`` is what the command
    line ends with when the error reaches it.
    """

    exit_status = 1

    def __init__(self, what: str, *, hint: str = "") -> None:
        """``what`` says what is wrong and where; ``hint`` says what to do."""
        self.what = " ".join(what.split())
        self.hint = " ".join(hint.split())
        super().__init__(f"{self.what}; {self.hint}" if self.hint else self.what)


class ImportFailure(QCompilerError):
    """The model file is missing, damaged, or holds what cannot be represented."""

    exit_status = 3


class DataError(QCompilerError):
    """Samples are missing, or do not fit the model's inputs."""

    exit_status = 3


class VerifyError(QCompilerError):
    """The IR is inconsistent: the guilty pass is named by whoever ran it."""


class PassError(QCompilerError):
    """A pass raised, looped or produced a graph that does not verify."""


class CalibrationError(QCompilerError):
    """The model could not be run on the calibration samples."""


class LoweringError(QCompilerError):
    """The target has no form for something in the graph."""


class TrainingError(QCompilerError):
    """The model cannot be trained, or not on these samples."""


class ExecutorError(QCompilerError):
    """Workers elsewhere cannot be reached, or not be used."""


class OutputError(QCompilerError):
    """The result could not be written; whatever stood there before is untouched."""


class GateError(QCompilerError):
    """A limit that the user set was not met, under ``--strict``."""

    exit_status = 4


class UsageError(QCompilerError):
    """Unknown recipe, pass, option or target, or options that exclude each other."""

    exit_status = 2
