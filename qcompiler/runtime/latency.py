"""Time, measured so that a noisy machine cannot favour one side: interleaved, and the least of several runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.runtime.program import Runner

__all__ = ["Timing", "interleaved"]

_TICK = 1e-7  # seconds below which a clock cannot tell; some say now and then that no time has passed at all


@dataclass(frozen=True)
class Timing:
    """Milliseconds an inference: the least, the median, and of how many runs."""

    least: float
    median: float
    runs: int


def interleaved(
    sessions: Sequence[Runner],
    feeds: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    runs: int = 0,
    seconds: float = 2.0,
) -> list[Timing]:
    """Time ``sessions`` in turn on the same ``feeds`` (or one each), ``runs`` times or for about ``seconds`` in all.

    With one thread the clock is the thread's own processor time, which other programs do not lengthen; with more it
    is the wall's, since the work is on other threads. At least five runs, after two that warm up.
    """
    each = [feeds] * len(sessions) if isinstance(feeds, Mapping) else list(feeds)
    for session, feed in zip(sessions, each, strict=True):
        session.run(feed)  # unlike the prepared call it says what is wrong
    calls = [session.prepared(feed) for session, feed in zip(sessions, each, strict=True)]
    single = all(session.threads == 1 for session in sessions)
    clock = time.thread_time if single else time.perf_counter
    taken: list[list[float]] = [[] for _ in sessions]
    for _ in range(2):
        for call in calls:
            call()
    end = time.perf_counter() + seconds
    while len(taken[0]) < (runs or 5) or (not runs and time.perf_counter() < end and len(taken[0]) < 2000):
        for call, times in zip(calls, taken, strict=True):
            start = clock()
            call()
            times.append(max(clock() - start, _TICK))
    return [Timing(min(times) * 1e3, statistics.median(times) * 1e3, len(times)) for times in taken]
