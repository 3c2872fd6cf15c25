"""The register of damages: each a small function that breaks a tree, and what must happen then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from broken_tree import TABLES, BrokenTree
from outcome import Outcome

EVERY = tuple(TABLES)


@dataclass(frozen=True)
class Damage:
    """One kind of damage.

    Attributes:
        name: of the kind.
        family: what sort of damage it is.
        do: breaks a tree; takes the table too where the kind fits several.
        outcome: what must happen.
        tables: those that it fits; empty for a kind that knows what it breaks.
        table: the one that it breaks, of a kind that fits no other.
    """

    name: str
    family: str
    do: Callable[..., None]
    outcome: Outcome
    tables: tuple[str, ...] = ()
    table: str = ""


@dataclass(frozen=True)
class Case:
    """A damage to one table."""

    damage: Damage
    table: str

    @property
    def name(self) -> str:
        return f"{self.damage.name}-{self.table}" if self.damage.tables else self.damage.name

    def do(self, tree: BrokenTree) -> None:
        self.damage.do(*((tree, self.table) if self.damage.tables else (tree,)))


DAMAGES: dict[str, Damage] = {}


def damage(
    family: str, outcome: Outcome, tables: Sequence[str] = (), *, table: str = "", name: str = ""
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a kind of damage, under its name."""

    def register(do: Callable[..., None]) -> Callable[..., None]:
        kind = (name or do.__name__).replace("_", " ")
        assert kind not in DAMAGES, kind
        DAMAGES[kind] = Damage(kind, family, do, outcome, tuple(tables), table)
        return do

    return register


def cell(
    family: str, name: str, table: str, column: str, value: str, outcome: Outcome, records: Sequence[int] = (1,)
) -> None:
    """Register the kind that sets a column of a table's records."""
    damage(family, outcome, table=table, name=name)(
        partial(_set, table=table, column=column, value=value, records=records)
    )


def _set(tree: BrokenTree, *, table: str, column: str, value: str, records: Sequence[int]) -> None:
    tree.set(table, column, value, records=records)


def cases() -> Iterator[Case]:
    """Every kind on every table that it fits."""
    for kind in DAMAGES.values():
        for table in kind.tables or (kind.table,):
            yield Case(kind, table)


def one_of_each() -> list[Case]:
    """Every kind once; those that fit several tables take turns among them."""
    return [
        Case(kind, kind.tables[turn % len(kind.tables)] if kind.tables else kind.table)
        for turn, kind in enumerate(DAMAGES.values())
    ]


def sample(every: int) -> list[Case]:
    """The first kind of each family, and of all kinds every n-th: always the same."""
    chosen: dict[str, Case] = {}
    families: set[str] = set()
    for turn, case in enumerate(one_of_each()):
        if case.damage.family not in families or turn % every == 0:
            chosen[case.name] = case
        families.add(case.damage.family)
    return list(chosen.values())
