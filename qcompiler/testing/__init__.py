"""For authors of passes: assert that a rewrite keeps the numbers, and build graphs that a rule's pattern matches."""

from qcompiler.testing.examples import example
from qcompiler.testing.keeping import assert_keeps_numbers, random_feeds

__all__ = ["assert_keeps_numbers", "example", "random_feeds"]
