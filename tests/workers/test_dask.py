"""A real Dask cluster of two workers: the same bits as one process, also when one of them is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import qcompiler as qc
from qcompiler.compiler import sensitivity
from qcompiler.errors import ExecutorError
from qcompiler.workers import connected

distributed = pytest.importorskip("distributed")

ROOT = Path(__file__).resolve().parents[2]
MODEL, DATA = ROOT / "models" / "digits-resnet.onnx", ROOT / "models" / "digits-calib.npz"


class Cluster:
    """A scheduler and workers, each a process of its own on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self._start("scheduler", "--port", "0", "--no-dashboard", "--no-jupyter", "--scheduler-file", str(file))
        for _ in range(300):
            if file.exists() and file.stat().st_size:
                break
            time.sleep(0.1)
        self.address = str(json.loads(file.read_text())["address"])

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]]
        with (self.folder / f"log-{len(self.processes)}").open("wb") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def add_worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")

    def wait_for(self, count: int) -> None:
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def stop(self) -> None:
        for process in self.processes[::-1]:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.stop()


RECIPE = ROOT / "tests" / "workers" / "static.toml"


def compiled(**options: object) -> qc.Result:
    """By size: then no decision hangs on a clock. The bar is high, so that groups are judged alone."""
    return qc.compile(MODEL, data=str(DATA), recipe=RECIPE, samples=24, min_speedup=0, min_sqnr=47, **options)  # type: ignore[arg-type]


def bits(result: qc.Result, folder: Path) -> bytes:
    return (result.save(folder) / "model.onnx").read_bytes()


def test_a_cluster_gives_the_same_bits_and_a_worker_that_is_killed_is_survived(
    cluster: Cluster, tmp_path: Path
) -> None:
    alone = compiled()
    cluster.add_worker()
    victim = cluster.add_worker()
    cluster.wait_for(2)
    said: list[str] = []

    def progress(text: str) -> None:
        said.append(text)
        if text.startswith("sensitivity of group 3 "):
            os.kill(victim.pid, signal.SIGKILL)

    together = compiled(executor=f"dask:{cluster.address}", progress=progress)
    assert victim.wait(10) == -signal.SIGKILL, "it was killed in the middle"
    assert bits(together, tmp_path / "b") == bits(alone, tmp_path / "a")
    assert together.report["quality"] == alone.report["quality"]
    assert [layer["sqnr_db"] for layer in together.report["layers"]] == [
        layer["sqnr_db"] for layer in alone.report["layers"]
    ]


def test_when_all_workers_die_the_work_is_done_here(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcompiler.workers.cluster._PATIENCE", 2.0)
    worker = cluster.add_worker()
    cluster.wait_for(1)

    def progress(text: str) -> None:
        if text.startswith("sensitivity of group 2 "):
            os.kill(worker.pid, signal.SIGKILL)

    rows = sensitivity(
        MODEL, str(DATA), recipe=RECIPE, samples=16, executor=f"dask:{cluster.address}", progress=progress
    )
    alone = sensitivity(MODEL, str(DATA), recipe=RECIPE, samples=16)
    assert worker.wait(10) == -signal.SIGKILL
    assert {row.node: row.sqnr_db for row in rows} == {row.node: row.sqnr_db for row in alone}


def test_when_the_scheduler_dies_the_work_is_done_here(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("qcompiler.workers.cluster._PATIENCE", 2.0)
    cluster.add_worker()
    cluster.wait_for(1)

    def progress(text: str) -> None:
        if text.startswith("sensitivity of group 2 "):
            cluster.processes[0].kill()

    rows = sensitivity(
        MODEL, str(DATA), recipe=RECIPE, samples=16, executor=f"dask:{cluster.address}", progress=progress
    )
    alone = sensitivity(MODEL, str(DATA), recipe=RECIPE, samples=16)
    assert {row.node: row.sqnr_db for row in rows} == {row.node: row.sqnr_db for row in alone}
    assert "Traceback" not in capfd.readouterr().err


def test_a_cluster_without_workers_is_an_error(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcompiler.workers.cluster._PATIENCE", 1.0)
    told = r"has no workers; start one with `dask worker tcp://"
    with pytest.raises(ExecutorError, match=told), connected(f"dask:{cluster.address}"):
        pass


def test_processes_give_the_same_bits(tmp_path: Path) -> None:
    assert bits(compiled(executor="processes:2"), tmp_path / "b") == bits(compiled(), tmp_path / "a")
