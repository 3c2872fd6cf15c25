"""Counting what every rule drops: nothing is lost without a count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import polars as pl


class Attrition:
    """How many rows or stays of one table each rule dropped, in the order in which the rules apply.

    A rule may be applied to one frame after another; its counts add up. Kept rows of a rule are what the next one
    starts from, so the list always adds up.
    """

    def __init__(self, table: str, unit: Literal["rows", "stays"]) -> None:
        self.table = table
        self.unit = unit
        self.before = 0
        self._dropped: dict[str, int] = {}

    def drop(self, rule: str, count: int) -> None:
        """Count what a rule dropped; 0 keeps the rule in the list."""
        self._dropped[rule] = self._dropped.get(rule, 0) + count

    def add(self, other: Attrition) -> None:
        """Add the counts of another part of the same table."""
        self.before += other.before
        for rule, dropped in other._dropped.items():
            self.drop(rule, dropped)

    def keep(self, rule: str, frame: pl.DataFrame, condition: pl.Expr) -> pl.DataFrame:
        """The rows for which the condition is true (missing is not true); the others are counted under the rule."""
        kept = frame.filter(condition)
        self.drop(rule, frame.height - kept.height)
        return kept

    def rows(self) -> list[dict[str, Any]]:
        """One entry a rule: table, rule, unit, before, dropped, kept."""
        entries, before = [], self.before
        for rule, dropped in self._dropped.items():
            kept = before - dropped
            entries.append(
                {
                    "table": self.table,
                    "rule": rule,
                    "unit": self.unit,
                    "before": before,
                    "dropped": dropped,
                    "kept": kept,
                }
            )
            before = kept
        return entries

    @property
    def kept(self) -> int:
        """What is left after all rules so far."""
        return self.before - sum(self._dropped.values())

    def __str__(self) -> str:
        counts = ", ".join(f"{rule}: {dropped}" for rule, dropped in self._dropped.items() if dropped)
        return f"{self.table}: {self.before} {self.unit}, {self.kept} kept; dropped: {counts or 'none'}"


def table_of(counted: Sequence[Attrition]) -> dict[str, Any]:
    """What every rule dropped, as a table for the terminal: title, header and rows of text.

    Rules that dropped nothing are left out here (the file has them all); each table ends with what was kept.
    """
    rows = []
    for attrition in counted:
        rows.append([attrition.table, "read", "", f"{attrition.before:,}", attrition.unit])
        rows += [["", entry["rule"], f"{entry['dropped']:,}", "", ""] for entry in attrition.rows() if entry["dropped"]]
        rows.append(["", "kept", "", f"{attrition.kept:,}", ""])
    return {"title": "What each rule left out", "header": ["table", "rule", "dropped", "count", "of"], "rows": rows}
