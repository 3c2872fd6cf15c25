"""Who is in which group, and what is said of small ones."""

import numpy as np
import polars as pl
import pytest

from fusionctl import metrics, subgroups
from fusionctl.evaluation_models import Predictions, models_of

MODELS = models_of(["ehr"])


def sample(stay, **facts):
    usual = {"sex": "F", "age": 50.0, "race": "WHITE", "care_unit": "MICU", "film": -1}
    return {"stay_id": stay, "hadm_id": stay + 100, **usual, **facts}


def groups(*samples, diagnoses=()):
    frame = pl.DataFrame(list(samples))
    codes = pl.DataFrame(
        {"hadm_id": [h for h, _ in diagnoses], "icd_version": [v for _, v in diagnoses]},
        schema={"hadm_id": pl.Int64, "icd_version": pl.Int8},
    )
    return subgroups.groups_of(frame["stay_id"].to_numpy(), frame.sample(fraction=1, shuffle=True, seed=1), codes)


def test_age_bands():
    ages = [18, 44.9, 45, 64, 65, 79, 80, 91, None, 17]
    found = groups(*(sample(i, age=age) for i, age in enumerate(ages)))["age"].tolist()
    assert found == ["18-44"] * 2 + ["45-64"] * 2 + ["65-79"] * 2 + ["80+"] * 2 + ["UNKNOWN"] * 2


@pytest.mark.parametrize(
    ("race", "group"),
    [
        ("WHITE - RUSSIAN", "WHITE"),
        ("PORTUGUESE", "WHITE"),
        ("BLACK/CAPE VERDEAN", "BLACK"),
        ("HISPANIC/LATINO - PUERTO RICAN", "HISPANIC"),
        ("SOUTH AMERICAN", "HISPANIC"),
        ("ASIAN - SOUTH EAST ASIAN", "ASIAN"),
        ("MULTIPLE RACE/ETHNICITY", "OTHER"),
        ("AMERICAN INDIAN/ALASKA NATIVE", "OTHER"),
        ("PATIENT DECLINED TO ANSWER", "UNKNOWN"),
        ("UNABLE TO OBTAIN", "UNKNOWN"),
        ("", "UNKNOWN"),
    ],
)
def test_races(race, group):
    assert groups(sample(0, race=race))["race"].tolist() == [group]


def test_era_is_that_of_most_codes_and_film_and_what_is_not_known():
    codes = [(101, 9), (101, 9), (101, 10), (102, 9), (102, 10), (999, 9)]
    found = groups(sample(1, film=0), sample(2, sex=""), sample(3, care_unit=""), diagnoses=codes)
    assert found["era"].tolist() == ["ICD-9", "ICD-10", "not coded"]
    assert found["film"].tolist() == ["with a film", "without a film", "without a film"]
    assert found["sex"].tolist() == ["F", "UNKNOWN", "F"] and found["care_unit"].tolist() == ["MICU", "MICU", "UNKNOWN"]


def predictions(n=400, labels=1, seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, labels)) < 0.4).astype(float)
    scores = 1 / (1 + np.exp(-(truth + rng.normal(size=truth.shape))))
    patients = np.arange(n) // 2
    ids = np.arange(n)
    return Predictions(tuple("abc"[:labels]), ids, patients, np.ones(n, bool), truth, scores[None])


def evaluate(test, of_stay, by="sex", resamples=60):
    return subgroups.evaluate(test, MODELS, {by: np.asarray(of_stay)}, resamples=resamples, seed=3)


def test_a_group_is_judged_on_its_own_stays_and_the_gap_is_paired():
    test = predictions(labels=2)
    of_stay = np.where(np.arange(400) % 3 == 0, "F", "M")
    found, gaps = evaluate(test, of_stay)
    value = {}
    for entry in found:
        own = of_stay == entry["group"]
        value[entry["group"]] = entry["models"]["ehr"]["auroc"]["value"]
        areas = [metrics.auroc(test.labels[own, k], test.probabilities[0, own, k]) for k in range(2)]
        assert value[entry["group"]] == pytest.approx(np.mean(areas))
        assert entry["n"] == own.sum() and entry["patients"] == len(set(test.subject_id[own]))
        assert entry["positives"] == {"a": test.labels[own, 0].sum(), "b": test.labels[own, 1].sum()}
        assert entry["hidden"] is False and entry["note"] is None
    assert [g["metric"] for g in gaps] == ["auroc", "auprc"]
    gap = gaps[0]
    assert gap["by"] == "sex" and gap["model"] == "ehr" and gap["largest"] == max(value, key=value.get)
    assert gap["gap"]["value"] == pytest.approx(value[gap["largest"]] - value[gap["smallest"]])
    assert set(gap["gap"]) == {"value", "p", "p_holm"} and set(gaps[1]["gap"]) == {"value"}
    assert gap["gap"]["p"] == gap["gap"]["p_holm"] > 1 / 61


def test_groups_that_are_alike_have_no_gap_and_one_that_is_worse_has():
    """Six groupings at random of the same stays: the best less the worst group is far above 0 in some of them."""
    clear = 0
    for seed in range(12):
        rng, test = np.random.default_rng(seed), predictions(n=300, seed=seed)
        of_stay = {f"by{g}": rng.integers(0, g, 300).astype(str) for g in (2, 3, 4, 5)}
        gaps = subgroups.evaluate(test, MODELS, of_stay, resamples=99, seed=seed)[1]
        tested = [gap["gap"] for gap in gaps if gap["metric"] == "auroc"]
        assert len(tested) == 4 and all(p["p"] <= p["p_holm"] for p in tested)
        clear += min(gap["p_holm"] for gap in tested) < 0.05
    assert clear <= 2
    worse = np.arange(300) % 3 == 0
    test.probabilities[0, worse] = 1 - test.probabilities[0, worse]
    found = evaluate(test, np.where(worse, "F", "M"), resamples=99)[1]
    assert found[0]["gap"]["p"] == 0.01


def test_the_p_of_a_gap_counts_gaps_between_any_two_groups():
    draws = np.array([[0.5, 0.6, 0.7, np.nan], [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.4, 0.5]])
    assert subgroups.gap_p(np.full(3, 0.5), draws) == 1
    for value, p in ((0.55, 3 / 4), (0.75, 2 / 4), (0.85, 1 / 4)):  # by chance gaps of 0, 0.1 and 0.3
        values = np.array([value, 0.5, 0.5])
        assert subgroups.gap_p(values, draws + values[:, None] - 0.5) == pytest.approx(p)


def test_a_group_of_few_patients_is_hidden():
    test = predictions()
    of_stay = np.where(np.arange(400) < 18, "F", "M")  # nine patients
    found, gaps = evaluate(test, of_stay)
    hidden = next(entry for entry in found if entry["group"] == "F")
    nothing = {"n": None, "patients": None, "positives": None, "hidden": True, "models": {}, "note": None}
    assert hidden == {"by": "sex", "group": "F", **nothing} and gaps == []


def test_a_group_with_few_outcomes_is_shown_with_a_note_but_stands_in_no_gap():
    test = predictions()
    test.labels[:60] = 0
    test.labels[:5] = 1
    found, gaps = evaluate(test, np.where(np.arange(400) < 60, "F", "M"))
    few = next(entry for entry in found if entry["group"] == "F")
    assert few["models"]["ehr"]["auroc"]["value"] is not None and few["positives"] == {"a": 5}
    assert few["note"].startswith("1 of 1 labels have fewer than 10 stays") and gaps == []


def test_a_group_that_lacks_a_label_stands_in_no_gap():
    test = predictions(labels=2)
    test.labels[:100, 1] = 0
    found, gaps = evaluate(test, np.where(np.arange(400) < 100, "F", "M"))
    assert found[0]["models"]["ehr"]["auroc"]["value"] > 0.5 and gaps == []


def test_who_is_not_known_stands_in_no_gap():
    assert evaluate(predictions(), np.where(np.arange(400) % 2 == 0, "WHITE", "UNKNOWN"), by="race")[1] == []


def test_a_model_without_predictions_in_a_group_has_no_metric_there():
    test = predictions()
    test.probabilities[0, :5] = np.nan
    found, gaps = evaluate(test, np.where(np.arange(400) < 200, "F", "M"))
    assert np.isnan(found[0]["models"]["ehr"]["auroc"]["value"]) and found[1]["models"]["ehr"]["auroc"]["value"] > 0.5
    assert gaps == []
