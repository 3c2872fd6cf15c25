"""In-hospital mortality, predicted 48 hours after admission to the ICU."""

from __future__ import annotations

import polars as pl

# Paper, section IV-E, after Harutyunyan et al. 2019: stays of at least 48 h, events of the first 48 h.
WINDOW_HOURS = 48.0
# Lengths of stay are differences of times in floating point; a millisecond's thousandth is no difference.
TOLERANCE_HOURS = 1e-6


class Mortality:
    """Does the patient die before leaving hospital? Asked at 48 h, of stays that last that long."""

    name = "mortality"
    labels: tuple[str, ...] = ("mortality",)

    def samples(
        self, stays: pl.DataFrame, diagnoses: pl.DataFrame, *, protocol: str, window_hours: float = 0.0
    ) -> tuple[pl.DataFrame, dict[str, int]]:
        """See `fusionctl.tasks.Task.samples`. Other `window_hours` ask earlier or later, of stays that last as long."""
        window = window_hours or WINDOW_HOURS
        kept = stays.filter(pl.col("los_hours") >= window - TOLERANCE_HOURS)
        samples = kept.sort("stay_id").select(
            "stay_id",
            window_hours=pl.lit(window),
            mortality=pl.col("died_in_hospital").cast(pl.Float32).fill_null(float("nan")),
        )
        return samples, {f"ICU length of stay below {window:g} h": len(stays) - len(kept)}
