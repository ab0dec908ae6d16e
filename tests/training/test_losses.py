"""Losses by their formulas, and what outputs hold."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.errors import UsageError
from tests.lower.models import model_of
from tests.training.models import net

torch = pytest.importorskip("torch", reason="the extra recover is not installed")

from qcompiler.training.features import match_features  # noqa: E402
from qcompiler.training.losses import Losses, feature_loss, relative, softened  # noqa: E402
from qcompiler.training.settings import Settings  # noqa: E402


def softmax(x: np.ndarray) -> np.ndarray:
    made = np.exp(x - x.max(-1, keepdims=True))
    return made / made.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_softened_answers_are_compared_by_kullback_leibler_times_the_squared_temperature(temperature: float) -> None:
    random = np.random.default_rng(0)
    student, teacher = random.standard_normal((2, 5, 7))
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    expected = temperature**2 * (p * np.log(p / q)).sum(-1).mean()
    found = softened(torch.tensor(student), torch.tensor(teacher), temperature)
    assert float(found) == pytest.approx(expected)
    assert float(softened(torch.tensor(student), torch.tensor(student), temperature)) == pytest.approx(0, abs=1e-12)


def test_probabilities_are_softened_like_the_scores_they_came_from() -> None:
    random = np.random.default_rng(1)
    student, teacher = (torch.tensor(each, dtype=torch.float32) for each in random.standard_normal((2, 5, 7)))
    model = model_of("g (float[n,7] x) => (float[n,7] y) { y = Softmax(x) }")
    losses = Losses(Settings(temperature=3.0), model, model, None)
    assert losses.kinds == {"y": ("probabilities", -1)}
    found = losses.of({"y": student.softmax(-1)}, {"y": teacher.softmax(-1)})
    assert float(found) == pytest.approx(float(softened(student, teacher, 3.0)), rel=1e-4)


def test_regression_is_relative_to_the_teachers_power_and_passes_over_infinities() -> None:
    teacher = torch.tensor([1.0, -3.0, float("inf"), float("nan")])
    student = torch.tensor([2.0, -3.0, 5.0, 5.0])
    assert float(relative(student, teacher)) == pytest.approx(1 / 10)


def test_features_of_other_channels_are_compared_by_the_maps_of_their_energy() -> None:
    random = np.random.default_rng(2)
    teacher, student = random.standard_normal((2, 6, 3, 3)), random.standard_normal((2, 4, 3, 3))
    maps = [np.square(item).sum(1).reshape(2, -1) for item in (student, teacher)]
    ours, theirs = (item / np.linalg.norm(item, axis=1, keepdims=True) for item in maps)
    found = feature_loss(torch.tensor(student), torch.tensor(teacher))
    assert float(found) == pytest.approx(np.square(ours - theirs).mean() / np.square(theirs).mean())


@pytest.mark.parametrize(
    ("text", "loss", "labels", "kind"),
    [
        ("{ y = Identity(x) }", "auto", None, ("regression", -1)),
        ("{ y = Identity(x) }", "auto", np.zeros(3, np.int64), ("logits", 1)),
        ("{ y = Identity(x) }", "kl", None, ("logits", 1)),
        ("{ y = Softmax(x) }", "mse", None, ("regression", -1)),
        ("{ a = LogSoftmax(x) y = Identity(a) }", "auto", None, ("log probabilities", -1)),
        ("{ a = Softmax<axis = 1>(x) y = Cast<to = 1>(a) }", "auto", None, ("probabilities", 1)),
    ],
)
def test_what_outputs_hold(text: str, loss: str, labels: np.ndarray | None, kind: tuple[str, int]) -> None:
    model = model_of(f"g (float[n,7] x) => (float[n,7] y) {text}")
    assert Losses(Settings(loss=loss), model, model, labels).kinds["y"] == kind


def test_labels_have_their_part_and_mixed_ones_two() -> None:
    model = model_of("g (float[n,3] x) => (float[n,3] y) { y = Identity(x) }")
    labels = np.array([0, 2])
    losses = Losses(Settings(labels=0.25), model, model, labels)
    scores = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]])
    teacher = torch.zeros(2, 3)
    cross = -np.log(softmax(scores.numpy())[[0, 1], labels])
    hard = cross.mean()
    soft = float(softened(scores, teacher, 2.0))
    found = losses.of({"y": scores}, {"y": teacher}, labels=torch.tensor(labels))
    assert float(found) == pytest.approx(0.25 * hard + 0.75 * soft, rel=1e-5)
    assert losses.right({"y": scores}, torch.tensor(labels)) == 1
    other = -np.log(softmax(scores.numpy())[[0, 1], [1, 1]])
    found = losses.of(
        {"y": scores}, {"y": scores}, labels=torch.tensor([[0, 1], [2, 1]]), mixed=torch.tensor([0.7, 1.0])
    )
    assert float(found) == pytest.approx(
        0.25 * (np.array([0.7, 1.0]) * cross + np.array([0.3, 0.0]) * other).mean(), rel=1e-5
    )


def test_labels_are_learned_beside_squared_errors_too() -> None:
    model = model_of("g (float[n,3] x) => (float[n,3] y) { y = Identity(x) }")
    losses = Losses(Settings(labels=0.5, loss="mse"), model, model, np.array([0, 2]))
    assert losses.kinds == {"y": ("regression", -1)} and losses.scored == ("y", "logits", 1)


def test_what_cannot_be_learned_from_is_told() -> None:
    model = net()
    with pytest.raises(UsageError, match="no labels"):
        Losses(Settings(labels=0.5), model, model, None)
    with pytest.raises(UsageError, match="without a teacher"):
        Losses(Settings(), None, model, np.zeros(3, np.int64))
    with pytest.raises(UsageError, match="learned as classes"):
        Losses(Settings(labels=0.5), model, model, np.zeros(3, np.float32))


@pytest.mark.parametrize("labels", [[0, 3], [0, -1], [0]])
def test_labels_that_do_not_go_with_the_answers_are_told(labels: list[int]) -> None:
    model = model_of("g (float[n,3] x) => (float[n,3] y) { y = Identity(x) }")
    losses = Losses(Settings(labels=1.0), model, model, np.array(labels))
    with pytest.raises(UsageError, match="do not go with 2 answers of 3 classes"):
        losses.of({"y": torch.zeros(2, 3)}, {}, labels=torch.tensor(labels))


def test_inner_tensors_are_matched_by_name_by_pairs_and_by_themselves() -> None:
    teacher, student = net(), net(0.1)
    names = [(one.name, two.name) for one, two in match_features(teacher, student, ["c", "a=r"])]
    assert names == [("c", "c"), ("a", "r")]
    assert {one.name for one, _ in match_features(teacher, student, ["auto"])} >= {"a", "c", "s"}
    for node in student.graph:  # names that say nothing: the order of shapes does
        node.output.name = f"t{node.output.name}" if node.output.name != "y" else "y"
    found = match_features(teacher, student, ["auto"])
    assert found and all(two.name == f"t{one.name}" for one, two in found)
    with pytest.raises(UsageError, match=r"the teacher has no inner tensor 'cc'; did you mean 'c'\?"):
        match_features(teacher, student, ["cc"])


@pytest.mark.parametrize(
    ("text", "loss", "kind"),
    [
        ("{ y = Identity(x) }", "kl", ("logits", -1)),
        ("{ a = Softmax<axis = -1>(x) y = Identity(a) }", "auto", ("probabilities", -1)),
        ("{ a = Softmax<axis = 2>(x) y = Cast<to = 1>(a) }", "auto", ("probabilities", 2)),
    ],
)
def test_classes_of_three_axes_are_where_the_softmax_says_or_last(text: str, loss: str, kind: tuple[str, int]) -> None:
    model = model_of(f"g (float[n,5,7] x) => (float[n,5,7] y) {text}")
    assert Losses(Settings(loss=loss), model, model, None).kinds["y"] == kind


def test_integers_are_not_imitated() -> None:
    model = model_of(
        "g (float[n,4] x) => (float[n,4] y) { s = Shape(x) t = Add(s, s) u = Concat<axis = 0>(s, t) r = Relu(x) y = Neg(r) }"
    )
    assert [one.name for one, _ in match_features(model, model, ["auto"])] == ["r"]
