#!/usr/bin/env python3
"""How often the 95 % intervals hold the truth, by method and metric, on made-up stays whose truth is known.

    python benchmarks/coverage.py                                      697 stays, 25 labels, 200 repetitions
    python benchmarks/coverage.py --stays 246 --repetitions 400

Labels of 1.5 to 35 % of the stays; two models that see a patient's risks through noise, the second through a little
more. The truth is their metric on 200,000 stays. A cell reads `coverage below/above`: the share of intervals that hold
the truth, of those that lie above it (the truth is below), and of those below it, in per cent. With 200 repetitions a
coverage of a mean is known to 3 points at 95 %; that of single labels, an average over them, better.

Twice: labels that are independent, and labels that share one latent severity of the patient, as diagnoses do.
`shifted`: the percentile interval moved by twice the bootstrap's estimate of the bias. `--interval auto` takes it for
AUPRC, and percentile for the rest and for differences.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from statistics import NormalDist

os.environ["OMP_NUM_THREADS"] = "1"  # set before numpy is loaded

import numpy as np  # noqa: E402

from fusionctl import metrics  # noqa: E402
from fusionctl.intervals import Method  # noqa: E402

METHODS: tuple[Method, ...] = ("percentile", "shifted", "basic", "bca")
SEED = 7
MANY = 200_000  # stays on which the truth is found
SHARED = (0.0, 0.4)  # part of the variance of a label's risk that is the patient's severity
NOISE = (1.0, 1.2)  # of the two models
STAYS_PER_PATIENT = 1.2


def stays(rng: np.random.Generator, n: int, labels: int, shared: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N, K), probabilities (2, N, K) and patients (N,)."""
    patients = rng.integers(0, int(n / STAYS_PER_PATIENT) + 1, n)
    severity = rng.normal(size=patients.max() + 1)[patients, None]
    risk = np.sqrt(shared) * severity + np.sqrt(1 - shared) * rng.normal(size=(n, labels))
    shares = np.geomspace(0.015, 0.35, labels) if labels > 1 else [0.15]
    truth = risk > [NormalDist().inv_cdf(1 - share) for share in shares]
    common = rng.normal(size=risk.shape)
    seen = [risk + noise * (0.8 * common + 0.6 * rng.normal(size=risk.shape)) for noise in NOISE]
    return truth.astype(float), 1 / (1 + np.exp(1.4 - 0.9 * np.stack(seen))), patients


def quantities(boot: metrics.Bootstrap, method: Method) -> Iterator[tuple[str, int, dict[str, dict[str, float]]]]:
    """What is estimated, of which label, and its intervals by metric."""
    labels = boot.values.shape[1] - 1
    for k in range(0, labels, max(1, labels // 8)):
        yield "single label", k, boot.interval(0, k, method=method)
        yield "difference, single label", k, boot.difference(1, 0, k, method=method)
    if labels > 1:
        yield f"mean of {labels}", -1, boot.interval(0, method=method)
        yield f"difference, mean of {labels}", -1, boot.difference(1, 0, method=method)


def truths(rng: np.random.Generator, labels: int, shared: float) -> np.ndarray:
    """(2, K + 1, F) metrics on MANY stays, the mean over labels last."""
    labels_of, scores, _ = stays(rng, MANY, labels, shared)
    found = [[metrics.scores_of(labels_of[:, k], own[:, k]) for k in range(labels)] for own in scores]
    return np.concatenate([found, np.mean(found, axis=1, keepdims=True)], axis=1)


def main() -> None:
    """Simulate, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--stays", type=int, default=697)
    parser.add_argument("--labels", type=int, default=25)
    parser.add_argument("--resamples", type=int, default=500)
    args = parser.parse_args()
    for shared in SHARED:
        rng = np.random.default_rng(SEED)
        true = truths(rng, args.labels, shared)
        counts: dict[tuple[str, str, Method], np.ndarray] = {}  # held, truth below, truth above
        for _ in range(args.repetitions):
            boot = metrics.bootstrap(*stays(rng, args.stays, args.labels, shared), resamples=args.resamples)
            for method in METHODS:
                for what, k, found in quantities(boot, method):
                    target = true[1, k] - true[0, k] if what.startswith("difference") else true[0, k]
                    for metric, value, entry in zip(metrics.METRICS, target, found.values(), strict=True):
                        where = np.array([0, value < entry["low"], value > entry["high"]])
                        where[0] = not np.isnan(entry["low"]) and not where.any()
                        counts[what, metric, method] = counts.get((what, metric, method), 0) + where
        title = f"{args.stays} stays, {args.labels} labels, {args.repetitions} repetitions"
        print(f"\n{title}; {shared:.0%} of a risk is the patient's severity")
        print(f"{'':40}" + "".join(f"{method:>18}" for method in METHODS))
        for what, metric in dict.fromkeys((what, metric) for what, metric, _ in counts):
            cells = (100 * counts[what, metric, m] / max(1, counts[what, metric, m].sum()) for m in METHODS)
            texts = (f"{held:.1f}  {below:.0f}/{above:.0f}" for held, below, above in cells)
            print(f"{what:30}{metric:10}" + "".join(f"{text:>18}" for text in texts))


if __name__ == "__main__":
    main()
