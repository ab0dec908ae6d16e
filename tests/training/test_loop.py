"""Training: it learns, what has to stay stays, it never ends worse than it began, and a kill costs one epoch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.errors import TrainingError, UsageError
from qcompiler.ir import Model, clone_model, difference
from qcompiler.onnx_io import open_session, to_bytes
from qcompiler.training import Settings
from tests.lower.models import model_of
from tests.training.models import images, net
from tests.training.test_quantizer import clustered

torch = pytest.importorskip("torch", reason="the extra recover is not installed")

from qcompiler.training.loop import train  # noqa: E402
from qcompiler.training.normalization import fold_normalization, restore_normalization  # noqa: E402

QUICK: dict[str, Any] = {"epochs": 6, "batch": 8, "learning_rate": 5e-3, "threads": 1}


def weights(model: Model) -> dict[str, np.ndarray]:
    return {value.name: value.constant.numpy() for value in model.graph.constants}


def error(teacher: Model, student: Model, data: Any) -> float:
    one, two = open_session(teacher), open_session(student)
    pairs = [(one.run(sample)["y"], two.run(sample)["y"]) for sample in data]
    return float(sum(np.square(a - b).sum() for a, b in pairs) / sum(np.square(a).sum() for a, _ in pairs))


def test_a_student_learns_what_the_teacher_knows_without_labels() -> None:
    teacher, student = net(), net(0.3)
    fresh = images(teacher, 32, seed=9)
    before = error(teacher, student, fresh)
    found = train(student, teacher, images(teacher), Settings(**QUICK))
    assert found.kept > 0 and found.changed == 6 and found.learned == {"weight": 6}
    assert error(teacher, student, fresh) < 0.25 * before
    assert found.history[found.kept].held_out == min(epoch.held_out for epoch in found.history)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "schedule": "linear"}, {"schedule": "constant", "weight_decay": 0.01},
        {"features": ("auto",)}, {"precision": "bfloat16"}, {"loss": "kl"}, {"flip": True, "crop": 1, "mixup": True},
        {"batch_norm": "restore"}, {"batch_norm": "frozen"}, {"hold_out": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_every_way_learns(options: dict[str, Any]) -> None:
    teacher, student = net(), net(0.3)
    before = error(teacher, student, images(teacher))
    found = train(student, teacher, images(teacher), Settings(**QUICK | options))
    assert found.kept > 0
    if options.get("loss") != "kl":  # scores may all be shifted
        assert error(teacher, student, images(teacher)) < 0.7 * before


def test_labels_alone_teach() -> None:
    student = net()
    data = images(student, 64, labels=True)
    found = train(student, None, data, Settings(**QUICK | {"labels": 1.0, "epochs": 30, "hold_out": 0.0}))
    assert found.history[found.kept].right > found.history[0].right + 0.1


def test_the_same_seed_gives_the_same_bits() -> None:
    made = []
    for _ in range(2):
        student = net(0.3)
        train(student, net(), images(student), Settings(**QUICK | {"epochs": 2}), seed=3)
        made.append(to_bytes(student))
    assert made[0] == made[1]


def test_what_is_no_better_changes_nothing() -> None:
    teacher, student = net(), net()
    found = train(student, teacher, images(teacher), Settings(**QUICK | {"epochs": 2}))
    assert found.kept == 0 and found.changed == 0
    assert difference(teacher, student) == ""


def test_a_diverging_loss_ends_it_and_the_best_before_is_kept() -> None:
    student, before = net(0.3), net(0.3)
    options = QUICK | {"learning_rate": 1e6, "optimizer": "sgd", "schedule": "constant", "epochs": 50}
    found = train(student, net(), images(student), Settings(**options))
    assert "diverged in epoch" in found.reason and len(found.history) < 50
    if not found.kept:
        assert difference(before, student) == ""


def test_patience_and_seconds_end_it() -> None:
    found = train(net(), net(), images(net()), Settings(**QUICK | {"epochs": 50, "patience": 3}))
    assert found.reason == "nothing better in 3 epochs" and len(found.history) == 4
    found = train(net(0.3), net(), images(net()), Settings(**QUICK | {"epochs": 50, "seconds": 1e-6}))
    assert found.reason == "1e-06 seconds were over" and len(found.history) == 2


def test_zeros_stay_zeros() -> None:
    student = net(0.3)
    value = next(value for value in student.graph.constants if value.name == "w2")
    mask = np.random.default_rng(0).random(value.constant.shape) < 0.5
    from qcompiler.ir import tensor

    value.const = tensor(np.where(mask, 0, value.constant.numpy()).astype(np.float32))
    found = train(student, net(), images(student), Settings(**QUICK))
    assert found.kept
    np.testing.assert_array_equal(weights(student)["w2"] == 0, mask)


def test_assignments_to_clusters_stay_and_centroids_learn() -> None:
    teacher, student = clustered(), clustered()
    book = next(value for value in student.graph.constants if value.name == "book")
    from qcompiler.compiler import input_specs
    from qcompiler.data import open_dataset
    from qcompiler.ir import tensor

    book.const = tensor(np.array([-0.3, 0.0, 0.4, 0.8], np.float32))
    rows = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)
    data = open_dataset({"x": rows}, input_specs(teacher))
    before = error(teacher, student, data)
    train(student, teacher, data, Settings(**QUICK | {"epochs": 20, "learning_rate": 0.02}))
    ours, theirs = weights(student), weights(teacher)
    np.testing.assert_array_equal(ours["indices"], theirs["indices"])
    assert ours["book"][1] == 0 and not np.array_equal(ours["book"], [-0.3, 0.0, 0.4, 0.8])
    assert error(teacher, student, data) < 0.05 * before


@pytest.mark.parametrize(("option", "strength"), [("l1", 3.0), ("group_lasso", 3.0), ("sparsity", 0.75)])
def test_penalties_leave_zeros(option: str, strength: float) -> None:
    student = net()
    found = train(student, net(), images(student), Settings(**QUICK | {option: strength, "epochs": 10}))
    made = [array for array in weights(student).values() if array.ndim > 1]
    zeros = sum((array == 0).sum() for array in made) / sum(array.size for array in made)
    assert found.kept == 10  # the last one, whatever it answers
    if option == "sparsity":
        assert zeros == pytest.approx(0.75, abs=0.02)
    else:
        assert 0.02 < zeros < 1
    if option == "group_lasso":
        rows = [array for array in made if (array.reshape(len(array), -1) == 0).all(1).any()]
        assert rows, "no channel died as a whole"


def normalized() -> Model:
    return model_of(
        """g (float[n,3,8,8] x) => (float[n,4] y)
        <float[8,3,3,3] w1, float[8] scale, float[8] shift, float[8] mean, float[8] variance, float[4,8] w3, float[4] b3> {
            a = Conv<pads = [1, 1, 1, 1]>(x, w1) n = BatchNormalization(a, scale, shift, mean, variance) r = Relu(n)
            g = GlobalAveragePool(r) f = Flatten(g) y = Gemm<transB = 1>(f, w3, b3) }""",
        w1=(8, 3, 3, 3), scale=(8,), shift=(8,), mean=(8,), variance=(8,), w3=(4, 8), b3=(4,),
    )  # fmt: skip


def test_batch_normalization_is_trained_or_left_frozen() -> None:
    from qcompiler.ir import tensor

    for how, moves in (("train", True), ("frozen", False)):
        model = normalized()
        for value in model.graph.constants:
            if value.name == "variance":
                value.const = tensor(np.full(8, 2.0, np.float32))
        data = images(model, 32, labels=True)
        before = weights(model)
        train(model, None, data, Settings(**QUICK | {"batch_norm": how, "labels": 1.0, "epochs": 3, "hold_out": 0.0}))
        after = weights(model)
        assert np.array_equal(before["mean"], after["mean"]) != moves
        assert not np.array_equal(before["scale"], after["scale"])


def test_scales_of_batch_normalization_die_by_their_penalty() -> None:
    model = normalized()
    from qcompiler.ir import tensor

    next(value for value in model.graph.constants if value.name == "variance").const = tensor(np.ones(8, np.float32))
    data = images(model, 32, labels=True)
    options = QUICK | {"scale_l1": 20.0, "labels": 1.0, "epochs": 20}
    train(model, None, data, Settings(**options))
    assert (weights(model)["scale"] == 0).any()


def test_a_restored_normalization_changes_nothing_and_folds_away() -> None:
    model, original = net(), net()
    data = images(model, 16)
    assert restore_normalization(model, data) == 2
    assert [node.op_type for node in model.graph].count("BatchNormalization") == 2
    assert error(original, model, data) < 1e-10
    assert fold_normalization(model) == 2
    assert [node.op_type for node in model.graph] == [node.op_type for node in original.graph]
    assert error(original, model, data) < 1e-10


def test_interfaces_that_differ_are_told() -> None:
    other = model_of("g (float[n,3,8,8] x) => (float[n,5] y) <float[5,192] w> { f = Flatten(x) y = Gemm<transB = 1>(f, w) }",
                     w=(5, 192))  # fmt: skip
    with pytest.raises(UsageError, match=r"'y' is float\[n, 5\] in the student and float\[n, 4\] in the teacher"):
        train(other, net(), images(net()), Settings(**QUICK))
    renamed = net()
    renamed.graph.outputs[0].name = "z"
    with pytest.raises(UsageError, match="the student's outputs are z, the teacher's y"):
        train(renamed, net(), images(net()), Settings(**QUICK))


def test_a_model_without_real_outputs_has_nothing_to_learn() -> None:
    model = model_of("g (float[n,4] x) => (int64[n] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }")
    from qcompiler.compiler import input_specs
    from qcompiler.data import open_dataset

    data = open_dataset({"x": np.ones((4, 4), np.float32)}, input_specs(model))
    with pytest.raises(TrainingError, match="nothing to learn from"):
        train(clone_model(model), model, data, Settings(**QUICK))


SCRIPT = """
import sys
from pathlib import Path
from qcompiler.onnx_io import load, save, infer_types
from qcompiler.training import Settings
from qcompiler.training.loop import train
from tests.training.models import images, net
folder = Path(sys.argv[1])
student = net(0.3)
options = dict(epochs=int(sys.argv[2]), batch=4, learning_rate=5e-3, threads=1, device="cpu")
train(student, net(), images(student, 64), Settings(**options), folder=folder / "state", progress=lambda text: print(text, flush=True))
import os
if os.environ.get("RANK", "0") == "0":
    save(student, folder / "student.onnx")
"""


def launched(folder: Path, *more: str, epochs: int = 12) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, *more, str(script), str(folder), str(epochs)], text=True, cwd=root,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> str:
    """What it printed, when it has ended well."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def test_killed_at_half_it_goes_on_to_the_same_file(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    finished(launched(whole))
    with launched(killed) as run:
        for line in run.stdout:
            if "epoch 6/12" in line:
                run.send_signal(signal.SIGKILL)
                break
    assert not (killed / "student.onnx").exists()
    told = finished(launched(killed))
    assert "going on behind epoch" in told and "epoch 1/12" not in told
    assert (killed / "student.onnx").read_bytes() == (whole / "student.onnx").read_bytes()


def test_a_state_of_another_training_is_left_alone(tmp_path: Path) -> None:
    lines: list[str] = []
    for seed in (0, 1):
        train(net(0.3), net(), images(net()), Settings(**QUICK), seed=seed, folder=tmp_path, progress=lines.append)
    assert len(list(tmp_path.iterdir())) == 2
    assert not any("going on" in line for line in lines)
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    found = train(net(0.3), net(), images(net()), Settings(**QUICK), folder=tmp_path)
    assert len(found.history) == 7


@pytest.mark.long
def test_two_processes_share_the_batches_and_agree_with_one(tmp_path: Path) -> None:
    pytest.importorskip("torch.distributed.run")
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    finished(launched(alone, epochs=3))
    finished(launched(together, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", epochs=3))
    from qcompiler.onnx_io import load

    ours, theirs = weights(load(together / "student.onnx")), weights(load(alone / "student.onnx"))
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=5e-2, atol=5e-3)


def test_what_torch_takes_one_by_one_learns_one_by_one() -> None:
    """Several samples at once do not go through the Reshape: that must not cut gradients of single ones."""
    from qcompiler.compiler import input_specs
    from qcompiler.data import open_dataset
    from qcompiler.ir import tensor

    model = model_of(
        """g (float[1,4,4] x) => (float[2,2,3] y) <float[4,4] w, float[4,3] v, int64[3] s> {
            a = MatMul(x, w) r = Reshape(a, s) y = MatMul(r, v) }""",
        w=(4, 4), v=(4, 3), s=(3,),
    )  # fmt: skip
    next(value for value in model.graph.constants if value.name == "s").const = tensor(np.array([2, 2, 4], np.int64))
    student = clone_model(model)
    for value in student.graph.constants:
        if value.name != "s":
            value.const = tensor(value.constant.numpy() * np.float32(1.3))
    rows = np.random.default_rng(0).standard_normal((32, 1, 4, 4)).astype(np.float32)
    data = open_dataset([{"x": each} for each in rows], input_specs(model))
    found = train(student, model, data, Settings(**QUICK))
    assert found.elsewhere == {} and found.kept and found.changed == 2


def test_other_labels_or_other_judges_are_another_training(tmp_path: Path) -> None:
    lines: list[str] = []
    options = Settings(**QUICK | {"labels": 1.0, "epochs": 1})
    data = images(net(), 48, labels=True)
    train(net(), None, data, options, folder=tmp_path, progress=lines.append)
    data.labels = (data.labels + 1) % 4
    train(net(), None, data, options, folder=tmp_path, progress=lines.append)
    train(net(), None, data, options, judge=images(net(), 8, labels=True), folder=tmp_path, progress=lines.append)
    assert len(list(tmp_path.iterdir())) == 3 and not any("going on" in line for line in lines)


def test_biases_and_what_no_gradient_reaches_are_not_pruned() -> None:
    model = model_of(
        """g (float[n,4] x) => (float[n,4] y) <float[4,4] w, float[1,4] b, float[4,4] v> {
            h = MatMul(x, w) a = Add(h, b) d = MatMul(x, v) q = ArgMax<axis = 1>(d) c = Cast<to = 1>(q)
            z = Mul(c, c) y = Add(a, z) }""",
        w=(4, 4), b=(1, 4), v=(4, 4),
    )  # fmt: skip
    from qcompiler.compiler import input_specs
    from qcompiler.data import open_dataset

    data = open_dataset({"x": np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)}, input_specs(model))
    student = clone_model(model)
    found = train(student, model, data, Settings(**QUICK | {"sparsity": 0.5}))
    made = weights(student)
    assert (made["w"] == 0).mean() == 0.5
    assert not (made["b"] == 0).any() and not (made["v"] == 0).any()
    assert found.frozen == {"v": "no gradient reached it"} and found.learned == {"weight": 2}


def test_constants_of_loops_are_listed() -> None:
    from qcompiler.training.learnable import plan

    model = model_of(
        """g (float[n,4] x, int64 m, bool c) => (float[n,4] y) <float[4,4] w> {
            y = Loop(m, c, x) <body = b (int64 i, bool k, float[n,4] h) => (bool k2, float[n,4] h2) {
                k2 = Identity(k) v = Constant<value = float[4] {1, 2, 3, 4}>() s = Mul(h, v) h2 = MatMul(s, w) }> }""",
        w=(4, 4),
    )
    from qcompiler.ir import tensor

    (body,) = [graph for graph in model.graphs() if graph.owner is not None]
    body.add_constant(tensor(np.ones((4, 4), np.float32)), "inner")
    assert "inner" in plan(model).frozen


def test_batches_of_one_do_not_normalize() -> None:
    from qcompiler.compiler import input_specs
    from qcompiler.data import open_dataset

    model = normalized()
    random = np.random.default_rng(0)
    records = [
        {"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32), "label": np.array([i % 4])} for i in range(32)
    ]
    from qcompiler.ir import tensor
    from qcompiler.training.checkpoint import Checkpoint
    from qcompiler.training.loop import _Run
    from qcompiler.training.workers import Workers

    next(value for value in model.graph.constants if value.name == "variance").const = tensor(np.ones(8, np.float32))
    data = open_dataset(records, input_specs(model))
    run = _Run(model, None, data, None, Settings(labels=1.0), 0, Checkpoint(None, ""), Workers(), lambda _: None)
    assert run.at_once and run.normalizes
    run.module.batch_statistics = True
    run.at_once = False
    run._gradients(run.module, next(run.samples.shuffled(range(32), 0, 1)))
    assert not run.module.batch_statistics
