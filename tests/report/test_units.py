"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qcompiler.report import units


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (units.number, 0.0, "0"),
        (units.number, -0.0, "0"),
        (units.number, 20.0, "20"),
        (units.number, 0.0015, "0.0015"),
        (units.number, 0.123456, "0.1235"),
        (units.number, 9.99996, "10"),
        (units.number, 107.25, "107.2"),
        (units.number, 12345.6, "12,346"),
        (units.number, 1_500_000, "1,500,000"),
        (units.number, -3.25, "−3.25"),
        (units.number, 0.00000123, "1.23e-06"),
        (units.number, 1.5e12, "1.5e+12"),
        (units.number, -1e-12, "−1e-12"),
        (units.count, 1234567, "1,234,567"),
        (units.short_count, 9_999, "9,999"),
        (units.short_count, 11_173_962, "11.2 M"),
        (units.short_count, 1_814_073_344, "1.81 G"),
        (units.size, 0, "0 bytes"),
        (units.size, 1, "1 byte"),
        (units.size, 999, "999 bytes"),
        (units.size, 1000, "1.00 kB"),
        (units.size, 999_499, "999 kB"),
        (units.size, 999_600, "1.00 MB"),
        (units.size, 44_712_345, "44.7 MB"),
        (units.size, 3 * 10**18, "3,000 PB"),
        (units.milliseconds, 12.34, "12.3 ms"),
        (units.milliseconds, 5.7, "5.70 ms"),
        (units.microseconds, 0.25, "0.250 µs"),
        (units.seconds, 0.0312, "31.2 ms"),
        (units.seconds, 12.0, "12.0 s"),
        (units.seconds, 134.6, "2 min 15 s"),
        (units.ratio, 2.138, "2.14×"),
        (units.decibels, 31.24, "31.2 dB"),
        (units.decibels, -3.0, "−3.0 dB"),
        (units.share, 0.0, "0 %"),
        (units.share, 0.5, "50 %"),
        (units.share, 0.994, "99.4 %"),
        (units.share, 0.9922, "99.22 %"),
        (units.share, 0.999999, "99.99 %"),
        (units.share, 1.0, "100 %"),
    ],
)
def test_a_number_is_shown(show: Callable[[Any], str], value: float, text: str) -> None:
    assert show(value).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize("name", sorted({name for name in units.__all__ if name.islower()}))
def test_none_is_a_number_that_nobody_measured(name: str) -> None:
    assert getattr(units, name)(None) == "not measured"
