"""The tasks. A new one is a file with a class like `Mortality` and one line in `TASKS`."""

from __future__ import annotations

from typing import Protocol

import polars as pl

from fusionctl.tasks.mortality import Mortality
from fusionctl.tasks.phenotyping import Phenotyping


class Task(Protocol):
    """What a task must offer."""

    name: str
    labels: tuple[str, ...]

    def samples(
        self, stays: pl.DataFrame, diagnoses: pl.DataFrame, *, protocol: str, window_hours: float = 0.0
    ) -> tuple[pl.DataFrame, dict[str, int]]:
        """Choose stays, the end of each one's input, and the labels.

        Args:
            stays: `stays.parquet` of the extract artifact.
            diagnoses: `diagnoses.parquet` of the extract artifact.
            protocol: `paper` or `legacy`.
            window_hours: end of the input since intime; 0 is the task's own.

        Returns:
            One row per sample, sorted by stay_id, with the columns stay_id, window_hours (f64: end of the input since
            intime = time of prediction) and one f32 column per label (1, 0, or NaN where unknown); and the number of
            stays that each rule left out, by rule, in the order in which the rules are applied.
        """


TASKS: dict[str, Task] = {
    "mortality": Mortality(),
    "phenotyping": Phenotyping(),
}
