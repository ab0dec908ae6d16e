"""Programs on the processor, and what is said where there is no card."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from qcompiler.errors import LoweringError, UsageError
from qcompiler.kernels import KERNELS
from qcompiler.lower import open_program
from qcompiler.lower.cuda import program_of
from qcompiler.onnx_io import open_session
from qcompiler.runtime import Executor, KernelStep, Session, no_card
from qcompiler.runtime.driver import Driver, missing_driver
from tests.lower.models import model_of
from tests.lower.test_cuda import build, lowered

needs_no_card = pytest.mark.skipif(not no_card(), reason="there is a card here")


def test_wrong_feeds_are_named() -> None:
    made, samples = lowered(build("relu between"))
    program = open_program(made)
    with pytest.raises(LoweringError, match="input 'x' is not fed"):
        program.run({})
    with pytest.raises(LoweringError, match="no input 'y'"):
        program.run({**samples[0], "y": samples[0]["x"]})


def test_a_way_to_run_kernels_that_is_none() -> None:
    with pytest.raises(UsageError, match="by 'magic'"):
        Executor(program_of(lowered(build("relu between"))[0]), kernels="magic")


def test_values_are_let_go_when_nobody_needs_them() -> None:
    made, samples = lowered(build("pooling and joining"))
    program = program_of(made)
    seen: list[int] = []
    executor = Executor(program)
    executor._walk(samples[0], lambda index, step, values: seen.append(len(values) - len(program.constants)))
    assert max(seen) <= 5  # of nine


def test_a_body_runs_alone_as_the_kernel_does() -> None:
    """What a card falls back to: a model of the one node, everything that it reads fed."""
    made, samples = lowered(build("residual before the activation"))
    program = program_of(made)
    values = {**program.constants, **samples[0]}
    for step in program.steps:
        if isinstance(step, KernelStep):
            session = Session(step.body(), optimize=False)
            given = {spec.name: values[spec.name] for spec in session.inputs}
            arrays = KERNELS[step.op].complete([values[name] if name else None for name in step.inputs])
            for name, wanted in zip(step.outputs, KERNELS[step.op].reference(arrays, step.attributes), strict=True):
                found = session.run(given)[name]
                assert found.dtype == wanted.dtype
                assert np.allclose(found, wanted, atol=1 if found.dtype == np.int8 else 1e-5)
                values[name] = wanted


def test_a_model_without_kernels_is_one_session() -> None:
    model = model_of("g (float[1,8,9,7] x) => (float[1,8,9,7] y) { a = Relu(x) y = Neg(a) }")
    program = open_program(model)
    feed = {"x": np.ones((1, 8, 9, 7), np.float32)}
    assert np.array_equal(program.run(feed)["y"], open_session(model).run(feed)["y"])
    assert len(program_of(model).steps) == 1


@needs_no_card
def test_without_a_card_it_says_so_once_and_runs() -> None:
    made, samples = lowered(build("relu between"))
    said: list[str] = []
    open_program(made, tell=said.append).run(samples[0])
    assert len(said) == 1 and said[0].startswith("runs on the processor: ")
    with pytest.raises(LoweringError, match="no card to run on"):
        open_program(made, device="cuda")


@needs_no_card
def test_the_driver_says_what_is_missing() -> None:
    assert missing_driver()
    with pytest.raises(LoweringError):
        Driver()


def test_the_driver_names_the_extra_where_cuda_python_is_missing() -> None:
    code = (
        "import sys; sys.modules['cuda.bindings'] = None\n"
        "from qcompiler.runtime.driver import missing_driver; print(missing_driver())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "cuda-python is not installed\n"
