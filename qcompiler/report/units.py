"""Numbers as people read them, with their units. None is a number that nobody measured."""

from __future__ import annotations

import math

__all__ = [
    "NOT_MEASURED",
    "NO_BREAK",
    "count",
    "decibels",
    "joules",
    "microseconds",
    "milliseconds",
    "number",
    "ratio",
    "seconds",
    "share",
    "short_count",
    "size",
]

NOT_MEASURED = "not measured"
NO_BREAK = "\N{NO-BREAK SPACE}"


def number(value: float | None, digits: int = 4) -> str:
    """``digits`` significant digits, without zeros at the end: 0.0123, 4.567, 20, 12,346."""
    if value is None:
        return NOT_MEASURED
    text, power, exponent = _significant(value, digits).partition("e")
    return (text.rstrip("0").rstrip(".") if "." in text else text) + power + exponent


def count(value: int | None) -> str:
    """12,345"""
    return NOT_MEASURED if value is None else f"{value:,}"


def short_count(value: int | None) -> str:
    """11.7 M, for numbers of which the first digits matter."""
    if value is None or abs(value) < 10_000:
        return count(value)
    return _scaled(value, ["k", "M", "G", "T", "P"])


def size(value: int | None) -> str:
    """Bytes in powers of 1000: 873 bytes, 44.7 MB."""
    if value is None:
        return NOT_MEASURED
    if value < 1000:
        return f"{value}{NO_BREAK}byte{'' if value == 1 else 's'}"
    return _scaled(value, ["kB", "MB", "GB", "TB", "PB"])


def seconds(value: float | None) -> str:
    """From 12 ms to 3 min 20 s."""
    if value is None:
        return NOT_MEASURED
    if value < 1:
        return milliseconds(value * 1000)
    if value < 100:
        return f"{_significant(value, 3)}{NO_BREAK}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes:,}{NO_BREAK}min {rest}{NO_BREAK}s"


def milliseconds(value: float | None) -> str:
    """12.3 ms"""
    return NOT_MEASURED if value is None else f"{_significant(value, 3)}{NO_BREAK}ms"


def microseconds(value: float | None) -> str:
    """12.3 µs"""
    return NOT_MEASURED if value is None else f"{_significant(value, 3)}{NO_BREAK}µs"


def joules(value: float | None) -> str:
    """Energy: 12.3 mJ."""
    return NOT_MEASURED if value is None else _scaled(1e6 * value, ["µJ", "mJ", "J", "kJ"])


def ratio(value: float | None) -> str:
    """2.14×"""
    return NOT_MEASURED if value is None else f"{value:,.2f}×"


def decibels(value: float | None) -> str:
    """31.2 dB"""
    return NOT_MEASURED if value is None else f"{value:.1f}{NO_BREAK}dB".replace("-", "−")


def share(value: float | None) -> str:
    """A number from 0 to 1 as 99.4 %. What is not all is not called 100 %."""
    if value is None:
        return NOT_MEASURED
    percent = math.floor(value * 10_000 + 1e-9) / 100 if value > 0.999 else value * 100
    return f"{percent:.2f}".removesuffix("0").removesuffix(".0") + f"{NO_BREAK}%"


def _scaled(value: float, units: list[str]) -> str:
    power = 0
    while abs(value) >= 999.5 and power < len(units):
        value, power = value / 1000, power + 1
    return f"{_significant(value, 3)}{NO_BREAK}{units[power - 1]}"


def _significant(value: float, digits: int) -> str:
    """``digits`` significant digits, zeros at the end among them, and all the digits of a whole number."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if isinstance(value, int):
        text = f"{value:,}"
    elif not -5 < magnitude < 9:
        text = f"{value:.{digits - 1}e}"
    else:
        text = f"{value:,.{max(0, digits - 1 - magnitude)}f}"
    return "−" + text[1:] if text.startswith("-") else text
