"""What each command prints and leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest


def test_compile_leaves_what_the_interface_promises(command: Any, folder: Path) -> None:
    done = command("compile", "model.onnx", "-o", "build", "--data", "data.npz", "--min-speedup", "0", cwd=folder)
    assert done.status == 0, done.err
    assert "build/report.html" in done.out
    build = folder / "build"
    assert {item.name for item in build.iterdir()} == {
        "model.onnx",
        "report.json",
        "report.html",
        "recipe.toml",
        "trace.json",
    }
    report = json.loads((build / "report.json").read_text())
    assert report["schema"] == 1
    assert report["compiled"]["bytes"] == (build / "model.onnx").stat().st_size
    assert report["decision"]["kept"] == "int8"
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(report["compiled"]["ops"])
    session = onnxruntime.InferenceSession(str(build / "model.onnx"))
    assert [item.name for item in session.get_outputs()] == ["scores"]
    assert session.get_inputs()[0].shape == ["n", 3, 16, 16]


def test_the_resolved_recipe_makes_the_same_model(command: Any, folder: Path) -> None:
    words = ("--data", "data.npz", "--min-speedup", "0", "--set", "quantize-static.ranges=percentile", "-q")
    assert command("compile", "model.onnx", "-o", "first", *words, cwd=folder).status == 0
    again = command(
        "compile", "model.onnx", "-o", "second", "--recipe", "first/recipe.toml", "--data", "data.npz", "-q", cwd=folder
    )
    assert again.status == 0, again.err
    assert (folder / "first/model.onnx").read_bytes() == (folder / "second/model.onnx").read_bytes()


def test_without_data_the_line_says_what_data_would_buy(command: Any, folder: Path) -> None:
    done = command("compile", "model.onnx", "-o", "build", "-q", cwd=folder)
    assert done.status == 0
    assert "--data" in done.err
    assert json.loads((folder / "build/report.json").read_text())["recipe"] == "lossless"


def test_json_is_one_document(command: Any, folder: Path) -> None:
    for words in (
        ("compile", "model.onnx", "-o", "build", "--json"),
        ("inspect", "model.onnx", "--json"),
        ("diff", "model.onnx", "build", "--data", "data.npz", "--json"),
        ("bench", "model.onnx", "build", "--runs", "5", "--json"),
        ("sensitivity", "model.onnx", "--data", "data.npz", "--samples", "8", "--json"),
        ("passes", "--json"),
        ("targets", "--json"),
        ("recipes", "--json"),
    ):
        done = command(*words, cwd=folder)
        assert done.status == 0, (words, done.err)
        json.loads(done.out)


def test_inspect_tells_what_is_in_a_model(command: Any, folder: Path) -> None:
    found = json.loads(command("inspect", "model.onnx", "--json", cwd=folder).out)
    assert found["nodes"] == 5
    assert found["parameters"] == 8 * 27 + 8 + 32
    assert found["macs"] == 16 * 16 * 8 * 27 + 32
    assert found["dynamic_axes"] == ["n"]
    assert len(found["quantizable"]["groups"]) == 2


def test_diff_of_a_model_with_itself_is_exact(command: Any, folder: Path) -> None:
    found = json.loads(command("diff", "model.onnx", "model.onnx", "--data", "data.npz", "--json", cwd=folder).out)
    assert found["agreement"] == 1.0
    assert found["outputs"]["scores"]["max_abs"] == 0
    assert set(found["tensors"]) == {"c", "r", "p", "f"}


def test_run_writes_the_outputs(command: Any, folder: Path) -> None:
    assert command("run", "model.onnx", "--data", "data.npz", "-o", "out.npz", "-q", cwd=folder).status == 0
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    (expected,) = session.run(None, {"image": np.load(folder / "data.npz")["image"]})
    np.testing.assert_allclose(np.load(folder / "out.npz")["scores"], expected, rtol=1e-4, atol=1e-5)


def test_run_writes_outputs_of_any_name(command: Any, folder: Path) -> None:
    import onnx

    model = onnx.load(folder / "model.onnx")
    model.graph.node[-1].output[0] = model.graph.output[0].name = "file"
    onnx.save(model, folder / "renamed.onnx")
    done = command("run", "renamed.onnx", "--data", "data.npz", "-o", "out.npz", "-q", cwd=folder)
    assert done.status == 0, done.err
    assert np.load(folder / "out.npz")["file"].shape == (16, 4)


def test_inspect_takes_a_folder_that_compile_made(command: Any, folder: Path) -> None:
    assert command("compile", "model.onnx", "-o", "build", "-q", cwd=folder).status == 0
    assert command("inspect", "build", cwd=folder).status == 0


def test_exclude_keeps_a_node_in_float(command: Any, folder: Path) -> None:
    words = ("--data", "data.npz", "--min-speedup", "0", "--exclude", "Conv", "-q", "--json")
    report = json.loads(command("compile", "model.onnx", "-o", "build", *words, cwd=folder).out)
    conv = next(item for item in report["layers"] if item["op"] == "Conv")
    assert conv["choice"] == "float"
    assert "excluded" in conv["reason"]


@pytest.mark.parametrize(
    "name",
    ["compile", "inspect", "diff", "bench", "sensitivity", "run", "pack", "unpack", "passes", "targets", "recipes"],
)
def test_help_has_an_example(command: Any, folder: Path, name: str) -> None:
    done = command(name, "--help", cwd=folder)
    assert done.status == 0
    assert f"qcompiler {name}" in re.split("Examples?:", done.out)[1]


def test_metric_and_its_limit(command: Any, folder: Path) -> None:
    words = ("--data", "data.npz", "--metric", "top1", "--max-drop", "1.0", "--min-speedup", "0", "-q", "--json")
    report = json.loads(command("compile", "model.onnx", "-o", "build", *words, cwd=folder).out)
    assert report["quality"]["metric"]["name"] == "top1"
    assert {"name": "max_drop", "passed": True}.items() <= report["gates"][-1].items()


def test_what_was_pruned_is_in_the_report_and_goes_again(command: Any, folder: Path) -> None:
    words = ("--data", "data.npz", "--min-speedup", "0", "--min-sqnr", "-99", "-q")
    settings = ("--set", "prune-channels.ratio=0.63", "--set", "prune-channels.multiple=1", "--set")
    done = command(
        "compile",
        "model.onnx",
        "-o",
        "one",
        "--recipe",
        "prune",
        *words,
        *settings,
        "prune-channels.macs=1",
        cwd=folder,
    )
    assert done.status == 0, done.err
    report = json.loads((folder / "one/report.json").read_text())
    (record,) = [item for item in report["passes"] if item["name"] == "prune-channels"]
    (group,) = record["details"]["groups"]
    assert (group["units"], group["kept"]) == (8, 5)
    remaining = [point["remaining"] for point in record["details"]["curve"]["points"]]
    assert len(remaining) >= 4  # two amounts may come to the same widths
    assert remaining == sorted(remaining, reverse=True)
    assert f"{group['name']}={group['removed']}" in (folder / "one/recipe.toml").read_text()
    again = command("compile", "model.onnx", "-o", "two", "--recipe", "one/recipe.toml", *words, cwd=folder)
    assert again.status == 0, again.err
    assert (folder / "one/model.onnx").read_bytes() == (folder / "two/model.onnx").read_bytes()
    told = command("explain", "one", cwd=folder).out
    assert group["removed"] in told
    about = command("explain", "one", group["nodes"][0], cwd=folder).out
    assert "lost 3 of 8 units" in about
    page = (folder / "one/report.html").read_text()
    assert 'id="pruning"' in page
    assert "<polyline" in page


def test_groups_are_printed_and_drawn(command: Any, folder: Path) -> None:
    done = command("inspect", "model.onnx", "--groups", "--dot", "groups.dot", cwd=folder)
    assert done.status == 0, done.err
    assert "100.0 % of the 248 convolution and linear weights lie in groups" in done.out
    drawing = (folder / "groups.dot").read_text()
    assert drawing.startswith("digraph model {")
    assert (
        drawing.count('fillcolor="1"') == 2
    )  # the convolution that gives the channels and the product that reads them
    assert command("inspect", "model.onnx", "--dot", "groups.dot", cwd=folder).status == 2
    assert command("inspect", "model.onnx", "--groups", "--dot", "no/where.dot", cwd=folder).status == 1


def test_sensitivity_to_pruning(command: Any, folder: Path) -> None:
    done = command("sensitivity", "model.onnx", "--data", "data.npz", "--prune", "0.5", "--json", "-q", cwd=folder)
    assert done.status == 0, done.err
    (group,) = json.loads(done.out)["groups"]
    assert (group["units"], group["removed"]) == (8, 4)
    assert 0.4 < group["macs"] < 0.6
    assert group["sqnr_db"] is not None
    for words in (("--prune", "1.5"), ("--prune", "0"), ("--prune", "0.5", "--recipe", "int8")):
        assert command("sensitivity", "model.onnx", "--data", "data.npz", *words, cwd=folder).status == 2


def test_units_that_are_not_there_are_told_and_nothing_is_written(command: Any, folder: Path) -> None:
    for setting, why in (("removed=nosuch=0", "no group"), ("exclude=(", "regular expression")):
        done = command(
            "compile", "model.onnx", "-o", "build", "--recipe", "prune", "--data", "data.npz", "-q",
            "--set", f"prune-channels.{setting}", cwd=folder,
        )  # fmt: skip
        assert done.status == 2
        assert why in done.err
        assert not (folder / "build").exists()


def test_one_number_is_a_list_of_one(command: Any, folder: Path) -> None:
    recipe = 'needs_data = true\n[[pass]]\nname = "prune-channels"\nratio = 0.75\nmultiple = 1\ncurve = 0.5\n'
    (folder / "r.toml").write_text(recipe)
    done = command(
        "compile", "model.onnx", "-o", "build", "--recipe", "r.toml", "--data", "data.npz", "-q",
        "--min-sqnr", "-99", "--min-speedup", "0", cwd=folder,
    )  # fmt: skip
    assert done.status == 0, done.err


def test_groups_have_the_names_that_compile_knows(command: Any, folder: Path) -> None:
    listed = json.loads(command("inspect", "model.onnx", "--groups", "--json", cwd=folder).out)["channels"]["groups"]
    words = ("--recipe", "prune", "--data", "data.npz", "-q", "--min-sqnr", "-99", "--min-speedup", "0")
    assert command("compile", "model.onnx", "-o", "build", *words, cwd=folder).status == 0
    report = json.loads((folder / "build/report.json").read_text())
    (record,) = [item for item in report["passes"] if item["name"] == "prune-channels"]
    assert [item["name"] for item in listed] == [item["name"] for item in record["details"]["groups"]]


def test_the_smallest_is_packed_and_comes_back(command: Any, folder: Path) -> None:
    words = ("--data", "data.npz", "--recipe", "smallest", "--set", "cluster-weights.least=16", "-q")
    done = command("compile", "model.onnx", "-o", "build", *words, cwd=folder)
    assert done.status == 0, done.err
    report = json.loads((folder / "build/report.json").read_text())
    assert report["size"]["packed_bytes"] == (folder / "build/model.qcz").stat().st_size
    (record,) = [item for item in report["passes"] if item["name"] == "cluster-weights"]
    assert record["status"] == "applied"
    assert {layer["weights"] for layer in record["details"]["layers"]} == {216, 32}
    assert "Clustering" in (folder / "build/report.html").read_text()
    again = command(
        "compile", "model.onnx", "-o", "again", "--recipe", "build/recipe.toml", "--data", "data.npz", "-q", cwd=folder
    )
    assert again.status == 0, again.err
    assert "model.qcz" in again.out
    for name in ("model.onnx", "model.qcz"):
        assert (folder / "again" / name).read_bytes() == (folder / "build" / name).read_bytes()
    assert "entropy" in command("explain", "build", cwd=folder).out
    done = command("unpack", "build/model.qcz", "back", cwd=folder)
    assert done.status == 0, done.err
    assert (folder / "back/model.onnx").read_bytes() == (folder / "build/model.onnx").read_bytes()
    assert onnxruntime.InferenceSession(str(folder / "back/model.onnx")).get_outputs()[0].name == "scores"
    done = command("pack", "build", "whole.qcz", "--json", cwd=folder)
    assert json.loads(done.out)["files"] == 6
    assert command("pack", "build", "whole.qcz", "-q", cwd=folder).status == 2  # it exists
    assert command("pack", "build", "whole.qcz", "-q", "--force", cwd=folder).status == 0
    assert command("unpack", "whole.qcz", "back", cwd=folder).status == 2
    assert command("unpack", "whole.qcz", "whole", "-q", cwd=folder).status == 0
    assert command("unpack", "build/model.qcz", "whole", "-q", "--force", cwd=folder).status == 0


def test_a_damaged_container_is_told_and_nothing_is_written(command: Any, folder: Path) -> None:
    assert command("pack", "model.onnx", "m.qcz", cwd=folder).status == 0
    data = bytearray((folder / "m.qcz").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "bad.qcz").write_bytes(data)
    (folder / "short.qcz").write_bytes(data[: len(data) // 2])
    (folder / "none.qcz").write_bytes(b"PK no container")
    before = {item.name for item in folder.iterdir()}
    for name, why in {
        "bad": "damaged",
        "short": "too early",
        "none": "no .qcz container",
        "missing": "cannot be read",
    }.items():
        done = command("unpack", f"{name}.qcz", "out", "-q", cwd=folder)
        assert done.status == 3
        assert why in done.err
        assert len(done.err.strip().splitlines()) == 1
    assert {item.name for item in folder.iterdir()} == before


def test_clustering_with_few_bits(command: Any, folder: Path) -> None:
    words = ("--data", "data.npz", "--recipe", "cluster", "--set", "cluster-weights.least=16", "--min-sqnr", "5")
    done = command("compile", "model.onnx", "-o", "build", *words, "--set", "cluster-weights.bits=4", "-q", cwd=folder)
    assert done.status == 0, done.err
    report = json.loads((folder / "build/report.json").read_text())
    (record,) = [item for item in report["passes"] if item["name"] == "cluster-weights"]
    assert all(layer["bits"] == 4 and layer["levels"] <= 16 for layer in record["details"]["layers"])
    assert (
        command("compile", "model.onnx", "-o", "no", *words, "--set", "cluster-weights.bits=9", cwd=folder).status == 2
    )
