"""What the report consists of before it becomes a page, Markdown, CSV or LaTeX: sections of tables and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusionctl.report.html import Html
from fusionctl.report.names import DASH, number, p_value


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number with what is known of it: interval, p, p after Holm's correction; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    digits: int = 3
    signed: bool = False

    @classmethod
    def of(cls, entry: Mapping[str, float | None] | None, *, digits: int = 3, signed: bool = False) -> Figure:
        """From an entry of metrics.json; no number from none, and no interval where no draw varied."""
        found = dict(entry or {})
        if found.get("low") == found.get("high"):
            found |= {"low": None, "high": None}
        known = {key: found.get(key) for key in ("value", "low", "high", "p", "p_holm")}
        return cls(digits=digits, signed=signed, **known)

    @property
    def lines(self) -> tuple[str, ...]:
        """The value, its interval and its p as texts of their own."""
        value, low, high = (number(x, self.digits, signed=self.signed) for x in (self.value, self.low, self.high))
        if self.value is None:
            return (DASH,)
        between = " to " if self.signed or (self.low is not None and self.low < 0) else "–"
        interval = "" if self.low is None or self.high is None else f"{low}{between}{high}"
        holm = "" if self.p_holm is None else p_value(self.p_holm).replace("p ", "Holm ", 1)
        return tuple(line for line in (value, interval, ", ".join(p for p in (p_value(self.p), holm) if p)) if line)

    def __str__(self) -> str:
        first, *rest = self.lines
        return f"{first} ({', '.join(rest)})" if rest else first


Cell = str | Figure | Html
Rows = Sequence[Sequence[Cell]]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table for every format.

    Attributes:
        name: what it is: the caption, and its first column in the CSV file.
        header: names of the columns.
        groups: (heading or "", rows); the first cell of a row names it. `|` parts a heading from its small print.
        texts: columns after the first that hold text, not numbers.
        stack: on a phone, put the name of a row above its numbers instead of scrolling.
        drawn: what the page shows in its place.
        caption: show the name above the table on the page.
    """

    name: str
    header: Sequence[str]
    groups: Sequence[tuple[str, Rows]]
    texts: int = 0
    stack: bool = False
    drawn: Html | None = None
    caption: bool = False


@dataclass(frozen=True)
class Note:
    """A sentence for the reader, of every format."""

    text: str


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Fold:
    """What the page shows on request (and in print); `page_only`: no other format has it."""

    summary: str
    parts: Sequence[Part]
    page_only: bool = False


Part = Table | Note | Heading | Fold | Html


@dataclass(frozen=True)
class Section:
    """A part of the report with a title."""

    title: str
    parts: Sequence[Part] = ()


def blocks(rows: Sequence[str], most: int) -> list[Sequence[str]]:
    """Names of columns in blocks of at most `most`, as even as can be, so that a table fits a printed page."""
    count = -(-len(rows) // most)
    size = -(-len(rows) // count) if count else 0
    return [rows[i : i + size] for i in range(0, len(rows), size)] if size else []
