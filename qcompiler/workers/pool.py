"""Tasks over the workers of an executor: results in the order of tasks, whoever does them, and none of them lost.

What all tasks need, a model for instance, goes to a worker once: a task names it by its digest, and a worker that does
not have it says so and is sent it. So it is with a worker that took the place of one that died.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

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
        ``work`` raises is raised.
        """
        waiting: deque[tuple[Future[Any], T]] = deque()
        try:
            for task in tasks:
                waiting.append((self._submit(work, shared, task), task))
                if len(waiting) >= _A_WORKER * self.width:
                    yield self._taken(work, shared, *waiting.popleft(), here)
            while waiting:
                yield self._taken(work, shared, *waiting.popleft(), here)
        finally:
            for future, _ in waiting:
                future.cancel()

    def _submit(self, work: Callable[[S, T], R], shared: Shared[S], task: T, payload: bytes | None = None) -> Any:
        try:
            return self.executor.submit(_call, work, shared.opened, shared.digest, payload, task)
        except (RuntimeError, OSError):  # the pool is gone: broken, or shut down
            gone: Future[Any] = Future()
            gone.cancel()
            return gone

    def _taken(
        self, work: Callable[[S, T], R], shared: Shared[S], future: Future[Any], task: T, here: Callable[[T], R]
    ) -> R:
        try:
            found = self._awaited(future)
            if isinstance(found, _Missing):
                found = self._awaited(self._submit(work, shared, task, shared.payload))
        except _LOST:
            return here(task)
        result: R = found
        return result

    def _awaited(self, future: Future[Any]) -> Any:
        """The result, or CancelledError when nobody is left who could find it."""
        deserted = getattr(self.executor, "deserted", None)
        while True:
            try:
                return future.result(timeout=_POLL if deserted else None)
            except TimeoutError:
                if future.done():  # it was the work that took too long for somebody
                    raise
                if deserted is not None and deserted():
                    future.cancel()
                    raise CancelledError from None
                time.sleep(0)


class _Missing:
    """What a worker answers that was not sent yet what tasks share."""


_opened: dict[str, Any] = {}


def _call(
    work: Callable[[Any, Any], Any], opened: Callable[[bytes], Any], digest: str, payload: bytes | None, task: Any
) -> Any:
    """In a worker: the task, with what it shares, which is kept for the next one."""
    state = _opened.get(digest)
    if state is None:
        if payload is None:
            return _Missing()
        state = opened(payload)
        _opened.clear()  # nobody holds more than one: they are as large as models
        _opened[digest] = state
    return work(state, task)
