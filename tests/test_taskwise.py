"""The uncertainty loss, label by label."""

import math

import numpy as np
import pytest

from fusionctl import metrics, taskwise
from fusionctl.evaluation import counts, model_entry
from fusionctl.evaluation_comparisons import Contrasts
from fusionctl.evaluation_models import Predictions, models_of

LABELS = ("a", "b")


def table(names, sigmas, *, missing=None):
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 2)) < 0.4).astype(float)
    stack = np.stack([truth * (1 + i) + rng.normal(size=truth.shape) for i, _ in enumerate(names)])
    if missing is not None:
        stack[missing, 0] = np.nan
    models, ids = models_of(names), np.arange(200)
    part = Predictions(LABELS, ids, ids, np.ones(200, bool), truth, stack)
    boot = metrics.bootstrap(truth, stack, ids, resamples=40, threads=1).grouped(models.rows)
    entries = {m: model_entry(part, boot, models, m, method="percentile") for m in models.names}
    contrasts = Contrasts(part, boot, models, method="percentile")
    return taskwise.table({**counts(part), "models": entries}, contrasts, models, sigmas), part


def test_rows_are_sorted_by_sigma_and_compare_with_cross_entropy():
    rows, part = table(["ehr", "cxr", "ehr+uncertainty"], {"ehr+uncertainty": {"a": 0.9, "b": 0.4}})
    assert [(row["label"], row["sigma"]) for row in rows] == [("b", 0.4), ("a", 0.9)]
    row = rows[1]
    assert row["fusion"] == "ehr" and row["loss"] == "uncertainty"
    truth = part.labels[:, 0]
    assert row["positives"] == truth.sum() and row["prevalence"] == pytest.approx(truth.mean())
    assert row["bce"]["auroc"] == pytest.approx(metrics.auroc(truth, part.probabilities[0, :, 0]))
    assert row["uncertainty"]["auprc"] == pytest.approx(metrics.auprc(truth, part.probabilities[2, :, 0]))
    difference = row["difference"]["auroc"]
    assert difference["value"] == pytest.approx(row["uncertainty"]["auroc"] - row["bce"]["auroc"])
    assert difference["low"] < difference["value"] < difference["high"] and difference["p"] <= difference["p_holm"]


def test_fusions_without_both_losses_have_no_row():
    assert table(["ehr+uncertainty", "cxr"], {"ehr+uncertainty": {"a": 1.0, "b": 1.0}})[0] == []
    assert table(["ehr", "ehr+focal"], {})[0] == []
    both = ["ehr", "ehr+uncertainty"]
    assert table(both, {"ehr+uncertainty": {"a": 1.0, "b": 1.0}}, missing=0)[0] == []


def test_sigma_of_several_seeds_is_the_geometric_mean():
    names = ["ehr+uncertainty", "ehr", "ehr+uncertainty"]
    found = taskwise.sigmas_of(names, [{"a": 0.5, "b": 1.0}, None, {"a": 2.0, "b": 4.0}])
    assert found == {"ehr+uncertainty": {"a": pytest.approx(1.0), "b": pytest.approx(math.sqrt(4.0))}}
