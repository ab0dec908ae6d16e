"""Runs passes in order. After each one the IR verifies; runs of lossless passes are checked as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from qcompiler.errors import PassError, QCompilerError, UsageError, VerifyError
from qcompiler.ir import Model, verify
from qcompiler.pipeline.base import Pass, PassContext
from qcompiler.pipeline.lossless import run_lossless
from qcompiler.pipeline.record import PassRecord, run_one

__all__ = ["Pipeline"]


class Pipeline:
    """An ordered list of passes.

    Raises UsageError when some pass needs what none before it gives.
    """

    def __init__(self, passes: Iterable[Pass]) -> None:
        self.passes = tuple(passes)
        given: set[str] = set()
        for item in self.passes:
            missing = item.needs - given
            if missing:
                raise UsageError(
                    f"pass '{item.name}' needs {', '.join(sorted(missing))}, which no pass before it gives",
                    hint="put the pass that gives it first",
                )
            given |= item.gives

    def run(
        self, model: Model, context: PassContext, progress: Callable[[str], None] = lambda _: None
    ) -> tuple[Model, list[PassRecord]]:
        """The rewritten model and a record of each pass. ``model`` itself may be changed and must not be used again.

        After lossless passes every output on ``context.samples`` has to be within the tolerance of its type (float 1e-4
        of the largest magnitude, float16 1e-2, integers equal); the rule that is to blame is found by halving and left
        out, and a warning says so. ``progress`` is told the name of each pass. Raises PassError when a lossy pass
        fails or leaves a graph that does not verify.
        """
        records: list[PassRecord] = []
        for lossless, group in groupby(self.passes, lambda item: item.lossless):
            run = run_lossless if lossless else _lossy
            model, made = run(model, list(group), context, progress)
            records += made
        return model, records


def _lossy(
    model: Model, passes: Sequence[Pass], context: PassContext, progress: Callable[[str], None]
) -> tuple[Model, list[PassRecord]]:
    records = []
    for item in passes:
        progress(item.name)
        try:
            records.append(run_one(item, model, context))
            if not records[-1].changed:
                verify(model)
        except VerifyError as error:
            raise PassError(f"pass '{item.name}' left a broken graph: {error.what}") from error
        except QCompilerError:
            raise
        except Exception as error:  # a pass is other people's code
            raise PassError(f"pass '{item.name}' raised {type(error).__name__}: {error}") from error
    return model, records
