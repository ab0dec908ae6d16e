"""What a function that is told of progress gets: a text, and for work of a known length how much of it is done."""

from __future__ import annotations

__all__ = ["Step"]


class Step(str):
    """A text that also knows that ``done`` of ``total`` parts of the work it names are done."""

    done: int
    total: int

    def __new__(cls, text: str, done: int, total: int) -> Step:
        made = super().__new__(cls, text)
        made.done, made.total = done, total
        return made

    def __reduce__(self) -> tuple[type[Step], tuple[str, int, int]]:
        return Step, (str(self), self.done, self.total)
