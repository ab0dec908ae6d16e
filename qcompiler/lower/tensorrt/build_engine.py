#!/usr/bin/env python3
"""Build TensorRT engines of the model beside this file. Needs nothing but the package tensorrt or tensorrt_rtx.

    python build_engine.py                 every architecture in build.json (TensorRT itself: the card that is here)
    python build_engine.py --arch sm_89    these only
    python build_engine.py --check         parse the model and say what the parser refuses

What is done is printed as lines of JSON. Exit status: 0 all of them built, 1 refused or failed, 2 no such package.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["build", "find_package", "main"]


def find_package(names: Sequence[str] = ("tensorrt", "tensorrt_rtx")) -> Any:
    """The first of the packages that is installed and loads, or None."""
    for name in names:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError):
            continue
    return None


def say(**record: Any) -> None:
    """One line of JSON."""
    print(json.dumps(record), flush=True)


class Failure(Exception):
    """One line about what went wrong."""


def parsed(trt: Any, builder: Any, logger: Any, model: Path, plugins: Path | None) -> tuple[Any, Any]:
    """The network of the ONNX file ``model``. Raises Failure with the parser's own words."""
    if plugins:
        spec = importlib.util.spec_from_file_location("register_plugins", plugins)
        try:
            module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
            spec.loader.exec_module(module)  # type: ignore[union-attr]
            module.register()
        except (ImportError, LookupError, OSError) as wrong:
            raise Failure(f"the plugins cannot be registered: {wrong}") from None
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        for index in range(parser.num_errors):
            error = parser.get_error(index)
            say(refused={"node": error.node_name(), "op": error.node_operator(), "words": error.desc()})
        if not parser.num_errors:
            say(refused={"node": "", "op": "", "words": logger.last or "the parser gives no reason"})
        raise Failure("the parser refuses the model")
    return network, parser  # the parser owns the weights


def configured(trt: Any, builder: Any, settings: dict[str, Any], capability: str | None) -> Any:
    """How to build: profiles, types of a strongly typed network, what a later look at the layers needs."""
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.get("refit"):
        config.set_flag(trt.BuilderFlag.REFIT)
    if capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), 0)
    if settings["profile"]:
        profile = builder.create_optimization_profile()
        for name, (low, usual, high) in settings["profile"].items():
            profile.set_shape(name, low, usual, high)
        if config.add_optimization_profile(profile) < 0:
            raise Failure("the optimization profile is not valid")
    return config


def shape_input(network: Any) -> str:
    """The name of an input whose elements are sizes; empty where there is none."""
    inputs = (network.get_input(index) for index in range(network.num_inputs))
    return next((item.name for item in inputs if item.is_shape_tensor), "")


def with_timing_cache(config: Any, path: Path) -> Any:
    """What earlier builds measured is not measured again."""
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    config.set_timing_cache(cache, False)
    return cache


def inspected(trt: Any, logger: Any, plan: bytes) -> str | None:
    """What the engine says of its layers, where it can be loaded."""
    try:
        engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
        return str(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
    except Exception:  # without a card or a driver it cannot
        return None


def make_logger(trt: Any) -> Any:
    """A logger that remembers the last error."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = message

    return Logger()


def build(
    trt: Any, settings: dict[str, Any], folder: Path, out: Path, architectures: Sequence[str], check: bool
) -> int:
    """Engines of the model that ``settings`` name, in ``out``; with ``check`` none. How many could not be built."""
    logger = make_logger(trt)
    portable = hasattr(trt, "ComputeCapability")
    say(package=trt.__name__, version=trt.__version__, portable=portable)
    builder = trt.Builder(logger)
    model = folder / settings["model"]
    plugins = folder / settings["plugins"] if settings.get("plugins") else None
    if check:
        parsed(trt, builder, logger, model, plugins)
        return 0
    failed = 0
    if portable and not architectures:
        raise Failure("no architecture is asked for: --arch sm_89 and the like")
    for name in architectures if portable else ["card"]:
        started = time.perf_counter()
        network, _parser = parsed(trt, builder, logger, model, plugins)
        if sizes := shape_input(network):
            raise Failure(f"input '{sizes}' holds sizes, for which there is no profile of shapes")
        capability = name.removeprefix("sm_") if portable else None
        if portable and not hasattr(trt.ComputeCapability, f"SM{capability}"):
            say(arch=name, problem=f"{trt.__name__} {trt.__version__} does not build for {name}")
            failed += 1
            continue
        config = configured(trt, builder, settings, capability)
        # TensorRT for RTX measures nothing before the engine is first run.
        cache = None if portable else with_timing_cache(config, out / "timing.cache")
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            why = logger.last or "the builder gives no reason"
            if portable and settings.get("refit"):
                why = f"TensorRT for RTX builds engines that can be refitted only where there is a card ({why})"
            say(arch=name, problem=why)
            failed += 1
            continue
        plan = bytes(plan)
        path = out / f"model.{name}.engine"
        path.write_bytes(plan)
        if cache is not None:
            (out / "timing.cache").write_bytes(bytes(cache.serialize()))
        layers = inspected(trt, logger, plan)
        if layers:
            (out / f"layers.{name}.json").write_text(layers)
        say(arch=name, file=path.name, bytes=len(plan), seconds=round(time.perf_counter() - started, 3))
    return failed


def main() -> int:
    """The command line."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Build TensorRT engines of the compiled model.")
    parser.add_argument("--settings", type=Path, default=here / "build.json", help="what to build")
    parser.add_argument("--out", type=Path, help="where engines go [default: beside the settings]")
    parser.add_argument("--arch", action="append", help="sm_86, ...: for cards that are not here (TensorRT for RTX)")
    parser.add_argument("--package", help="tensorrt or tensorrt_rtx [default: what is installed]")
    parser.add_argument("--check", action="store_true", help="only ask the parser")
    given = parser.parse_args()
    trt = find_package((given.package,)) if given.package else find_package()
    if trt is None or not hasattr(trt, "OnnxParser"):
        missing = given.package or "neither tensorrt nor tensorrt_rtx"
        print(f"{missing} is here as TensorRT: pip install tensorrt", file=sys.stderr)
        return 2
    try:
        settings = json.loads(given.settings.read_text())
        out = given.out or given.settings.parent
        out.mkdir(parents=True, exist_ok=True)
        wanted = given.arch or settings["architectures"]
        failed = build(trt, settings, given.settings.parent, out, wanted, given.check)
    except (Failure, OSError, ValueError, KeyError) as failure:
        print(f"{type(failure).__name__}: {failure}" if isinstance(failure, KeyError) else failure, file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
