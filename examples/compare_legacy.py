#!/usr/bin/env python3
"""Compare protocol `legacy` with what the reference's own code makes of the same MIMIC-IV tree.

    python examples/compare_legacy.py --mimic-root DIR --truth DIR [--work-dir DIR]

The folder of the truth holds, for in-hospital-mortality and phenotyping, `<task>_samples.csv` (stay_id, period_hours,
labels) and `<task>_h<step>.npz` (by stay_id: the grid's rows, 76 columns, not standardised), and `columns.txt`.
Prints, for each task and grid step, whether stays, labels and periods are the same and which share of all cells is
equal within 1e-4. Exit code 1 if less than 99.9 % of them are.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fusionctl.data.batch import column_names, expand

TASKS = {"in-hospital-mortality": "mortality", "phenotyping": "phenotyping"}
TOLERANCE = 1e-4
PERIOD_HOURS = 1e-6  # the reference takes the length of stay from a rounded column, in days
TARGET = 0.999
UNSCALED = {"mean": [0.0] * 17, "sd": [1.0] * 17}


def run(stage: str, work: Path, *options: str) -> Path:
    """Run a stage in protocol legacy; its artifact's folder."""
    command = [sys.executable, "-m", "fusionctl", stage, "--protocol", "legacy", "--work-dir", str(work), "--quiet"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return Path(done.stdout.splitlines()[-1])


def compare(folder: Path, truth: Path, task: str, step: int) -> dict[str, Any]:
    """Samples and grid of a preprocess artifact beside the reference's."""
    ours = pl.read_parquet(folder / "samples.parquet").sort("stay_id")
    theirs = pl.read_csv(truth / f"{task}_samples.csv").sort("stay_id")
    labels = [name for name in theirs.columns if name not in ("stay_id", "subject_id", "partition", "period_hours")]
    tensors = np.load(truth / f"{task}_h{step}.npz")
    expected = np.concatenate([tensors[str(stay)] for stay in ours["stay_id"]])
    found = expand(np.load(folder / "values.npy"), np.load(folder / "observed.npy"), UNSCALED)
    same_stays = (
        ours["stay_id"].equals(theirs["stay_id"]) and sorted(map(int, tensors.files)) == ours["stay_id"].to_list()
    )
    own_labels = ["mortality"] if labels == ["y_true"] else labels
    equal = np.abs(found - expected) <= TOLERANCE
    return {
        "stays": len(ours) if same_stays else "DIFFER",
        "labels differing": int((ours.select(own_labels).to_numpy() != theirs.select(labels).to_numpy()).sum()),
        "largest difference of periods, h": float((ours["window_hours"] - theirs["period_hours"]).abs().max() or 0),
        "cells": equal.size,
        "cells differing": int((~equal).sum()),
        "columns that differ": [column_names()[i] for i in np.flatnonzero(~equal.all(axis=0))],
    }


def main() -> None:
    """Compare both tasks at both grid steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mimic-root", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--work-dir", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work_dir or Path(scratch)
        run("extract", work, "--mimic-root", str(arguments.mimic_root))
        results = []
        for task, own in TASKS.items():
            for step in (1, 2):
                folder = run("preprocess", work, "--task", own, "--timestep", str(step))
                results.append(compare(folder, arguments.truth, task, step))
                facts = "; ".join(f"{name} {value}" for name, value in results[-1].items())
                sys.stdout.write(f"{task}, {step} h: {facts}\n")
    share = 1 - sum(r["cells differing"] for r in results) / sum(r["cells"] for r in results)
    same = all(
        r["stays"] != "DIFFER" and not r["labels differing"] and r["largest difference of periods, h"] <= PERIOD_HOURS
        for r in results
    )
    verdict = "the same" if same else "NOT the same"
    sys.stdout.write(
        f"stays, labels and periods are {verdict}; {share:.4%} of all cells are equal within {TOLERANCE:g}\n"
    )
    sys.exit(not (same and share >= TARGET))


if __name__ == "__main__":
    main()
