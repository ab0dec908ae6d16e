"""Two reports: one with everything that there can be, one with nothing that there need not be."""

from __future__ import annotations

import copy
from typing import Any

import pytest

RICH: dict[str, Any] = {
    "schema": 1,
    "qcompiler": "0.1.0",
    "target": "ort-cpu",
    "recipe": "int8",
    "command": "qcompiler compile nets/shapes-net.onnx -o build --data calib.npz --min-sqnr 20",
    "data": "calib.npz",
    "seed": 7,
    "seconds": 187.2,
    "environment": {
        "cpu": "Example Silicon 9000 @ 2.40GHz",
        "gpu": None,
        "onnxruntime": "1.31.1",
        "threads": 2,
        "python": "3.11.7",
        "features": ["avx512_vnni", "amx_int8"],
    },
    "source": {
        "path": "nets/shapes-net.onnx",
        "sha256": "5e" * 32,
        "bytes": 44_712_345,
        "nodes": 412,
        "parameters": 11_173_962,
        "macs": 1_814_073_344,
        "ops": {"Conv": 53, "BatchNormalization": 53, "Relu": 49, "Add": 16, "Identity": 241},
    },
    "compiled": {
        "path": "model.onnx",
        "sha256": "c0" * 32,
        "bytes": 11_502_111,
        "nodes": 133,
        "parameters": 11_160_258,
        "macs": 1_789_000_111,
        "ops": {"Conv": 53, "Relu": 7, "Add": 16, "QuantizeLinear": 29, "DequantizeLinear": 28},
    },
    "passes": [
        {
            "name": "canonicalize",
            "options": {},
            "seconds": 0.0312,
            "changed": 241,
            "nodes_before": 412,
            "nodes_after": 171,
            "rewrites": {"identity": 239, "double_transpose": 2},
            "target_nodes_before": 201,
            "target_nodes_after": 198,
            "fusions_before": 12,
            "fusions_after": 13,
            "sqnr_db": None,
            "status": "applied",
            "reason": "",
            "details": {
                "groups": [
                    {"name": "stem", "units": 64, "kept": 48, "removed": "0-14 63", "nodes": ["stem", "block/1"]},
                    {"name": "block/1#2", "units": 37, "kept": 37, "removed": "", "nodes": ["block/1"]},
                ],
                "removed": ["head 3 of attention"],
                "layers": [
                    {
                        "name": "stem_weight",
                        "nodes": ["stem"],
                        "weights": 9408,
                        "levels": 16,
                        "bits": 4,
                        "entropy": 3.382,
                        "zeros": 0.0625,
                        "sqnr_db": 19.75,
                        "low": -3.125,
                        "high": 2.875,
                        "histogram": [1, 0, 40, 100, 30, 2],
                        "centroids": [-2.5, -0.5, 0.0, 0.5, 2.5],
                    },
                ],
                "kept": {"head_weight": "something reads it that is no layer"},
                "training": {
                    "kept": 2,
                    "reason": "all 2 epochs",
                    "epochs": [
                        {"epoch": 0, "loss": None, "held_out": 0.5, "right": 0.25, "seconds": 0.0},
                        {"epoch": 1, "loss": 0.375, "held_out": 0.25, "right": 0.5, "seconds": 1.5},
                        {"epoch": 2, "loss": 0.125, "held_out": 0.0625, "right": 0.75, "seconds": 3.0},
                    ],
                    "learned": {"weight": 12, "scale": 3},
                    "frozen": {"table": "something reads it that is no layer"},
                    "elsewhere": {"nms": "NonMaxSuppression: no gradient is known of such an operator"},
                    "imitated": ["stem_out = stem_out"],
                },
                "before": {"sqnr_db": 3.5, "metric": 0.25},
                "bytes": {"float": 37632, "clustered": 4768, "coded": 4101},
                "curve": {
                    "of": "macs",
                    "points": [
                        {"remaining": 0.9, "sqnr_db": 17.25, "speedup": 1.052},
                        {"remaining": 0.5, "sqnr_db": 4.125, "speedup": 1.871},
                        {"remaining": 0.25, "sqnr_db": None, "speedup": 2.914},
                    ],
                },
            },
        },
        {
            "name": "fuse-conv",
            "options": {"epsilon_floor": 1e-12, "exclude": ["head.*"]},
            "seconds": 0.187,
            "changed": 95,
            "nodes_before": 171,
            "nodes_after": 76,
            "rewrites": {"conv_batchnorm": 53, "conv_relu": 42},
            "sqnr_db": None,
            "status": "applied",
            "reason": "",
        },
        {
            "name": "fuse-activations",
            "options": {},
            "seconds": 0.0041,
            "changed": 0,
            "nodes_before": 76,
            "nodes_after": 76,
            "rewrites": {},
            "sqnr_db": None,
            "status": "no-op",
            "reason": "",
        },
        {
            "name": "fuse-gelu",
            "options": {"approximate": True},
            "seconds": 0.0533,
            "changed": 0,
            "nodes_before": 76,
            "nodes_after": 76,
            "rewrites": {},
            "sqnr_db": None,
            "status": "rolled-back",
            "reason": "rule 'gelu_tanh' was rolled back: output 'boxes' is off by 0.0034, first at Mul_17",
        },
        {
            "name": "quantize-static",
            "options": {"method": "mse", "per_channel": True, "bits": 8},
            "seconds": 134.6,
            "changed": 57,
            "nodes_before": 76,
            "nodes_after": 133,
            "rewrites": {"quantize": 29, "dequantize": 28},
            "sqnr_db": 31.24,
            "status": "applied",
            "reason": "",
        },
        {
            "name": "prune-channels",
            "options": {"ratio": 0.25},
            "seconds": None,
            "changed": 0,
            "nodes_before": 133,
            "nodes_after": 133,
            "rewrites": {},
            "sqnr_db": None,
            "status": "skipped",
            "reason": "the accuracy budget was spent",
        },
    ],
    "quality": {
        "samples": 256,
        "outputs": {
            "scores": {"sqnr_db": 31.24, "cosine": 0.999624, "max_abs": 0.08125},
            "boxes": {"sqnr_db": 27.91, "cosine": 0.998871, "max_abs": 1.523},
            "count": {"sqnr_db": None, "cosine": 1.0, "max_abs": 0.0},
        },
        "agreement": 0.9922,
        "metric": {"name": "top1", "source": 0.9312, "compiled": 0.9297, "drop": 0.0015},
    },
    "latency": {
        "source_ms": 12.34,
        "compiled_ms": 5.772,
        "speedup": 2.138,
        "threads": 2,
        "runs": 60,
        "batch": 1,
        "estimate": {"card": "H100 (sm_90)", "source_us": 374.7, "compiled_us": 121.4, "speedup": 3.09},
    },
    "size": {
        "source_bytes": 44_712_345,
        "compiled_bytes": 11_502_111,
        "ratio": 3.8873,
        "packed_bytes": 8_123_456,
        "packed_ratio": 5.5041,
    },
    "memory": {"peak_rss_bytes": 612_345_678},
    "gates": [
        {"name": "min_sqnr", "limit": 20.0, "value": 27.91, "passed": True},
        {"name": "max_drop", "limit": 0.005, "value": 0.0015, "passed": True},
        {"name": "min_speedup", "limit": 2.5, "value": 2.138, "passed": False},
    ],
    "warnings": [
        "pass 'fuse-gelu': rule 'gelu_tanh' was rolled back",
        "on a CPU without VNNI the outputs differ: 8-bit products saturate in 16 bits",
    ],
    "placement": [
        {"node": "stem", "op": "Int8Conv", "runs_on": "kernel", "why": "convolution of int8 in NHWC"},
        {"node": "head", "op": "Softmax", "runs_on": "onnxruntime", "why": "there is no int8 kernel for it"},
    ],
    "kernels": {
        "architectures": ["sm_80", "sm_90"],
        "built": 13,
        "bytes": 1_250_448,
        "problems": ["head has no kernel for sm_80: it does not compile"],
    },
    "decision": {
        "kept": "partly",
        "reason": "4 of 53 convolutions stay float, which costs 3 % of the time and gains 9 dB",
        "tried": [
            {
                "name": "float",
                "sqnr_db": None,
                "speedup": 1.183,
                "int8_nodes": 0,
                "kept": False,
                "why": "slower than int8",
            },
            {
                "name": "all int8",
                "sqnr_db": 18.62,
                "speedup": 2.201,
                "int8_nodes": 76,
                "kept": False,
                "why": "below 20 dB",
            },
            {
                "name": "4 float",
                "sqnr_db": 27.91,
                "speedup": 2.138,
                "int8_nodes": 72,
                "kept": True,
                "why": "fastest within",
            },
        ],
    },
    "fused": {"planned": 57, "found": 55, "left_float": ["stage1.block0.add", "head.sigmoid"]},
    "layers": [
        {
            "node": f"/backbone/stage{stage}/block{block}/conv{conv}/Conv",
            "op": "Conv",
            "choice": "float" if (stage, block) == (1, 0) else "int8",
            "reason": "the most sensitive: int8 costs 6.1 dB" if (stage, block) == (1, 0) else "2.4 times faster",
            "source_us": None if (stage, block, conv) == (4, 1, 1) else 871.0 / stage + 61 * conv + 13 * block,
            "compiled_us": 349.0 / stage + 17 * conv + 29 * block,
            "sqnr_db": None if (stage, block) == (1, 0) else 24.5 + 7 * stage - 3 * conv + 1.5 * block,
        }
        for stage in range(1, 5)
        for block in range(4)
        for conv in range(2)
    ],
    "ranges": [
        {
            "value": "image",
            "low": 0.0,
            "high": 1.0,
            "min": 0.0,
            "max": 1.0,
            "method": "min-max",
            "scale": 1 / 255,
            "zero_point": 0,
            "histogram": [1, 0, 40, 1200, 3, 1],
        },
        {
            "value": "/backbone/stage1/block0/relu",
            "low": 0.0,
            "high": 21.73,
            "min": 0.0,
            "max": 107.2,
            "method": "mse",
            "scale": 0.08522,
            "zero_point": 0,
        },
        {
            "value": "scores",
            "low": -11.2,
            "high": 9.85,
            "min": -12.9,
            "max": 9.85,
            "method": "entropy",
            "scale": 0.0825,
            "zero_point": 136,
        },
        {
            "value": "given",
            "low": -6.0,
            "high": 6.0,
            "min": None,
            "max": None,
            "method": "user",
            "scale": 0.047,
            "zero_point": 128,
        },
    ],
}

MINIMAL: dict[str, Any] = {
    "schema": 1,
    "qcompiler": "0.1.0",
    "target": "ort-cpu",
    "environment": {"cpu": None, "gpu": None, "onnxruntime": None, "threads": None},
    "source": {"path": None, "sha256": None, "bytes": 900, "nodes": 3, "parameters": 0, "macs": None},
    "compiled": {"path": None, "sha256": None, "bytes": 900, "nodes": 3, "parameters": 0, "macs": None, "ops": {}},
    "passes": [],
    "quality": {"samples": 0, "outputs": {}, "agreement": None, "metric": None},
    "latency": {"source_ms": None, "compiled_ms": None, "speedup": None, "threads": None, "runs": None, "batch": None},
    "size": {"source_bytes": 900, "compiled_bytes": 900, "ratio": 1.0},
    "memory": {"peak_rss_bytes": None},
    "gates": [],
    "warnings": [],
}


@pytest.fixture
def rich() -> dict[str, Any]:
    """Everything measured, every optional key, one gate failed."""
    return copy.deepcopy(RICH)


@pytest.fixture
def minimal() -> dict[str, Any]:
    """Nothing measured, no optional key."""
    return copy.deepcopy(MINIMAL)
