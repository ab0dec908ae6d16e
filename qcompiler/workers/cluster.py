"""A Dask cluster as an executor."""

from __future__ import annotations

import contextlib
import logging
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

from qcompiler.errors import ExecutorError
from qcompiler.workers.versions import MACHINE, about, unlike

__all__ = ["joined"]

_PATIENCE = 10.0  # seconds for a scheduler to answer, and for a worker to come
_LARGE = 1 << 20  # bytes that do not go through the scheduler


@contextlib.contextmanager
def joined(address: str, warn: Callable[[str], None]) -> Iterator[Executor]:
    """The workers of the scheduler at ``address``, which have to have the same versions of what computes.

    A processor of another kind is told to ``warn``: its last bits may differ. Raises ExecutorError where nobody answers
    or works there.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error) or type(error).__name__
        raise ExecutorError(
            f"no Dask scheduler answers at {address}: {reason}", hint="start one with `dask scheduler`, or leave it out"
        ) from None
    # A scheduler that goes away is survived; its library would tell with tracebacks.
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        _check(client, address, warn)
        yield _Cluster(client)
    finally:
        with contextlib.suppress(OSError, TimeoutError):
            client.close(timeout=_PATIENCE)
        logger.setLevel(level)


def _check(client: Any, address: str, warn: Callable[[str], None]) -> None:
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError:
        raise ExecutorError(
            f"the cluster at {address} has no workers", hint=f"start one with `dask worker {address}`"
        ) from None
    try:
        found = client.run(about)
    except Exception as error:  # whatever a worker raised; mostly that it cannot import what it was asked for
        raise ExecutorError(
            f"a worker of the cluster at {address} cannot run qcompiler: {error}", hint="install it there too"
        ) from None
    own = about()
    for worker, theirs in found.items():
        if difference := unlike(own, theirs):
            raise ExecutorError(f"worker {worker} has {difference}", hint="install the same versions everywhere")
        if theirs[MACHINE] != own[MACHINE]:
            warn(f"worker {worker} runs on {theirs[MACHINE]}, not {own[MACHINE]}: its last bits may differ")


class _Cluster(Executor):
    """Dask's client with the words of an executor."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._since: float | None = None  # when it was first seen to have no workers

    @property
    def _max_workers(self) -> int:
        return max(1, len(self._workers()))

    def _workers(self) -> dict[str, Any]:
        if self.client.status != "running":
            return {}
        found: dict[str, Any] = self.client.scheduler_info(n_workers=-1).get("workers", {})
        return found

    def deserted(self) -> bool:
        """True when no worker, or no scheduler, has been there for a while."""
        if self._workers():
            self._since = None
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since > _PATIENCE

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As Executor has it; what is large goes to a worker directly. Tasks of a worker that dies go to another."""
        outer: Future[Any] = Future()
        if self.client.status != "running":
            outer.set_exception(BrokenExecutor("the scheduler is gone"))
            return outer
        packed: Any = pickle.dumps((fn, args, kwargs))
        try:
            if len(packed) > _LARGE:
                packed = self.client.scatter(packed, hash=False)
            inner = self.client.submit(_unpacked, packed, pure=False)
        except Exception as error:  # the connection, in one of many forms
            outer.set_exception(BrokenExecutor(str(error)))
            return outer
        inner.add_done_callback(lambda done: _passed_on(done, outer))
        outer.add_done_callback(lambda done: inner.cancel() if done.cancelled() else None)
        return outer


def _unpacked(packed: bytes) -> Any:
    """In a worker: the call."""
    fn, args, kwargs = pickle.loads(packed)
    return fn(*args, **kwargs)


def _passed_on(done: Any, outer: Future[Any]) -> None:
    """Result or error of Dask's future, in the words of an executor's."""
    if not outer.set_running_or_notify_cancel():
        return
    if done.status == "finished":
        try:
            outer.set_result(done.result())
        except BaseException as lost:  # the worker went away with it; asyncio has errors of its own kind for that
            outer.set_exception(BrokenExecutor(str(lost)))
        return
    raised = done.exception() if done.status == "error" else None
    if raised is None or type(raised).__module__.startswith("distributed"):
        raised = BrokenExecutor(f"{done.status}: {raised}")
    outer.set_exception(raised)
