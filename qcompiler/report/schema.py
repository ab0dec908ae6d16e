"""Schema 1 of ``report.json``: what has to be in it, and of which type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from qcompiler.report.plain import plain

__all__ = ["SCHEMA", "SHAPE", "Shape", "check", "ordered", "validate"]

SCHEMA = 1
"""The version that this package writes and reads."""

Shape: TypeAlias = "type[Any] | frozenset[Any] | tuple[Shape, ...] | list[Shape] | dict[Any, Shape] | None"
"""How a value may look.

    str, int, float, bool     a value of that type; float takes whole numbers too
    object                    anything
    None                      null
    frozenset                 one of these
    tuple                     one of these shapes
    [shape]                   a list of that shape
    {str: shape}              an object with keys of any name, each of that shape
    {"a": ..., "b?": ...}     an object with the key a, and perhaps b; whatever else it holds is not looked at
"""

NUMBER: Shape = (None, float)
COUNT: Shape = (None, int)
TEXT: Shape = (None, str)

_MODEL: dict[Any, Shape] = {
    "path": TEXT,  # null: a model that was given in memory
    "sha256": TEXT,
    "bytes": int,
    "nodes": int,
    "parameters": int,
    "macs": COUNT,  # null: some shape is not known
}

_NODE: dict[Any, Shape] = {"name": str, "op": str, "inputs": [int], "feeders": int, "readers": int}

SHAPE: dict[Any, Shape] = {
    "schema": frozenset({SCHEMA}),
    "qcompiler": str,
    "target": str,
    "recipe?": TEXT,  # its name
    "command?": TEXT,  # the command line, as it was given
    "data?": TEXT,  # --data, as it was given
    "seed?": COUNT,
    "seconds?": NUMBER,  # of the whole compile
    "environment": {"cpu": TEXT, "gpu": TEXT, "onnxruntime": TEXT, "threads": COUNT},
    "source": {**_MODEL, "ops?": {str: int}},
    "compiled": {**_MODEL, "ops": {str: int}},
    "passes": [
        {
            "name": str,
            "options": {str: object},
            "seconds": NUMBER,
            "changed": (bool, int),
            "nodes_before": int,
            "nodes_after": int,
            "rewrites": {str: int},
            "sqnr_db": NUMBER,
            "status": frozenset({"applied", "no-op", "rolled-back", "skipped"}),
            "reason": TEXT,
            "target_nodes_before?": COUNT,  # what the target makes of the model when it loads it, before the pass
            "target_nodes_after?": COUNT,
            "fusions_before?": COUNT,  # of these, those that it fused itself
            "fusions_after?": COUNT,
            "details?": {
                # of channels that went: units by number, and the nodes whose weights were cut
                "groups?": [{"name": str, "units": int, "kept": int, "removed": str, "nodes": [str]}],
                # what other amounts would have given; of: macs, parameters or channels
                "curve?": {"of": str, "points": [{"remaining": float, "sqnr_db": NUMBER, "speedup": NUMBER}]},
                "removed?": [str],  # branches and heads that went
                # of weights that were clustered; histogram: weights in stretches of equal width from low to high
                "layers?": [
                    {
                        "name": str,
                        "nodes": [str],
                        "weights": int,
                        "levels": int,
                        "bits": int,
                        "entropy": float,
                        "zeros": float,
                        "sqnr_db": NUMBER,
                        "low": float,
                        "high": float,
                        "histogram": [int],
                        "centroids": [float],
                    }
                ],
                "kept?": {str: str},  # weights that stay as they are, and why
                "bytes?": {"float": int, "clustered": int, "coded": int},
                # of training: losses by epoch (0: before it), the epoch that was kept, what learned by kind, and what
                # did not (constants, nodes) and why; before: the student as it came
                "training?": {
                    "kept": int,
                    "reason": str,
                    "epochs": [
                        {"epoch": int, "loss": NUMBER, "held_out": NUMBER, "right": NUMBER, "seconds": NUMBER},
                    ],
                    "learned": {str: int},
                    "frozen": {str: str},
                    "elsewhere": {str: str},
                    "imitated": [str],
                },
                "before?": {"sqnr_db": NUMBER, "metric": NUMBER},
            },
        }
    ],
    "quality": {
        "samples": int,
        # sqnr_db is null where it is infinite, too: then max_abs is 0.
        "outputs": {str: {"sqnr_db": NUMBER, "cosine": NUMBER, "max_abs": NUMBER}},
        "agreement": NUMBER,  # share of the samples with the same answer, 0 to 1
        "metric": (None, {"name": str, "source": NUMBER, "compiled": NUMBER, "drop": NUMBER}),
    },
    "latency": {
        "source_ms": NUMBER,
        "compiled_ms": NUMBER,
        "speedup": NUMBER,
        "threads": COUNT,
        "runs": COUNT,
        "batch": COUNT,
        # by a model of the card, where it is not there to be timed
        "estimate?": {"card": str, "source_us": float, "compiled_us": float, "speedup": float},
    },
    # what runs each node, for targets of more than one runtime
    "placement?": [{"node": str, "op": str, "runs_on": str, "why": str}],
    # what was compiled ahead of time, by architecture, and what could not be
    "kernels?": {"architectures": [str], "built": int, "bytes": int, "problems": [str]},
    # for TensorRT: what built engines, the command that does, shapes of dynamic inputs (smallest, usual, largest), and
    # of each engine its launches: products, those of them in 8 bits, those that only change type or layout; of the
    # nodes that are written to run in 8 bits those found so, and the others by name
    "tensorrt?": {
        "package": TEXT,
        "command": str,
        "profile": {str: [[int]]},
        "engines": [
            {
                "architecture": str,
                "file": str,
                "bytes": int,
                "seconds": float,
                "layers": int,
                "products": int,
                "int8": int,
                "reformats": int,
                "planned": int,
                "found": COUNT,  # null: its layers are not known
                "left_float": [str],
            }
        ],
    },
    # microseconds of one run by operator, as the runtime has them
    "time_by_op?": {"source": {str: float}, "compiled": {str: float}},
    # joules of one run, by counters of the machine; null, and a reason, where it has none
    "energy?": {"source_j": NUMBER, "compiled_j": NUMBER, "counter": TEXT, "reason": TEXT},
    # ratio: source to compiled; packed: the container beside it, where there is one
    "size": {
        "source_bytes": int,
        "compiled_bytes": int,
        "ratio": NUMBER,
        "packed_bytes?": int,
        "packed_ratio?": NUMBER,
    },
    "memory": {"peak_rss_bytes": COUNT},
    "gates": [{"name": str, "limit": float, "value": NUMBER, "passed": bool}],
    "warnings": [str],
    "decision?": (
        None,
        {
            "kept": frozenset({"int8", "float", "partly"}),
            "reason": str,
            "tried": [
                {"name": str, "sqnr_db": NUMBER, "speedup": NUMBER, "int8_nodes": int, "kept": bool, "why": str},
            ],
        },
    ),
    "layers?": [
        {
            "node": str,
            "op": str,
            "choice": str,
            "reason": TEXT,
            "source_us": NUMBER,
            "compiled_us": NUMBER,
            "sqnr_db": NUMBER,
        }
    ],
    "fused?": (None, {"planned": int, "found": int, "left_float": [str]}),
    # of quantized layers; histogram: elements in stretches of equal width from low to high. How many scales there are
    # and different numbers, and from where to where those reach; null: too large to be worked out
    "weights?": [
        {
            "name": str,
            "node": str,
            "dtype": str,
            "elements": int,
            "low": float,
            "high": float,
            "histogram": [int],
            "scales": COUNT,
            "levels": COUNT,
            "stored_low": NUMBER,
            "stored_high": NUMBER,
            "sqnr_db": NUMBER,
        }
    ],
    # around nodes that are ``named``; inputs: places in the same list; feeders, readers: how many there are in all
    "graph?": {"source": [_NODE], "compiled": [_NODE], "named": [str]},
    "ranges?": [
        {
            "value": str,
            "low": float,
            "high": float,
            "min": NUMBER,
            "max": NUMBER,
            "method": str,
            "scale": float,
            "zero_point": int,
            "histogram?": [int],  # elements seen, in stretches of equal width from min to max
        }
    ],
}

_NAMES: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false", None: "null"}
_KINDS: dict[Any, str] = {dict: "an object", list: "a list", type(None): "null", **_NAMES}


def validate(report: Mapping[str, Any]) -> None:
    """Raises ValueError, in one line, for the first key that is missing or of the wrong type.

    ``report`` is seen as :func:`qcompiler.report.to_json` would write it: NaN is null. Keys that schema 1 does not know
    are allowed.
    """
    check(plain(report))


def check(report: Any) -> None:
    """:func:`validate` for a report that is plain already."""
    if wrong := _complaint(report, SHAPE, ""):
        raise ValueError(f"report: {wrong}")


def ordered(value: Any, shape: Shape = SHAPE) -> Any:
    """Plain ``value`` with its keys in the order of ``shape``; keys that the shape does not know follow by name."""
    if isinstance(shape, tuple):
        shape = next((each for each in shape if isinstance(each, dict | list)), None)
    if isinstance(shape, list) and isinstance(value, list):
        return [ordered(item, shape[0]) for item in value]
    if not isinstance(shape, dict) or not isinstance(value, dict):
        return value
    if str in shape:
        return {key: ordered(item, shape[str]) for key, item in value.items()}
    shapes = {key.removesuffix("?"): inner for key, inner in shape.items()}
    known = {key: ordered(value[key], inner) for key, inner in shapes.items() if key in value}
    return known | {key: value[key] for key in sorted(value.keys() - known.keys())}


def _complaint(value: Any, shape: Shape, where: str) -> str:
    """What is wrong with plain ``value``, or nothing."""
    match shape:
        case tuple():
            found = {}
            for each in shape:
                found[type(each)] = _complaint(value, each, where)
                if not found[type(each)]:
                    return ""
            return found[dict] if dict in found and isinstance(value, dict) else _not(value, shape, where)
        case list():
            if not isinstance(value, list):
                return _not(value, shape, where)
            return _first(_complaint(each, shape[0], f"{where}[{index}]") for index, each in enumerate(value))
        case dict():
            if not isinstance(value, dict):
                return _not(value, shape, where)
            if str in shape:
                return _first(_complaint(each, shape[str], f"{where}[{key!a}]") for key, each in value.items())
            for key, inner in shape.items():
                name = key.removesuffix("?")
                path = f"{where}.{name}".removeprefix(".")
                if name in value:
                    if wrong := _complaint(value[name], inner, path):
                        return wrong
                elif name == key:
                    return f"{path} is missing"
            return ""
        case frozenset():
            fits = type(value) in {type(each) for each in shape} and value in shape
        case None:
            fits = value is None
        case _:
            fits = isinstance(value, (int, float) if shape is float else shape)
            fits = fits and not (isinstance(value, bool) and shape in (int, float))
    return "" if fits else _not(value, shape, where)


def _first(complaints: Iterable[str]) -> str:
    return next(filter(None, complaints), "")


def _not(value: Any, shape: Shape, where: str) -> str:
    """``value`` in few words, and what it should have been."""
    is_one_of = isinstance(shape, frozenset) and isinstance(value, str | int)
    given = ascii(value)[:60] if is_one_of else _KINDS.get(type(value), type(value).__name__)
    return f"{where} is {given}, not {_wanted(shape)}"


def _wanted(shape: Shape) -> str:
    match shape:
        case tuple():
            return " or ".join(_wanted(each) for each in sorted(shape, key=lambda each: each is None))
        case frozenset():
            return " or ".join(sorted(map(str, shape)))
        case list() | dict():
            return _KINDS[type(shape)]
        case _:
            return _NAMES.get(shape, "anything")
