"""Paired differences between models, and the corrections for testing several."""

import numpy as np
import pytest

from fusionctl import metrics
from fusionctl.errors import UsageError
from fusionctl.evaluation_comparisons import Contrasts, correct, parse_compare
from fusionctl.evaluation_models import Predictions, models_of, with_ensembles

NAMES = ("attention", "ehr", "cxr")


def contrasts(names=NAMES, *, n=200, labels=3, missing=None):
    rng = np.random.default_rng(0)
    truth = (rng.random((n, labels)) < 0.4).astype(float)
    stack = np.stack([truth * signal + rng.normal(size=truth.shape) for signal in (1.0, 0.2, 0.6, 0.4)[: len(names)]])
    stack = 1 / (1 + np.exp(-stack))
    if missing is not None:
        stack[missing, 0] = np.nan
    models, ids = models_of(names), np.arange(n)
    stack = with_ensembles(stack, models)
    part = Predictions(tuple("abc"[:labels]), ids, ids // 2, np.ones(n, bool), truth, stack)
    boot = metrics.bootstrap(truth, stack, part.subject_id, resamples=100, threads=1).grouped(models.rows)
    return Contrasts(part, boot, models, method="percentile")


def test_a_difference_is_a_minus_b():
    made = contrasts()
    there, back = made.of(0, 1), made.of(1, 0)
    assert there["metrics"]["auroc"]["value"] > 0.05
    assert back["labels"]["b"]["auroc"]["value"] == -there["labels"]["b"]["auroc"]["value"]
    labels = [entry["auroc"]["value"] for entry in there["labels"].values()]
    assert there["metrics"]["auroc"]["value"] == pytest.approx(np.mean(labels))


def test_labels_are_corrected_over_the_labels_and_means_over_the_comparisons():
    made = contrasts()
    found = made.comparisons(())
    assert [(c["a"], c["b"]) for c in found] == [("ehr", "attention"), ("cxr", "attention")]
    smallest = min(found, key=lambda c: c["metrics"]["auroc"]["p"])["metrics"]["auroc"]
    assert smallest["p_holm"] == pytest.approx(min(1, 2 * smallest["p"]))
    labels = sorted((entry["auroc"] for entry in found[0]["labels"].values()), key=lambda e: e["p"])
    assert labels[0]["p_holm"] == pytest.approx(min(1, 3 * labels[0]["p"]))
    # The differences to the reference stay as they are: they are no family of tests.
    assert "p_holm" not in made.differences(None)["models"]["ehr"]["metrics"]["auroc"]


def test_all_pairs_of_the_chosen_models_each_minus_the_earlier():
    found = contrasts().comparisons(("cxr", "ehr", "attention"))
    assert [(c["a"], c["b"]) for c in found] == [("ehr", "cxr"), ("attention", "cxr"), ("attention", "ehr")]
    for pair in found:
        for entry in pair["labels"].values():
            assert entry["delong"]["difference"] == pytest.approx(entry["auroc"]["value"])
            assert entry["delong"]["p"] == pytest.approx(entry["auroc"]["p"], abs=0.25)


def test_a_model_that_lacks_a_prediction_is_not_compared():
    made = contrasts(missing=0)
    assert [(c["a"], c["b"]) for c in made.comparisons(())] == [("cxr", "ehr")]
    assert made.differences("attention")["reference"] == "ehr"
    assert made.comparisons(("attention", "ehr")) == []


def test_seeds_have_no_delong():
    made = contrasts(("ehr", "ehr", "cxr"))
    found = {(c["a"], c["b"]): c["labels"]["a"]["delong"] for c in made.comparisons(())}
    assert set(found) == {("ehr ensemble", "ehr"), ("cxr", "ehr")} and set(found.values()) == {None}
    (pair,) = made.comparisons(("ehr ensemble", "cxr"))
    assert pair["labels"]["a"]["delong"]["se"] > 0


def test_an_ensemble_against_its_own_seeds_is_no_test_of_the_others_family():
    found = contrasts(("ehr", "ehr", "cxr", "late")).comparisons(())
    own = [(c["a"], c["b"]) for c in found if c["own_ensemble"]]
    assert own == [("ehr ensemble", "ehr")]
    for entry in (c["metrics"]["auroc"] for c in found if c["own_ensemble"]):
        assert entry["p_holm"] == entry["p"]
    others = sorted((c["metrics"]["auroc"] for c in found if not c["own_ensemble"]), key=lambda e: e["p"])
    assert len(others) == 2 and others[0]["p_holm"] == pytest.approx(min(1, 2 * others[0]["p"]))


def test_correction_is_by_metric():
    family = [{"auroc": {"p": 0.01}, "auprc": {"p": 0.5}}, {"auroc": {"p": 0.04}, "auprc": {"p": 0.02}}]
    correct(family)
    assert [entry["auroc"]["p_holm"] for entry in family] == pytest.approx([0.02, 0.04])
    assert [entry["auprc"]["p_holm"] for entry in family] == pytest.approx([0.5, 0.04])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ehr,cnn", "'cnn' is not one of the evaluated models"),
        ("ehr", "must name two or more different models; got 'ehr'"),
        ("ehr,cxr,ehr", "must name two or more different models"),
    ],
)
def test_wrong_comparisons_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_compare(text, NAMES)


def test_names_of_a_comparison():
    assert parse_compare(" ehr , attention", NAMES) == ("ehr", "attention") and parse_compare("", NAMES) == ()
