"""Which cells a robustness sweep is made of: each is one model under one corruption at one level.

A curve asks for one cell a model and level. Curves share cells: all have the clean input at level 0, and a model that
does not read what is corrupted is the same at every level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from fusionctl.errors import UsageError
from fusionctl.settings import Corruption, Modality

NAMES: tuple[str, ...] = get_args(Corruption)
MODALITIES: tuple[str, ...] = get_args(Modality)
NOISE, CLEAN = "noise", "clean"
OF_SERIES = ("variables", "gap", "units")  # the corruptions of films are the others


@dataclass(frozen=True)
class Curve:
    """What is corrupted, how, and what the models were trained on ("clean" or "noisy"); kind is of noise alone."""

    corruption: str
    kind: str
    modality: str
    trained: str


@dataclass(frozen=True)
class Cell:
    """One model under one corruption.

    Attributes:
        model: number of the model.
        corruption, level, kind, modality: as in `settings.CellSettings`.
        trained: "noisy": the model trained anew on this very noise; "clean": the model as it is.
    """

    model: int
    corruption: str = CLEAN
    level: float = 0.0
    kind: str = ""
    modality: str = ""
    trained: str = CLEAN


def curves(corruption: str, *, kind: str, modality: str, train_on: str) -> list[Curve]:
    """The curves that the settings of `robustness` ask for.

    Raises:
        UsageError: a name is not known, or models are to be trained on a corruption that is not noise.
    """
    corruptions, modalities = _names("--corruption", corruption, NAMES), _names("--modality", modality, MODALITIES)
    if train_on != "clean" and NOISE not in corruptions:
        raise UsageError(
            f"--train-on {train_on} trains on noise; --corruption is {corruption}",
            hint="add noise to --corruption, or leave --train-on out",
        )
    found = []
    for name in corruptions:
        if name != NOISE:
            found.append(Curve(name, "", "ehr" if name in OF_SERIES else "cxr", "clean"))
            continue
        trained = ("clean", "noisy") if train_on == "both" else (train_on,)
        found += [Curve(NOISE, kind, m, t) for t in trained for m in modalities]
    return found


def _names(flag: str, text: str, known: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    wrong = [name for name in names if name not in known]
    if wrong:
        raise UsageError(f"{flag} takes names of {', '.join(known)}, comma-separated; got {wrong[0]!r}")
    return names


def cell_of(curve: Curve, level: float, model: int, reads: Sequence[str]) -> Cell:
    """The cell of a curve's point for a model that reads some of "ehr" and "cxr"."""
    corrupted = [m for m in ("ehr", "cxr") if m in reads and curve.modality in (m, "both")]
    if level == 0 or not corrupted:
        return Cell(model)
    modality = "both" if len(corrupted) == 2 else corrupted[0]
    return Cell(model, curve.corruption, level, curve.kind, modality, curve.trained)


def cells(curves: Sequence[Curve], levels: Sequence[float], reads: Sequence[Sequence[str]]) -> list[Cell]:
    """All cells of a sweep, each once: the models of one level beside each other, since they share its input.

    Args:
        curves: see `curves`.
        levels: severities, 0 among them.
        reads: what each model reads.
    """
    every = [cell_of(c, level, model, r) for c in curves for level in levels for model, r in enumerate(reads)]
    return list(dict.fromkeys(every))
