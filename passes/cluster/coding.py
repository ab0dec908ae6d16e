"""One weight as indices into few levels: which levels, and which of them each weight gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from qcompiler.passes.cluster.kmeans import cluster, nearest
from qcompiler.passes.cluster.layers import Layer
from qcompiler.passes.quantize.least_squares import compensated, output_error

__all__ = ["Coded", "Coding", "entropy_of"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_WIDEST = 127  # of even levels on either side of zero
_BISECTIONS = 40
_GLANCE = 4096  # weights that are looked at first
_SHARING = 4  # weights to a value at least, for values to be shared
_SETTLING = 20  # rounds of Lloyd's algorithm around a level at zero
_ROUNDS = 12  # of conjugate gradients on the centroids


@dataclass
class Coded:
    """``levels`` float32 [codebooks, k], ascending, ``indices`` uint8 of the shape of the rows, and ``scales``, float32
    [groups, channels, 1]: a weight is levels[codebook, index] * scale.

    With a ``step`` levels are whole multiples of it, of -127 to 127, and a weight is multiple * (step * scale).
    ``even`` levels are all multiples from ``lowest`` on, so that an index can be stored as the multiple itself.
    """

    levels: Array
    indices: Array
    scales: Array
    step: float = 0.0
    even: bool = False
    lowest: int = 0

    @property
    def multiples(self) -> Array:
        """The levels as multiples of ``step``, int8 [codebooks, k]."""
        return np.rint(self.levels / self.step).astype(np.int8)

    def rows(self) -> Array:
        """The weights that they stand for, as float32 arithmetic makes them."""
        levels = self.multiples.astype(np.float32) if self.step else self.levels
        flat = self.indices.reshape(len(levels), -1)
        found = np.take_along_axis(levels, flat.astype(np.int64), axis=1).reshape(self.indices.shape)
        return found * self.factors()

    def factors(self) -> Array:
        """What a level or a multiple is multiplied by, float32 [groups, channels, 1]."""
        return (self.scales.astype(np.float64) * self.step).astype(np.float32) if self.step else self.scales

    @property
    def level_bytes(self) -> int:
        """What is stored of levels: nothing of even ones, a byte of a multiple, a float32 of others."""
        return 0 if self.even else self.levels.size * (1 if self.step else 4)

    @property
    def scale_bytes(self) -> int:
        """What is stored of scales: one a channel, one alone, or none."""
        factors = self.factors()
        if (factors == 1).all():
            return 0
        return 4 if (factors == factors.flat[0]).all() else int(factors.nbytes)

    @property
    def bits(self) -> int:
        """Of an index, unpacked."""
        return max(1, int(self.levels.shape[1] - 1).bit_length())


def entropy_of(indices: Array) -> float:
    """Bits for each index, coded by how often it occurs."""
    counts = np.bincount(indices.reshape(-1))
    share = counts[counts > 0] / max(1, indices.size)
    return max(0.0, -float((share * np.log2(share)).sum()))


@dataclass(frozen=True)
class Coding:
    """How weights are coded; the options of the pass that do not depend on the layer.

    ``kind`` is ``k-means`` or ``even``, ``group`` and ``block`` how many channels or weights have a codebook of their
    own (0: all share one), ``scaled`` whether each channel is divided by its own size first.
    """

    kind: str
    start: str = "exact"
    group: int = 0
    block: int = 0
    scaled: bool = True
    sensitive: bool = True
    compensate: bool = True
    integer: bool = False
    seed: int = 0

    def scales(self, layer: Layer) -> Array:
        """Root mean square of each channel, relative to that of all; ones where channels are not scaled."""
        rows = layer.rows
        if not self.scaled or rows.shape[2] < 4:
            return np.ones((*rows.shape[:2], 1), np.float32)
        sizes = np.sqrt(np.square(rows).mean(axis=2, keepdims=True))
        usual = float(np.sqrt(np.square(rows).mean())) or 1.0
        found = (sizes / usual).astype(np.float32)
        return np.where(found > np.finfo(np.float32).tiny, found, np.float32(1.0))  # a channel of next to nothing

    def with_bits(self, layer: Layer, bits: float) -> Coded:
        """As many bits for each weight: of an index for k-means, of entropy for even levels.

        Weights that share so few values already keep them, and their assignment with them.
        """
        if self.kind == "k-means":
            return self._shared(layer, round(bits)) or self._clustered(layer, round(bits))
        scales = self.scales(layer)
        rows = layer.rows / scales
        low, high = np.log(np.abs(rows).max() / _WIDEST + 1e-30), np.log(np.abs(rows).max() * 4 + 1e-30)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            whole = np.rint(rows / np.exp(middle)).astype(np.int64)
            if entropy_of(whole - whole.min()) > bits:
                low = middle
            else:
                high = middle
        return self._even(layer, float(np.exp(high)), scales)

    def with_error(self, layer: Layer, error: float) -> Coded:
        """As few bits as keep the mean squared error of weights at ``error``, 8 at most."""
        if self.kind == "even":
            return self._even(layer, float(np.sqrt(12 * error)), self.scales(layer))
        if (kept := self._shared(layer, 8)) is not None:
            return kept
        for bits in range(1, 9):
            if bits not in layer.tried:
                found = replace(self, compensate=False)._clustered(layer, bits)
                off = np.square(found.rows() - layer.rows) * layer.importance
                layer.tried[bits] = float(off.sum() / layer.importance.sum())
            if layer.tried[bits] <= error:
                break
        key = (bits, self.compensate)
        if key not in layer.made:
            layer.made[key] = self._clustered(layer, bits)
        made: Coded = layer.made[key]
        return made

    def _even(self, layer: Layer, step: float, scales: Array) -> Coded:
        """Multiples of ``step``: even levels are the best there are for as much entropy (Gish and Pierce, 1968)."""
        rows = layer.rows / scales
        largest = float(np.abs(rows).max()) or 1.0
        step = float(np.float32(max(step, largest / _WIDEST)))
        reach = int(min(_WIDEST, np.rint(largest / step)))

        def grid(column: int, values: Array) -> Array:
            nearest = np.clip(np.rint(values / step), -reach, reach) * step
            return np.where(rows[:, :, column] != 0, nearest, 0.0)

        whole = np.rint(self._placed(layer, rows, grid) / step).astype(np.int64)
        lowest = int(whole.min())
        levels = (np.arange(lowest, int(whole.max()) + 1) * step).astype(np.float32)[None]
        return Coded(levels, (whole - lowest).astype(np.uint8), scales, step, True, lowest)

    def _shared(self, layer: Layer, bits: int) -> Coded | None:
        """The weights as they are, when they share no more than 2^bits values already (trained centroids)."""
        if (
            np.unique(layer.array.reshape(-1)[:_GLANCE].astype(np.float32)).size > 1 << bits
        ):  # as a rule, and much sooner told
            return None
        rows = layer.rows
        levels, indices = np.unique(rows, return_inverse=True)
        if levels.size > min(1 << bits, rows.size // _SHARING):
            return None
        ones = np.ones((*rows.shape[:2], 1), np.float32)
        return Coded(levels.astype(np.float32)[None], indices.reshape(rows.shape).astype(np.uint8), ones)

    def _clustered(self, layer: Layer, bits: int) -> Coded:
        scales = self.scales(layer)
        rows = layer.rows / scales
        books = self._codebooks(rows)
        counted = layer.importance if self.sensitive else np.broadcast_to(np.float64(1.0), rows.shape)
        levels = np.stack([
            self._levels(values, weights, 1 << bits)
            for values, weights in zip(rows.reshape(books, -1), counted.reshape(books, -1), strict=True)
        ])  # fmt: skip
        step = 0.0
        if self.integer:
            step = float(np.float32(np.abs(levels).max() / _WIDEST)) or 1.0
            levels = np.rint(levels / step) * step
        of_element = np.repeat(np.arange(books), rows.size // books).reshape(rows.shape)

        def grid(column: int, values: Array) -> Array:
            book = of_element[:, :, column]
            places = _nearest(levels, book, values)
            return np.where(rows[:, :, column] != 0, levels[book, places], 0.0)

        made = self._placed(layer, rows, grid)
        indices = _nearest(levels, of_element, made)
        if self.compensate and layer.second is not None and not self.integer:
            levels = _refined(layer, rows, levels, indices, of_element, scales)
        order = np.argsort(levels, axis=1, kind="stable")
        levels, ranks = np.take_along_axis(levels, order, axis=1), np.argsort(order, axis=1)
        return Coded(levels.astype(np.float32), ranks[of_element, indices].astype(np.uint8), scales, step)

    def _codebooks(self, rows: Array) -> int:
        """How many codebooks; one where the weights do not divide evenly."""
        size, channels = int(rows.size), int(rows.shape[0] * rows.shape[1])
        if self.block and size % self.block == 0:
            return size // self.block
        if self.group and channels % self.group == 0:
            return channels // self.group
        return 1

    def _levels(self, values: Array, weights: Array, count: int) -> Array:
        """``count`` levels, of which one is 0 where some weights are; repeated where there are fewer distinct ones.

        With a level held at 0 the rest are not the optimum but the better of two, by Lloyd's algorithm: from the
        optimum for all with the level next to 0 moved there, and from that of one level less for what is not 0.
        """
        found = cluster(values, count, weights, start=self.start, seed=self.seed).centroids
        zero = values == 0
        if zero.any() and not zero.all():
            moved = found.copy()
            moved[np.abs(found).argmin()] = 0.0
            fewer = cluster(values[~zero], count - 1, weights[~zero], start=self.start, seed=self.seed).centroids
            tries = [_settled(values, weights, levels) for levels in (moved, np.concatenate([fewer, [0.0]]))]
            found = min(tries, key=lambda levels: _error(values, weights, levels))
        return np.concatenate([found, np.full(count - found.size, found[-1])])

    def _placed(self, layer: Layer, rows: Array, grid: Any) -> Array:
        """Each weight on one of its levels: the nearest, or with errors made good by the columns behind."""
        nearest = np.stack([grid(column, rows[:, :, column]) for column in range(rows.shape[2])], axis=2)
        if not self.compensate or layer.second is None:
            return nearest
        found = compensated(rows, layer.second, grid)
        before, after = (output_error(rows, layer.second, made) for made in (nearest, found))
        return np.where((after < before)[:, :, None], found, nearest)


def _settled(values: Array, weights: Array, levels: Array) -> Array:
    """``levels`` at the means of what is nearest to them, in some rounds; one at 0 stays there."""
    levels = np.unique(levels)
    for _ in range(_SETTLING):
        places = nearest(values, levels)
        mass = np.bincount(places, weights=weights, minlength=levels.size)
        sums = np.bincount(places, weights=weights * values, minlength=levels.size)
        levels = np.sort(np.where((levels != 0) & (mass > 0), sums / np.where(mass > 0, mass, 1.0), levels))
    return np.unique(levels)


def _error(values: Array, weights: Array, levels: Array) -> float:
    return float((weights * np.square(values - levels[nearest(values, levels)])).sum())


def _nearest(levels: Array, book: Array, values: Array) -> Array:
    """Place of the nearest level of each element's codebook."""
    if len(levels) == 1:
        return np.searchsorted((levels[0, 1:] + levels[0, :-1]) / 2, values, side="left")
    places = np.empty(values.shape, np.int64)
    middles = (levels[:, 1:] + levels[:, :-1]) / 2
    flat, of, out = values.reshape(-1), book.reshape(-1), places.reshape(-1)
    for start in range(0, flat.size, 1 << 16):
        part = slice(start, start + (1 << 16))
        out[part] = (flat[part, None] > middles[of[part]]).sum(axis=1)
    return places


def _refined(layer: Layer, rows: Array, levels: Array, indices: Array, book: Array, scales: Array) -> Array:
    """Levels that, with the indices held, make the layer's output err least: least squares by conjugate gradients.

    The gradient of a level is the sum of those of the weights that have it, as in Han et al. (2015), section 3. Zero
    stays zero, since its weights do not move.
    """
    second = layer.second
    assert second is not None
    place = book * levels.shape[1] + indices
    moving = levels.reshape(-1) != 0
    counted = np.square(scales.astype(np.float64))

    def gathered(weights: Array) -> Array:
        found = np.bincount(
            place.reshape(-1), weights=((weights * counted) @ second).reshape(-1), minlength=levels.size
        )
        return np.where(moving, found, 0.0)

    made = levels.reshape(-1).copy()
    rest = gathered(rows - made[place])
    direction, power = rest.copy(), float(rest @ rest)
    first = power
    for _ in range(_ROUNDS):
        if power <= 1e-12 * first or power == 0:
            break
        pushed = gathered(direction[place])
        curve = float(direction @ pushed)
        if curve <= 0:
            break
        made += power / curve * direction
        rest -= power / curve * pushed
        now = float(rest @ rest)
        direction, power = rest + now / power * direction, now
    return made.reshape(levels.shape)
