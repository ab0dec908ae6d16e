"""The pass recover in recipes: between lossy passes, behind quantization, and where it has nothing to work with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler as qc
from qcompiler.compiler import find_recipe, passes
from qcompiler.errors import UsageError
from qcompiler.ir import clone_model
from qcompiler.onnx_io import to_bytes
from qcompiler.passes.recover import Recover
from qcompiler.pipeline import PassContext, Recipe
from qcompiler.training import Settings
from tests.training.models import images, net

OPTIONS = {"epochs": 8, "batch": 8, "learning_rate": 5e-3, "threads": 1}


def arrays(count: int = 96) -> dict[str, Any]:
    return {"x": np.concatenate([sample["x"] for sample in images(net(), count)])}


def recipe(tmp_path: Path, *entries: tuple[str, dict[str, Any]]) -> Path:
    known = passes()
    made = [known[name].configured(options) for name, options in entries]
    lossless = [item for item in find_recipe("lossless").passes if item.lossless]
    path = tmp_path / "recipe.toml"
    path.write_text(Recipe("mine", (*lossless, *made), "", True).to_toml(), encoding="utf-8")
    return path


def test_options_are_those_of_training_and_are_checked() -> None:
    assert set(Settings().__dataclass_fields__) < set(Recover().options())
    assert Recover.configured({"features": "auto,a=b", "seconds": "60"}).features == ("auto", "a=b")
    for options, told in (
        ({"epochs": 0}, "epochs has to be at least 1"),
        ({"labels": 2}, "labels is a part"),
        ({"optimizer": "lion"}, "optimizer is one of adamw, sgd"),
        ({"learning_rate": 0}, "learning_rate has to be above 0"),
        ({"sparsity": 1}, "sparsity is a share below 1"),
        ({"seconds": -1}, "seconds have to be above 0"),
        ({"l1": -1}, "l1 has to be 0 or more"),
        ({"warmth": 1}, "has no option 'warmth'"),
    ):
        with pytest.raises(UsageError, match=told):
            Recover.configured(options)
    with pytest.raises(UsageError, match="no regular expression"):
        Recover(exclude="(").run(net(), PassContext())


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    context = PassContext(data=images(net()), source=net())
    with pytest.raises(UsageError, match=r"torch, which is not installed; pip install 'qcompiler\[recover\]'"):
        Recover().run(net(), context)
    assert Recover(optional=True).run(net(), context) == 0
    assert "left out" in context.warnings[0] and "qcompiler[recover]" in context.warnings[0]
    with pytest.raises(UsageError, match=r"qcompiler\[recover\]"):
        qc.distill(to_bytes(net()), data=arrays())


def test_every_room_loads_without_torch() -> None:
    import subprocess

    code = (
        "import sys; sys.modules['torch'] = None; from qcompiler.compiler import passes, recipes; passes(); recipes()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_data_nothing_happens_and_it_is_told() -> None:
    pytest.importorskip("torch")
    context = PassContext(source=net())
    assert Recover().run(net(), context) == 0
    assert "needs data" in context.warnings[0]


def test_pruned_and_trained_is_closer_than_pruned(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    prune = ("prune-channels", {"ratio": 0.5, "multiple": 1, "refit": False})
    options: dict[str, Any] = {"data": arrays(), "min_sqnr": -99.0, "min_speedup": 0.0}
    source = to_bytes(net())
    alone = qc.compile(source, recipe=recipe(tmp_path, prune), **options).report
    both = qc.compile(source, recipe=recipe(tmp_path, prune, ("recover", OPTIONS)), **options)
    assert both.report["quality"]["outputs"]["y"]["sqnr_db"] > alone["quality"]["outputs"]["y"]["sqnr_db"] + 1
    assert both.report["compiled"]["parameters"] == alone["compiled"]["parameters"]
    told = both.report["passes"][-1]
    assert told["name"] == "recover" and told["status"] == "applied"
    assert told["details"]["training"]["kept"] >= 1 and told["details"]["training"]["learned"] == {"weight": 6}
    both.save(tmp_path / "build")
    assert "Training" in (tmp_path / "build" / "report.html").read_text(encoding="utf-8")


def test_behind_quantization_integers_and_scales_learn(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    entries = [("quantize-static", {}), ("recover", OPTIONS | {"learning_rate": 1e-3})]
    options: dict[str, Any] = {"data": arrays(), "min_sqnr": 1.0, "min_speedup": 0.0, "explain": False}
    made = qc.compile(to_bytes(net()), recipe=recipe(tmp_path, *entries), **options)
    told = made.report["passes"][-1]
    assert told["name"] == "recover"
    assert set(told["details"]["training"]["learned"]) >= {"levels", "scale"}
    assert "QuantizeLinear" in made.report["compiled"]["ops"]
    if told["status"] == "applied":
        assert told["sqnr_db"] == made.report["quality"]["outputs"]["y"]["sqnr_db"]
    else:
        assert told["status"] == "rolled-back" and "dB instead of" in told["reason"]
        assert made.report["quality"]["outputs"]["y"]["sqnr_db"] > told["sqnr_db"]


def test_order_of_passes_that_cannot_work_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": arrays(16)}
    with pytest.raises(UsageError, match="'prune-channels' stands behind 'quantize-static'"):
        path = recipe(tmp_path, ("quantize-static", {}), ("prune-channels", {"ratio": 0.5}))
        qc.compile(to_bytes(net()), recipe=path, **options)
    with pytest.raises(UsageError, match="'recover' stands in front of 'quantize-dynamic'"):
        path = recipe(tmp_path, ("quantize-static", {}), ("recover", {}), ("quantize-dynamic", {}))
        qc.compile(to_bytes(net()), recipe=path, **options)


def test_nothing_is_fitted_to_the_samples_that_judge(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    seen: list[Any] = []

    class Spy(Recover):
        name = "recover"

        def run(self, model: Any, context: PassContext) -> int:
            seen.append((len(context.data), len(context.held_out)))  # type: ignore[arg-type]
            return super().run(model, context)

    from qcompiler.pipeline import Pipeline

    path = recipe(tmp_path, ("recover", OPTIONS | {"epochs": 1}))
    assert qc.compile(to_bytes(net()), recipe=path, data=arrays(80), min_sqnr=-99.0).report["passes"][-1]["details"]
    context = PassContext(data=images(net(), 35), held_out=images(net(), 5), source=net())
    Pipeline([Spy(**OPTIONS)]).run(clone_model(net(0.3)), context)
    assert seen == [(35, 5)]
