"""An executor from what a user writes: ``processes``, ``processes:4`` or ``dask:tcp://host:port``."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.process import BaseProcess

from qcompiler.errors import UsageError

__all__ = ["check_executor", "connected"]


def check_executor(spec: str | Executor | None) -> None:
    """Raises UsageError for a text that names no executor, and where what it takes is not installed."""
    if spec is None or isinstance(spec, Executor):
        return
    kind, _, rest = spec.partition(":")
    if kind == "dask" and rest:
        if importlib.util.find_spec("distributed") is None:
            raise UsageError("--executor dask needs Dask", hint="pip install 'qcompiler[dask]'")
    elif kind != "processes" or (":" in spec and not (rest.isdigit() and int(rest) > 0)):
        raise UsageError(
            f"there is no executor '{spec}'", hint="there are: processes, processes:N, dask:tcp://HOST:PORT"
        )


@contextlib.contextmanager
def connected(spec: str | Executor | None, warn: Callable[[str], None] = lambda _: None) -> Iterator[Executor | None]:
    """The executor that ``spec`` names, let go at the end; one that is given is passed through and stays open.

    ``processes`` starts as many processes as there are cores, ``processes:N`` N of them, ``dask:ADDRESS`` joins a
    cluster; what is odd about that is told to ``warn``. Raises UsageError as :func:`check_executor` does, ExecutorError
    for a cluster that cannot be used.
    """
    check_executor(spec)
    if spec is None or isinstance(spec, Executor):
        yield spec
        return
    kind, _, rest = spec.partition(":")
    if kind == "dask":
        from qcompiler.workers.cluster import joined

        with joined(rest, warn) as cluster:
            yield cluster
        return
    # Started anew instead of forked: onnxruntime's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(int(rest) if rest else os.cpu_count(), mp_context=context, initializer=_hangs_on)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _hangs_on() -> None:
    """In a worker: Ctrl-C is for the parent to handle, and when the parent dies, however, the worker goes too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _exit_with(parent: BaseProcess | None) -> None:
    """When ``parent`` ends, and all that it forked, this process does."""
    if parent is not None:
        parent.join()
        os._exit(1)
