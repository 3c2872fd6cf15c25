"""The figure of a noise sweep, as SVG: the same curve gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

# Okabe and Ito's palette: told apart by all common kinds of colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_METRICS = {"auroc": "AUROC", "auprc": "AUPRC"}
_SUBSETS = {"all": "all stays", "paired": "stays with a film"}


def draw(curve: Sequence[Mapping[str, Any]], *, title: str) -> bytes:
    """Draw metrics by share of corrupted input, a panel by subset and metric.

    Args:
        curve: rows of curve.parquet; value None where there is none.
        title: above the figure.

    Returns:
        The SVG file's content.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [row for row in curve if row["value"] is not None]
    subsets = [name for name in _SUBSETS if any(row["subset"] == name for row in rows)]
    models = list(dict.fromkeys(row["model"] for row in curve))
    # no font is embedded and no random id is made, so that the bytes depend on the curve alone
    with mpl.rc_context({"svg.hashsalt": "fusionctl", "svg.fonttype": "none", "font.size": 9}):
        height = 3.0 * max(1, len(subsets))
        figure = Figure(figsize=(7.5, height), layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots(max(1, len(subsets)), len(_METRICS), sharex=True, squeeze=False)
        for line, subset in zip(axes, subsets, strict=False):
            for axis, (metric, name) in zip(line, _METRICS.items(), strict=True):
                for model, colour in zip(models, _COLOURS * (1 + len(models) // len(_COLOURS)), strict=False):
                    _line(
                        axis,
                        [r for r in rows if (r["subset"], r["metric"], r["model"]) == (subset, metric, model)],
                        model,
                        colour,
                    )
                axis.set(title=f"{name}, {_SUBSETS[subset]}", xlabel="share corrupted (%)")
                axis.spines[["top", "right"]].set_visible(False)
        handles, labels = axes[0][0].get_legend_handles_labels()
        if len(subsets) > 1:
            handles, labels = max(
                (a.get_legend_handles_labels() for line in axes for a in line), key=lambda x: len(x[1])
            )
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _line(axis: Any, rows: Sequence[Mapping[str, Any]], model: str, colour: str) -> None:
    if rows:
        rows = sorted(rows, key=lambda row: row["noise"])
        x = [100 * row["noise"] for row in rows]
        axis.plot(x, [row["value"] for row in rows], color=colour, marker="o", markersize=3, label=model)
        known = [(100 * r["noise"], r["low"], r["high"]) for r in rows if r["low"] is not None]
        if known:
            at, low, high = zip(*known, strict=True)
            axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
