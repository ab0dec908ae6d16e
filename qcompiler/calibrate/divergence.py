"""Where to clip so that the distribution of what is quantized stays like the real one."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["least_divergent"]

Array = np.ndarray[Any, np.dtype[Any]]

_BINS = 2048
_STEP = 16  # bins between two thresholds that are tried
_NEVER = 1e-9  # what stands for a probability of nothing


def least_divergent(magnitudes: Array, counts: Array, levels: int) -> float:
    """The magnitude at which to clip for the least Kullback-Leibler divergence (Migacz, 2017, "8-bit inference").

    ``magnitudes`` (float64, ascending, not negative) occurred ``counts`` times; ``levels`` integers stand for those
    from 0 to the threshold. Every threshold's distribution, with what is clipped in its last bin, is held against the
    same one quantized. Exact zeros are left out: they are kept at any threshold. 0 when there is nothing else.
    """
    there = magnitudes > 0
    magnitudes, counts = magnitudes[there], counts[there].astype(np.float64)
    if not magnitudes.size:
        return 0.0
    top = float(magnitudes[-1])
    edges = np.linspace(0.0, top, _BINS + 1)
    # A code of the histogram is as wide as its neighbours are far; counted at one place it would leave gaps.
    below = np.concatenate([[0.0], np.cumsum(counts)])
    ends = np.concatenate([[0.0], (magnitudes[1:] + magnitudes[:-1]) / 2, [top]])
    bins = np.diff(np.interp(edges, ends, below))
    best, found = np.inf, top
    for size in range(min(levels, _BINS), _BINS + 1, _STEP):
        wanted = bins[:size].copy()
        wanted[-1] += bins[size:].sum()
        divergence = _divergence(wanted, _quantized(bins[:size], levels))
        if divergence < best:
            best, found = divergence, float(edges[size])
    return found


def _quantized(bins: Array, levels: int) -> Array:
    """``bins`` as they are after quantizing to ``levels``: what falls into one level is spread over its bins."""
    level = np.arange(bins.size) * levels // bins.size
    filled = bins > 0
    total = np.bincount(level, weights=bins, minlength=levels)
    count = np.bincount(level, weights=filled, minlength=levels)
    spread: Array = np.where(filled, (total / np.maximum(count, 1))[level], 0.0)
    return spread


def _divergence(wanted: Array, found: Array) -> float:
    there = wanted > 0
    p = wanted[there] / wanted.sum()
    total = found.sum()
    q = found[there] / total if total > 0 else np.zeros_like(p)
    return float((p * np.log(p / np.maximum(q, _NEVER))).sum())
