"""An executor from what a user writes: ``processes``, ``processes:4`` or ``dask:tcp://host:port``."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor

from qcompiler.errors import UsageError

__all__ = ["connected"]


@contextlib.contextmanager
def connected(spec: str | Executor | None, warn: Callable[[str], None] = lambda _: None) -> Iterator[Executor | None]:
    """The executor that ``spec`` names, let go at the end; one that is given is passed through and stays open.

    ``processes`` starts as many processes as there are cores, ``processes:N`` N of them, ``dask:ADDRESS`` joins a
    cluster; what is odd about that is told to ``warn``. Raises UsageError for another text, ExecutorError for a cluster
    that cannot be used.
    """
    if spec is None or isinstance(spec, Executor):
        yield spec
        return
    kind, _, rest = spec.partition(":")
    if kind == "processes" and (not rest or (rest.isdigit() and int(rest) > 0)):
        # Started anew instead of forked: onnxruntime's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(int(rest) if rest else os.cpu_count(), mp_context=context) as pool:
            yield pool
    elif kind == "dask" and rest:
        from qcompiler.workers.cluster import joined

        with joined(rest, warn) as cluster:
            yield cluster
    else:
        raise UsageError(
            f"there is no executor '{spec}'", hint="there are: processes, processes:N, dask:tcp://HOST:PORT"
        )
