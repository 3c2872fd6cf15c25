"""Which artifacts are one model, its ensemble, and the thresholds that are chosen on validation."""

import numpy as np

from fusionctl.evaluation_models import Predictions, chosen_thresholds, models_of, with_ensembles

NAN = float("nan")


def predictions(labels, probabilities):
    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    ids = np.arange(len(labels))
    names = tuple("abc"[: labels.shape[1]])
    return Predictions(names, ids, ids, np.ones(len(ids), bool), labels, probabilities)


def test_artifacts_of_one_name_are_one_model_followed_by_its_ensemble():
    models = models_of(["attention", "ehr", "attention", "cxr", "ehr"])
    assert models.names == ("attention", "attention ensemble", "ehr", "ehr ensemble", "cxr")
    assert models.rows == ((0, 2), (5,), (1, 4), (6,), (3,))
    assert models.shown == (5, 5, 6, 6, 3)
    assert models.members == ((0, 2), (1, 4))
    assert models.groups == ("attention", "ehr") and models.own == ("attention", "ehr", "cxr")


def test_a_model_that_is_called_an_ensemble_is_none():
    models = models_of(["late ensemble", "late"])
    assert models.own == models.names == ("late ensemble", "late") and models.groups == ()


def test_ensemble_is_the_mean_of_the_probabilities_and_unknown_where_one_is():
    models = models_of(["ehr", "ehr", "cxr"])
    stack = np.array([[[0.2], [0.4]], [[0.6], [NAN]], [[0.9], [0.9]]])
    found = with_ensembles(stack, models)
    assert found.shape == (4, 2, 1) and (found[:3][~np.isnan(stack)] == stack[~np.isnan(stack)]).all()
    assert found[3, 0, 0] == 0.4 and np.isnan(found[3, 1, 0])


def test_thresholds_are_chosen_for_each_model_and_label_on_what_it_predicts():
    labels = [[0, 1], [1, 1], [1, 1], [NAN, 1]]
    one = [[0.1, 0.1], [0.4, 0.1], [0.6, 0.1], [0.05, 0.1]]
    other = [[0.7, 0.1], [0.2, 0.1], [NAN, 0.1], [0.9, 0.1]]
    found = chosen_thresholds(predictions(labels, [one, other]))
    assert 0.1 < found[0, 0] <= 0.4 and 0 < found[1, 0] <= 0.2
    assert np.isnan(found[:, 1]).all()  # one class only


def test_part_of_the_stays():
    whole = predictions([[0], [1], [1]], [[[0.1], [0.2], [0.3]]])
    part = whole.of(np.array([True, False, True]))
    assert part.stay_id.tolist() == [0, 2] and part.probabilities.tolist() == [[[0.1], [0.3]]]
    assert part.label_names == whole.label_names
