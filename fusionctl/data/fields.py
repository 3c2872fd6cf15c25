"""What the text of a field must be, and what it becomes."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

Kind = Literal["id", "whole", "number", "label", "time", "date", "text"]

_TIME_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M")
# MIMIC moves its dates to the years from 2110 on; what lies outside these two years is a broken time, not a time.
_YEARS = (1900, 2300)
_MICROSECONDS = tuple((datetime(year, 1, 1) - datetime(1970, 1, 1)) // timedelta(microseconds=1) for year in _YEARS)
_IDENTIFIER = re.compile(r"(?<![0-9a-f])(?=[a-f]*[0-9])[0-9a-f]{7,}", re.I)
MEANING = {
    "id": "a whole number above 0",
    "whole": "a whole number",
    "number": "a number",
    "label": "1, 0, -1 or empty",
    "time": f"a time like 2150-01-31 23:59:00, from {_YEARS[0]} on and before {_YEARS[1]}",
    "date": f"a date like 2150-01-31, from {_YEARS[0]} on and before {_YEARS[1]}",
}


def shown(text: str) -> str:
    """A faulty field as a message may show it: where it could hold an identifier, only what it looks like.

    Of columns in a wrong order any may be the patient's: of seven or more digits (a film's name has letters to f among
    them) each is shown as 0, each letter beside them as x.
    """
    looks = _IDENTIFIER.sub(lambda found: re.sub("[a-z]", "x", re.sub("[0-9]", "0", found[0]), flags=re.I), text)
    return repr(looks[:40]) if looks == text else f"a text like {looks[:40]!r}"


def convert(text: pl.Series, kind: Kind) -> pl.Series:
    """Values of a column of texts; null where a text is none of its kind.

    Args:
        text: the fields.
        kind: see `tables.Column`.
    """
    if kind == "text":
        return text
    if kind in ("id", "whole"):
        numbers = text.cast(pl.Int64, strict=False)
        return _between(numbers, 1) if kind == "id" else numbers
    if kind in ("number", "label"):
        numbers = text.cast(pl.Float64, strict=False)
        return numbers.set(~numbers.is_in([-1.0, 0.0, 1.0]), None) if kind == "label" else numbers
    formats = (*_TIME_FORMATS, "%Y-%m-%d") if kind == "date" else _TIME_FORMATS
    times = text.str.to_datetime(formats[0], time_unit="us", strict=False)
    for other in formats[1:]:
        if times.null_count() == text.null_count():
            break
        rest = text.str.to_datetime(other, time_unit="us", strict=False)
        times = pl.select(pl.coalesce(times, rest)).to_series().alias(text.name)
    return _between(times, *_MICROSECONDS)


def _between(values: pl.Series, low: int, high: int | None = None) -> pl.Series:
    """The values from `low` on and below `high`, null in place of others: rare, so the ends are looked at first."""
    numbers: Any = values.to_physical()
    if values.null_count() == len(values) or (numbers.min() >= low and (high is None or numbers.max() < high)):
        return values
    valid = (numbers >= low) & (True if high is None else numbers < high)
    return pl.select(pl.when(valid).then(values)).to_series().alias(values.name)
