#!/usr/bin/env python3
"""The patient bootstrap against a loop over scikit-learn's metrics, both measured in one run on made-up predictions.

    python benchmarks/bootstrap.py                          the size of the paper's test set
    python benchmarks/bootstrap.py --labels 1 --rows 5046 --loop-resamples 20
    python benchmarks/bootstrap.py --numpy                  also without the compiled loop

The loop: for every resample and label, roc_auc_score, average_precision_score and f1_score (macro and binary) with the
resample's counts as weights. It is timed on a few resamples of all labels and scaled to all of them: its time is the
same for each. The package's time is that of the whole call: drawing, sorting, weighing; the median of `--repeats`.
One thread each, then all processors each (the loop in processes). At the end both are compared, value by value.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

# Set before numpy is loaded: one thread a process.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score  # noqa: E402

from fusionctl import metrics, ranking, resampling  # noqa: E402

SEED = 7


def predictions(rows: int, labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N, K) of prevalence 6 to 45 %, float32 probabilities with AUROCs near 0.76, patients with 1.3 stays."""
    rng = np.random.default_rng(SEED)
    truth = (rng.random((rows, labels)) < np.linspace(0.06, 0.45, labels)).astype(float)
    chances = 1 / (1 + np.exp(1.5 - truth - rng.normal(size=truth.shape)))
    return truth, chances.astype(np.float32), rng.integers(0, int(rows / 1.3) + 1, rows)


def loop(weights: np.ndarray, truth: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """(R, K, 4) from weights (R, N): what one would write with scikit-learn."""
    result = np.empty((len(weights), truth.shape[1], 4))
    for resample, weight in enumerate(weights):
        for label in range(truth.shape[1]):
            real, chance = truth[:, label], chances[:, label]
            called = chance >= 0.5
            result[resample, label] = (
                roc_auc_score(real, chance, sample_weight=weight),
                average_precision_score(real, chance, sample_weight=weight),
                f1_score(real, called, average="macro", sample_weight=weight),
                f1_score(real, called, sample_weight=weight),
            )
    return result


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=11_914)
    parser.add_argument("--labels", type=int, default=25)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--loop-resamples", type=int, default=6, help="resamples the loop is timed on")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--numpy", action="store_true", help="time the path without the compiled loop too")
    args = parser.parse_args()
    truth, chances, patients = predictions(args.rows, args.labels)
    people, columns = np.unique(patients, return_inverse=True)
    run = partial(metrics.bootstrap, truth, chances, patients, resamples=args.resamples, seed=SEED)
    lanes = resampling.resample(len(people), args.resamples, SEED).transpose(0, 2, 1).reshape(-1, len(people))
    weights = lanes[1 : 1 + args.loop_resamples, columns].astype(float)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"{args.labels} labels x {args.resamples} resamples x {args.rows:,} rows of {len(people):,} patients")
    print(f"compiled loop: {'no' if ranking._boot is None else 'yes'}; {cores} processors")

    start = time.perf_counter()
    want = loop(weights, truth, chances)
    alone = (time.perf_counter() - start) * args.resamples / len(weights)
    with ProcessPoolExecutor(cores) as pool:
        shares = [weights[:1].repeat(args.loop_resamples, axis=0)] * cores
        list(pool.map(loop, [share[:1, :] for share in shares], [truth] * cores, [chances] * cores))  # to warm up
        start = time.perf_counter()
        list(pool.map(loop, shares, [truth] * cores, [chances] * cores))
        together = (time.perf_counter() - start) * args.resamples / (args.loop_resamples * cores)

    boot = run(threads=1)
    apart = float(np.abs(boot.draws[: len(weights), 0, : args.labels] - want).max())
    times = {"one thread": (seconds(lambda: run(threads=1), args.repeats), alone)}
    times[f"{cores} processors"] = (seconds(lambda: run(threads=cores), args.repeats), together)
    if args.numpy:
        ranking._boot = None
        times["one thread, numpy only"] = (seconds(lambda: run(threads=1), 1), alone)
    print(f"{'':24}{'fusionctl':>12}{'loop':>12}{'ratio':>9}   loop scaled from {len(weights)} resamples a process")
    for name, (ours, theirs) in times.items():
        print(f"{name:24}{ours:10.2f} s{theirs:10.1f} s{theirs / ours:8.0f}x")
    print(f"largest difference of any of {want.size} values: {apart:.1e} ({'equal' if apart < 1e-12 else 'NOT EQUAL'})")


if __name__ == "__main__":
    main()
