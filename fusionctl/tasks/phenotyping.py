"""Phenotyping: which of 25 conditions an ICU stay's admission was coded with, from the whole stay."""

from __future__ import annotations

import polars as pl

from fusionctl.data.phenotypes import labels_of, phenotypes


class Phenotyping:
    """Which of 25 acute, mixed and chronic conditions does the admission have? Asked when the stay ends.

    Labels come from all diagnoses of the admission (Harutyunyan et al. 2019), so this is retrospective: it recognises
    what was there, it does not foresee.
    """

    name = "phenotyping"
    labels: tuple[str, ...] = tuple(phenotype.name for phenotype in phenotypes())

    def samples(
        self, stays: pl.DataFrame, diagnoses: pl.DataFrame, *, protocol: str, window_hours: float = 0.0
    ) -> tuple[pl.DataFrame, dict[str, int]]:
        """See `fusionctl.tasks.Task.samples`. The window is the whole stay, or its first `window_hours`."""
        kept = stays.filter(pl.col("los_hours") > 0).sort("stay_id")
        window = pl.col("los_hours")
        if window_hours:
            window = pl.min_horizontal(window, pl.lit(window_hours))
        samples = kept.select("stay_id", "hadm_id", window_hours=window)
        labels = labels_of(samples["hadm_id"], diagnoses, protocol)
        samples = samples.join(labels, on="hadm_id", how="left", maintain_order="left").drop("hadm_id")
        return samples, {"ICU length of stay is zero": len(stays) - len(kept)}
