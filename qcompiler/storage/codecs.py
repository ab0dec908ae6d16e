"""How a chunk of bytes is coded: as it is, by zstandard, by planes of bytes, or by the frequencies of its symbols.

Which one is tried depends on the elements; which one is taken on the sizes that come out. Measured on 8 million
indices of 6 bits with a normal distribution, one core: zstandard's Huffman codes 131 MB/s in, 328 out, 1.0 % above the
entropy; constriction's asymmetric numeral systems 67 in, 17 out, 0.0 %. With nine tenths of zeros zstandard is 24 to
60 % above. So zstandard codes what it is near the entropy with, and numeral systems what it is not; where a file is
small, near means 0.2 %, else 5 %.
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import numpy as np

from qcompiler.errors import UsageError

__all__ = ["decoded", "encoded", "need_libraries"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_STORED, _ZSTD, _PLANES, _SYMBOLS, _SPARSE = range(5)

_NEAR, _THOROUGH = 1.05, 1.002  # of the entropy, up to which what is faster is taken: of large files, and of others
_ESCAPE = 255  # a gap of so many zeros and no symbol behind it
_LEVEL, _REST_LEVEL = 1, 19  # zstandard's, for tensors and for the little that stands between them
_REST = 1 << 20  # bytes up to which the slow level is worth its time
_MOST = 65535  # of a frequency, as it is written
_WINDOW = 1 << 27  # bytes that a frame may look back
_BITS = (2, 4, 8)  # of a symbol


def need_libraries() -> None:
    """Raises UsageError with the extra to install when zstandard or constriction is not there."""
    try:
        import constriction  # noqa: F401
        import zstandard  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", hint="pip install 'qcompiler[pack]'") from None


def encoded(data: bytes, bits: int = 0, *, thorough: bool = True) -> bytes:
    """``data`` in few bytes. ``bits`` is the size of its elements, 0 where it has none.

    Elements of 2, 4 and 8 bits are symbols; larger ones are split into planes of their bytes. Without ``thorough`` up
    to a twentieth is given away where another codec is faster.
    """
    if bits in _BITS:
        return _by_symbols(data, bits, thorough)
    if bits in (16, 32, 64) and len(data) % (bits // 8) == 0:
        planes = np.frombuffer(data, np.uint8).reshape(-1, bits // 8).T
        return min(bytes([_PLANES, bits // 8]) + _zstd(planes.tobytes(), _LEVEL), _plain(data, _LEVEL), key=len)
    return _plain(data, _REST_LEVEL if len(data) <= _REST else _LEVEL)


def decoded(data: bytes, size: int) -> bytes:
    """The ``size`` bytes that :func:`encoded` made ``data`` of. Raises ValueError for what it did not make."""
    if not data:
        raise ValueError("a chunk without a codec")
    codec, rest = data[0], data[1:]
    if codec == _STORED:
        found = rest
    elif codec == _ZSTD:
        found = _unzstd(rest, size)
    elif codec == _PLANES:
        width = rest[0]
        if not width or size % width:
            raise ValueError(f"planes of {width} bytes")
        found = np.frombuffer(_unzstd(rest[1:], size), np.uint8).reshape(width, -1).T.tobytes()
    elif codec == _SYMBOLS:
        bits = _bits_of(rest)
        found = _packed(_read_symbols(rest[1:], size * 8 // bits, 1 << bits)[0], bits)
    elif codec == _SPARSE:
        found = _read_sparse(rest, size)
    else:
        raise ValueError(f"codec {codec}")
    if len(found) != size:
        raise ValueError(f"a chunk of {len(found)} bytes instead of {size}")
    return found


def _bits_of(data: bytes) -> int:
    if not data or data[0] not in _BITS:
        raise ValueError("symbols of no size")
    return data[0]


def _plain(data: bytes, level: int) -> bytes:
    made = bytes([_ZSTD]) + _zstd(data, level)
    return made if len(made) <= len(data) else bytes([_STORED]) + data


def _zstd(data: bytes, level: int) -> bytes:
    import zstandard

    # Sizes and checksums are the container's.
    options = zstandard.ZstdCompressionParameters.from_level(level, write_content_size=False, write_checksum=False)
    return bytes(zstandard.ZstdCompressor(compression_params=options).compress(data))


def _unzstd(data: bytes, size: int) -> bytes:
    import zstandard

    try:  # what a frame says of its own size is not believed
        with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(data) as reader:
            return bytes(reader.read(size + 1))
    except (zstandard.ZstdError, MemoryError) as error:
        raise ValueError(str(error)) from None


def _by_symbols(data: bytes, bits: int, thorough: bool) -> bytes:
    fast = _plain(data, _LEVEL)
    counts = _frequencies(data, bits)
    total = len(data) * 8 // bits
    share = counts[counts > 0] / max(1, total)
    entropy = -float((share * np.log2(share)).sum()) * total / 8
    near = _THOROUGH if thorough else _NEAR
    if len(fast) <= near * entropy:
        return fast
    symbols = _symbols(data, bits)
    found = [fast]
    if counts.max() >= symbols.size / 2:  # else there are hardly fewer gaps than symbols
        found.append(bytes([_SPARSE, bits]) + _sparse(symbols, counts, bits))
    best = min(found, key=len)
    # Of all symbols there are more than of gaps: what codes them all has to be worth its time.
    estimate = entropy + 2 * share.size + (1 << bits) / 8 + 8
    if estimate * near < len(best):
        best = min(bytes([_SYMBOLS, bits]) + _write_symbols(symbols, 1 << bits), best, key=len)
    return best


def _frequencies(data: bytes, bits: int) -> Array:
    """How often each symbol occurs, from how often each byte does."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    if bits == 8:
        return counts
    every = _symbols(bytes(range(256)), bits)
    return np.bincount(every, weights=np.repeat(counts, 8 // bits), minlength=1 << bits).astype(np.int64)


def _symbols(data: bytes, bits: int) -> Array:
    """Elements of 2, 4 or 8 bits, the first in the low bits of a byte."""
    held = np.frombuffer(data, np.uint8)
    if bits == 8:
        return held
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((held[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)


def _packed(symbols: Array, bits: int) -> bytes:
    if bits == 8:
        return bytes(symbols.astype(np.uint8).tobytes())
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = symbols.astype(np.uint8).reshape(-1, 8 // bits) << shifts
    return bytes(np.bitwise_or.reduce(parts, axis=1).astype(np.uint8).tobytes())


def _write_symbols(symbols: Array, alphabet: int) -> bytes:
    """Which symbols occur, how often (16 bits, relative to the most frequent), and their code in words of 32 bits."""
    import constriction

    counts = np.bincount(symbols, minlength=alphabet)
    present = counts > 0
    scaled = np.maximum(1, np.round(counts[present] * (_MOST / max(1, counts.max())))).astype("<u2")
    table = bytes(np.packbits(present).tobytes() + scaled.tobytes())
    if scaled.size < 2:
        return table
    ranks = (np.cumsum(present) - 1)[symbols].astype(np.int32)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(ranks, _model(scaled))
    words = np.asarray(coder.get_compressed(), "<u4")
    return table + struct.pack("<I", words.size) + words.tobytes()


def _read_symbols(data: bytes, count: int, alphabet: int) -> tuple[Array, bytes]:
    """``count`` symbols, and what stands behind them."""
    import constriction

    size = -(-alphabet // 8)
    present = np.flatnonzero(np.unpackbits(np.frombuffer(data[:size], np.uint8)))
    scaled = np.frombuffer(data[size : size + 2 * present.size], "<u2")
    rest = data[size + 2 * present.size :]
    if present.size < 2:
        return np.full(count, present[0] if present.size else 0, np.int64), rest
    (words,) = struct.unpack_from("<I", rest)
    code = np.frombuffer(rest[4 : 4 + 4 * words], "<u4")
    ranks = constriction.stream.stack.AnsCoder(code.astype(np.uint32)).decode(_model(scaled), count)
    return present[ranks], rest[4 + 4 * words :]


def _model(scaled: Array) -> Any:
    """Probabilities of at least two symbols; the same from the same 16-bit frequencies."""
    import constriction

    weights = scaled.astype(np.float64)
    return constriction.stream.model.Categorical(weights / weights.sum(), perfect=False)


def _sparse(symbols: Array, counts: Array, bits: int) -> bytes:
    """The most frequent symbol, the gaps of it between others, and the others (Han et al., 2015, section 2)."""
    usual = int(counts.argmax())
    places = np.flatnonzero(symbols != usual)
    gaps = np.diff(places, prepend=-1) - 1
    escapes = gaps // _ESCAPE
    codes = np.full(int((escapes + 1).sum()), _ESCAPE, np.int64)
    codes[np.cumsum(escapes + 1) - 1] = gaps % _ESCAPE
    head = struct.pack("<BII", usual, places.size, codes.size)
    if not places.size:
        return head
    return head + _write_symbols(codes, 256) + _write_symbols(symbols[places], 1 << bits)


def _read_sparse(data: bytes, size: int) -> bytes:
    bits = _bits_of(data)
    usual, others, count = struct.unpack_from("<BII", data, 1)
    total = size * 8 // bits
    if others > total or count > others + total // _ESCAPE:
        raise ValueError("more positions than elements")
    symbols = np.full(total, usual, np.uint8)
    if others:
        codes, rest = _read_symbols(data[10:], count, 256)
        ends = codes != _ESCAPE
        places = np.cumsum(codes)[ends] + np.arange(int(ends.sum()))
        if places.size != others or places[-1] >= symbols.size:
            raise ValueError("positions outside of the tensor")
        symbols[places] = _read_symbols(rest, others, 1 << bits)[0]
    return _packed(symbols, bits)
