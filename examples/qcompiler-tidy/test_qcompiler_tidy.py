"""What an author tests: that each pass does what it should, and nothing else, and keeps the numbers."""

import numpy as np
import pytest
from qcompiler_tidy import MergeClips, TidyAbs, clip_of_clip, from_text, multiply

from qcompiler.testing import assert_keeps_numbers

CLIPS = "g (float[n,5] x) => (float[n,5] y) <float a = {%s}, float b = {%s}, float c = {%s}, float d = {%s}>" + (
    "{ t = Clip(x, a, b) y = Clip(t, c, d) }"
)


@pytest.mark.parametrize("bounds", [(-1, 1, 0, 6), (0, 6, -1, 1), (0, 1, 2, 3), (2, 3, 0, 1), (-1, 1, -1, 1)])
def test_two_clips_are_one(bounds):
    made = assert_keeps_numbers(clip_of_clip, CLIPS % bounds, times=1)
    assert [node.op_type for node in made.graph] == ["Clip"]


def test_bounds_the_wrong_way_round_are_left_alone():
    assert_keeps_numbers(MergeClips(), CLIPS % (0, 1, 3, 2), times=0)


def test_a_clip_that_others_use_stays():
    text = (CLIPS % (-1, 1, 0, 6)).replace("=> (float[n,5] y)", "=> (float[n,5] y, float[n,5] t)")
    assert_keeps_numbers(MergeClips(), text, times=0)


def test_division_by_a_power_of_two():
    text = "g (float[n,5] x) => (float[n,5] y) <float k = {%s}> { y = Div(x, k) }"
    made = assert_keeps_numbers(multiply(), text % 8, times=1)
    assert [node.op_type for node in made.graph] == ["Mul"]
    assert_keeps_numbers(multiply(), text % 3, times=0)
    assert_keeps_numbers(multiply(), text % -8, times=0)


def test_the_kernel_rounds_nothing_and_saturates():
    x = np.array([[-128, -127, 0, 127]], np.int8)
    (y,) = TidyAbs().reference([x], {})
    assert y.tolist() == [[127, 127, 0, 127]] and y.dtype == np.int8


def test_the_importer_reads_text(tmp_path):
    (tmp_path / "m.onnxtxt").write_text(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
    )
    assert [node.op_type for node in from_text(tmp_path / "m.onnxtxt").graph.node] == ["Neg"]
