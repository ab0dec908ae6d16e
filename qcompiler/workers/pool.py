"""Tasks over the workers of an executor: results in the order of tasks, whoever does them, and none of them lost.

What all tasks need, a model for instance, goes along with the first tasks, one a worker; later ones name it by its
digest. A worker that does not have it says so and is sent it: one that took the place of another that died.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from qcompiler.errors import ExecutorError
from qcompiler.workers.versions import about, unlike

__all__ = ["Pool", "Shared"]

_A_WORKER = 2  # tasks that wait for each worker, so that none is idle and few are held in memory
_POLL = 1.0  # seconds after which it is looked whether anybody is left to work
_LOST = (BrokenExecutor, CancelledError, OSError)  # what a task ends with when its worker does

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True)
class Shared(Generic[S]):
    """What every task needs: ``opened(payload)`` makes it in a worker, where ``opened`` has to be importable."""

    payload: bytes
    opened: Callable[[bytes], S]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.payload).hexdigest())


class Pool:
    """An executor, and how many tasks it is given at a time.

    An executor may have a method ``deserted() -> bool``: true when nobody is left who could do a task.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._sent = _sent.setdefault(executor, set())

    @property
    def width(self) -> int:
        """How many workers there are, as far as the executor tells."""
        return int(getattr(self.executor, "_max_workers", None) or os.cpu_count() or 1)

    def run(
        self,
        work: Callable[[S, T], R],
        shared: Shared[S],
        tasks: Iterable[T],
        here: Callable[[T], R],
    ) -> Iterator[R]:
        """``work(opened, task)`` for each of ``tasks``, in their order; ``here`` does those whose workers were lost.

        ``work`` has to be importable, tasks and results to be pickled. Tasks are drawn as workers take them. What
        ``work`` raises is raised. Raises ExecutorError for a worker that would not compute the same.
        """
        width = self.width
        fresh = 0 if shared.digest in self._sent else width  # so many tasks bring along what all share
        self._sent.add(shared.digest)
        waiting: deque[tuple[Future[Any], T]] = deque()
        try:
            for count, task in enumerate(tasks):
                waiting.append((self._submit(work, shared, task, count < fresh), task))
                if len(waiting) >= _A_WORKER * width:
                    yield self._taken(*waiting.popleft(), here)
            while waiting:
                yield self._taken(*waiting.popleft(), here)
        finally:
            for future, _ in waiting:
                future.cancel()

    def _submit(self, work: Callable[[S, T], R], shared: Shared[S], task: T, whole: bool) -> Future[Any]:
        """A future of the result. Should the worker lack what all share, the task is sent once more, with it."""
        outer: Future[Any] = Future()

        def attempt(whole: bool) -> None:
            payload = shared.payload if whole else None
            try:
                inner = self.executor.submit(_call, work, shared.opened, shared.digest, about(), payload, task)
            except Exception as error:  # the pool is gone: broken, or shut down, or what it says of that
                _settle(outer, error=BrokenExecutor(str(error)))
                return
            inner.add_done_callback(finished)
            outer.add_done_callback(lambda done: inner.cancel() if done.cancelled() else None)

        def finished(inner: Future[Any]) -> None:
            if inner.cancelled():
                _settle(outer, error=BrokenExecutor("it was cancelled"))
            elif error := inner.exception():
                _settle(outer, error=error)
            elif isinstance(inner.result(), _Missing):
                attempt(True)
            else:
                _settle(outer, inner.result())

        attempt(whole)
        return outer

    def _taken(self, future: Future[Any], task: T, here: Callable[[T], R]) -> R:
        try:
            result: R = self._awaited(future)
        except _LOST:
            return here(task)
        return result

    def _awaited(self, future: Future[Any]) -> Any:
        """The result, or CancelledError when nobody is left who could find it."""
        deserted = getattr(self.executor, "deserted", None)
        if deserted is None:
            return future.result()
        while not future.done():
            with contextlib.suppress(TimeoutError):
                future.exception(timeout=_POLL)
            if not future.done() and deserted():
                future.cancel()
                raise CancelledError
        return future.result()


def _settle(future: Future[Any], result: Any = None, error: BaseException | None = None) -> None:
    """Give ``future`` its end, if nobody cancelled it meanwhile."""
    with contextlib.suppress(InvalidStateError):
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


_sent: weakref.WeakKeyDictionary[Executor, set[str]] = weakref.WeakKeyDictionary()
"""Digests of what workers of an executor were sent; whoever lost it says so."""


class _Missing:
    """What a worker answers that was not sent yet what tasks share."""


_opened: dict[str, Any] = {}


def _call(
    work: Callable[[Any, Any], Any],
    opened: Callable[[bytes], Any],
    digest: str,
    versions: Mapping[str, str],
    payload: bytes | None,
    task: Any,
) -> Any:
    """In a worker: the task, with what it shares, which is kept for the next one."""
    state = _opened.get(digest)
    if state is None:
        if difference := unlike(versions, about()):
            raise ExecutorError(f"a worker has {difference}", hint="install the same versions everywhere")
        if payload is None:
            return _Missing()
        state = opened(payload)
        _opened.clear()  # nobody holds more than one: they are as large as models
        _opened[digest] = state
    return work(state, task)
