"""A pass of Olive (``olive-ai``) that compiles an ONNX model.

Olive looks passes up in a list of its own. ``python -m qcompiler.plugins.olive > package.json`` writes that list with
this pass in it, for ``olive run --package-config package.json``; :func:`package_config` is the same for
``olive.workflows.run``.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from qcompiler.compiler import compile, environment
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.report import distance

__all__ = ["package_config"]

_TARGETS = {
    "CPUExecutionProvider": "ort-cpu",
    "CUDAExecutionProvider": "ort-cuda",
    "TensorrtExecutionProvider": "tensorrt",
    "NvTensorRTRTXExecutionProvider": "tensorrt",
}
_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "target": (str, None, "What the result runs on. Default: what the accelerator's execution provider stands for."),
    "recipe": (str, None, "Recipe. Default: int8 with data, else lossless."),
    "data": (str, None, "What `qcompiler compile --data` takes."),
    "score": (str, None, "Data that scores; then all of data calibrates."),
    "samples": (int, None, "Use at most so many samples."),
    "batch_size": (int, None, "Rows of a sample, where the model allows it."),
    "metric": (str, None, "top1 or MODULE:CALLABLE(outputs, labels)."),
    "max_drop": (float, None, "How much the metric may lose, in its own unit."),
    "min_sqnr": (float, None, "How close the outputs have to stay, in decibels."),
    "min_speedup": (float, None, "How much faster it has to be."),
    "budget": (float, None, "Seconds after which nothing better is looked for."),
    "strict": (bool, False, "Fail when a limit is not met."),
    "settings": (list[str], [], "PASS.OPTION=VALUE."),
    "exclude": (list[str], [], "Regular expressions on names and types of nodes that stay float."),
    "threads": (int, 1, "Threads of a run."),
    "seed": (int, 0, "Of whatever is drawn."),
}
"""Type, default and meaning of what may be set; names are those of :func:`qcompiler.compile`."""


def package_config() -> dict[str, Any]:
    """Olive's own list of passes, and QCompiler. Raises UsageError without Olive."""
    _need_olive()
    from olive.package_config import OlivePackageConfig

    config: dict[str, Any] = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text(encoding="utf-8"))
    config["passes"]["QCompiler"] = {
        "module_path": "qcompiler.plugins.olive.QCompiler",
        "supported_providers": list(_TARGETS),
        "supported_accelerators": ["cpu", "gpu"],
        "supported_precisions": ["int4", "int8", "uint8", "fp16", "fp32"],
        "supported_algorithms": [],
        "supported_quantization_encodings": ["qdq"],
        "dataset": "dataset_optional",
    }
    return config


def _need_olive() -> None:
    try:
        import olive  # noqa: F401
    except ImportError:
        raise UsageError("Olive is not installed", hint="pip install 'qcompiler[olive]'") from None


def _made() -> type[Any]:
    """The class, whose base is Olive's and is loaded here for the first time."""
    _need_olive()
    from olive.data.config import DataConfig
    from olive.model import ONNXModelHandler
    from olive.passes import Pass
    from olive.passes.pass_config import PassConfigParam

    def _default_config(cls: type[Any], accelerator_spec: Any) -> dict[str, Any]:
        made = {
            name: PassConfigParam(type_=kind, default_value=default, description=about)
            for name, (kind, default, about) in _OPTIONS.items()
        }
        made["data_config"] = PassConfigParam(
            type_=DataConfig | dict, default_value=None, description="Instead of data: a data config of Olive's."
        )
        # Olive caches results by options alone, and another version of ours may give another result.
        made["version"] = PassConfigParam(
            type_=str, default_value=environment("", 1)["qcompiler"], description="Not to be set."
        )
        return made

    def is_accelerator_agnostic(accelerator_spec: Any) -> bool:
        return False  # the target follows from it

    def _run_for_config(self: Any, model: Any, config: Any, output_model_path: str) -> Any:
        if not isinstance(model, ONNXModelHandler):
            raise ValueError(f"QCompiler compiles an ONNX model, not a {type(model).__name__}")
        options = {name: getattr(config, name) for name in _OPTIONS}
        options["target"] = options["target"] or _target_of(self.accelerator_spec)
        if config.data_config is not None:
            if options["data"] is not None:
                raise ValueError("QCompiler takes 'data' or 'data_config', not both")
            options["data"] = _samples(config.data_config, model.io_config["input_names"], options["samples"])
        try:
            result = compile(model.model_path, explain=False, **options)
            folder = result.save(Path(output_model_path).with_suffix(""), force=True)
        except QCompilerError as error:
            # `olive run` ends with 0 for exceptions that it does not know.
            raise ValueError(f"{type(error).__name__}: {error}") from error
        attributes = dict(model.model_attributes or {})
        beside = {str(path) for path in folder.iterdir() if path.is_file() and not path.name.startswith("model.onnx")}
        attributes["additional_files"] = sorted({*(attributes.get("additional_files") or ()), *beside})
        attributes["qcompiler"] = _told(result.report)
        return ONNXModelHandler(
            model_path=str(folder),
            onnx_file_name="model.onnx",
            inference_settings=model.inference_settings,
            model_attributes=attributes,
        )

    members: dict[str, Any] = {
        "__doc__": "Rewrites, prunes and quantizes an ONNX model for a target, and measures what came of it.",
        "__module__": __name__,
        "_default_config": classmethod(_default_config),
        "is_accelerator_agnostic": staticmethod(is_accelerator_agnostic),
        "_run_for_config": _run_for_config,
    }
    return type("QCompiler", (Pass,), members)


def _target_of(accelerator: Any) -> str:
    provider = accelerator.execution_provider
    if provider is None:  # Olive leaves it out where nothing of its own needs one
        return "ort-cuda" if str(accelerator.accelerator_type).lower().endswith("gpu") else "ort-cpu"
    if str(provider) not in _TARGETS:
        raise ValueError(f"QCompiler has no target for {provider}; set 'target'")
    return _TARGETS[str(provider)]


def _samples(config: Any, names: list[str], most: int | None) -> list[dict[str, Any]]:
    """One mapping a batch, ``most`` of them at most. Labels are left out: a metric takes ``data``."""
    from olive.common.config_utils import validate_config
    from olive.data.config import DataConfig

    found = []
    batches = validate_config(config, DataConfig).to_data_container().create_dataloader()
    for batch in itertools.islice(batches, most):
        fed = batch[0] if isinstance(batch, list | tuple) else batch
        if not isinstance(fed, dict):
            fed = dict(zip(names, fed if isinstance(fed, list | tuple) else [fed], strict=True))
        found.append({name: _array(fed[name]) for name in names if name in fed})
    return found


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _told(report: dict[str, Any]) -> dict[str, Any]:
    """What of the report goes along with the model."""
    return {
        "speedup": report["latency"]["speedup"],
        "sqnr_db": distance(report).sqnr_db,
        "ratio": report["size"]["ratio"],
        "gates": report["gates"],
    }


def __getattr__(name: str) -> Any:
    if name != "QCompiler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["QCompiler"] = found = _made()  # Olive asks for it by this name, and gets one and the same class
    return found


if __name__ == "__main__":
    json.dump(package_config(), sys.stdout, indent=1)
