"""Tasks over workers: in order, none lost, and what they share sent once to each."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from qcompiler.errors import ExecutorError, UsageError
from qcompiler.progress import Step
from qcompiler.workers import Pool, Shared, connected


def opened(payload: bytes) -> tuple[str, list[int]]:
    return payload.decode(), []


def work(state: tuple[str, list[int]], task: int) -> tuple[str, int, int]:
    state[1].append(task)
    return state[0], task, os.getpid()


def fail(state: tuple[str, list[int]], task: int) -> int:
    raise UsageError(f"task {task} of {state[0]}")


def die(state: tuple[str, list[int]], task: int) -> int:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_results_come_in_the_order_of_tasks() -> None:
    with ProcessPoolExecutor(2) as pool:
        found = list(Pool(pool).run(work, Shared(b"a model", opened), range(20), lambda task: ("here", task, 0)))
    assert [task for _, task, _ in found] == list(range(20))
    assert {text for text, _, _ in found} == {"a model"}


class Counting(ThreadPoolExecutor):
    def __init__(self) -> None:
        super().__init__(1)
        self.sent: list[int] = []

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.sent.append(sum(len(each) for each in args if isinstance(each, bytes)))
        return super().submit(fn, *args, **kwargs)


def test_what_tasks_share_is_sent_once_to_a_worker_that_lacks_it() -> None:
    with Counting() as pool:
        shared = Shared(b"x" * 1000, opened)
        run = Pool(pool)
        assert len(list(run.run(work, shared, range(10), lambda task: ("", task, 0)))) == 10
        assert sum(size == 1000 for size in pool.sent) == 1
        pool.sent.clear()
        list(run.run(work, shared, range(10), lambda task: ("", task, 0)))
        assert sum(pool.sent) == 0


def test_the_work_of_a_worker_that_dies_is_done_here() -> None:
    with ProcessPoolExecutor(1) as pool:
        done: list[int] = []
        found = list(Pool(pool).run(die, Shared(b"", opened), range(6), lambda task: done.append(task) or task))
    assert found == list(range(6))
    assert 3 in done


def test_what_work_raises_is_raised_here() -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(UsageError, match="task 0 of m"):
        list(Pool(pool).run(fail, Shared(b"m", opened), range(3), lambda task: 0))


def slow(state: tuple[str, list[int]], task: int) -> int:
    time.sleep(0.3)
    return task


def test_workers_work_at_the_same_time_from_the_first_task_on() -> None:
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(time.sleep, [0.2] * 4))  # all are there
        start = time.perf_counter()
        assert list(Pool(pool).run(slow, Shared(b"x" * 1000, opened), range(8), lambda task: -1)) == list(range(8))
        assert time.perf_counter() - start < 8 * 0.3 / 2


def test_a_worker_that_lacks_what_is_shared_is_sent_it() -> None:
    with Counting() as pool:
        shared, other = Shared(b"x" * 1000, opened), Shared(b"y" * 999, opened)
        run = Pool(pool)
        for each in (shared, other, shared):
            assert len(list(run.run(work, each, range(4), lambda task: ("", task, 0)))) == 4
        assert sum(size == 1000 for size in pool.sent) >= 2  # it was thrown out for the other


def test_a_worker_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcompiler.workers.pool.about", lambda: {"onnxruntime": "0.1", "machine": "here"})
    told = r"a worker has onnxruntime \d.*, and 0.1 is here; install the same"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool, pytest.raises(ExecutorError, match=told):
        list(Pool(pool).run(work, Shared(b"v", opened), range(3), lambda task: ("", task, 0)))


def test_workers_go_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, time\nfrom qcompiler.workers import connected\n"
        "if __name__ == '__main__':\n"
        "    with connected('processes:2') as pool:\n"
        "        pids = {pool.submit(os.getpid).result() for _ in range(8)}\n"
        "        print(*pids, flush=True)\n        time.sleep(60)\n"
    )
    (tmp_path / "main.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        process.kill()
    assert pids
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_steps_go_through_pickle() -> None:
    step = pickle.loads(pickle.dumps(Step("a", 1, 2)))
    assert (step, step.done, step.total) == ("a", 1, 2)


class Deserted(Executor):
    """Takes tasks, and nobody ever does them."""

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        return Future()

    def deserted(self) -> bool:
        return True


def test_an_executor_without_workers_is_not_waited_for() -> None:
    found = list(Pool(Deserted()).run(work, Shared(b"", opened), range(2), lambda task: ("here", task, 0)))
    assert found == [("here", 0, 0), ("here", 1, 0)]


def test_tasks_are_drawn_as_workers_take_them() -> None:
    drawn: list[int] = []

    def tasks() -> object:
        for index in range(100):
            drawn.append(index)
            yield index

    with ThreadPoolExecutor(2) as pool:
        results = Pool(pool).run(work, Shared(b"", opened), tasks(), lambda task: ("", task, 0))  # type: ignore[arg-type]
        next(results)
        assert len(drawn) <= 5
        results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("spec", ["", "threads", "processes:0", "processes:x", "dask", "dask:"])
def test_another_executor_is_a_usage_error(spec: str) -> None:
    with pytest.raises(UsageError, match="there is no executor"), connected(spec):
        pass


def test_processes_do_the_work() -> None:
    with connected("processes:1") as pool:
        assert pool is not None
        (found,) = Pool(pool).run(work, Shared(b"m", opened), [1], lambda task: ("here", task, 0))
    assert found[:2] == ("m", 1)
    assert found[2] != os.getpid()


def test_a_cluster_that_does_not_answer_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("qcompiler.workers.cluster._PATIENCE", 1.0)
    told = r"no Dask scheduler answers at tcp://127\.0\.0\.1:1:"
    with pytest.raises(ExecutorError, match=told), connected("dask:tcp://127.0.0.1:1"):
        pass
    with pytest.raises(ExecutorError, match="no Dask scheduler answers at nonsense"), connected("dask:nonsense"):
        pass
