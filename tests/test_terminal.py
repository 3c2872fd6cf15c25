"""The tables of an evaluation on a terminal of 100 columns."""

import copy

import pytest

from fusionctl import terminal

LONGEST = 100


def number(value=0.812, **more):
    return {"value": value, "low": value - 0.05, "high": value + 0.05, **more}


def scores(value=0.812, **more):
    return {m: number(value, **more) for m in (*terminal.METRICS, *terminal.TUNED)}


def evaluation(models=("attention", "ehr"), *, labels=("mortality",), n=200, missing=()):
    def entry(model):
        lacks = model in missing
        none = dict.fromkeys(("value", "low", "high"))
        by_label = {name: {"note": None, "undefined": 0} for name in labels}
        metrics = dict.fromkeys(scores(), none) if lacks else scores()
        return {"metrics": metrics, "labels": by_label, "missing": n * lacks, "note": None}

    complete = [m for m in models if m not in missing]
    pairs = [{"a": m, "b": complete[0], "metrics": scores(-0.012, p=0.03, p_holm=0.06)} for m in complete[1:]]
    calibration = {"ece": 0.04, "slope": 0.9, "intercept": -0.1, "temperature": 1.2, "after": {"ece": 0.03}}
    subset = {
        **{"n": n, "patients": n, "known": dict.fromkeys(labels, n), "positives": dict.fromkeys(labels, n // 5)},
        **{"prevalence": dict.fromkeys(labels, 0.2), "comparisons": pairs},
        "models": {m: entry(m) for m in models},
    }
    group = {"by": "care_unit", "models": {m: {"auroc": number(), "auprc": number(0.4)} for m in models}}
    units = ("Cardiac Vascular Intensive Care Unit (CVICU)", "Neuro Stepdown")
    gap = {"by": "care_unit", "largest": units[0], "smallest": units[1]}
    found = {"auroc": {"value": 0.1, "p": 0.01, "p_holm": 0.06}, "auprc": {"value": 0.1}}
    return {
        **{"task": "mortality", "models": list(models), "labels": list(labels), "resamples": 1000},
        "intervals": {"values": dict.fromkeys(scores(), "percentile") | {"auprc": "shifted"}},
        **{"threshold": 0.5, "subsets": {"all": subset, "paired": copy.deepcopy(subset)}},
        "calibration": {m: {k: {**calibration, "brier": number(0.11)} for k in labels} for m in models},
        "subgroups": [{**group, "group": unit} for unit in units],
        "gaps": [{**gap, "model": m, "metric": metric, "gap": found[metric]} for m in models for metric in found],
    }


def width(table):
    """Columns that rich needs: a border and two spaces a cell."""
    cells = [table["header"], *table["rows"]]
    return sum(max(len(row[i]) for row in cells) + 3 for i in range(len(table["header"]))) + 1


def test_all_tables_fit_a_terminal():
    tables = terminal.tables(evaluation(("attention", "attention ensemble", "cxr", "trees-film")))
    assert len(tables) == 5
    for table in tables:
        assert width(table) <= LONGEST and len(table["title"]) <= LONGEST, table["title"]
        assert {len(row) for row in table["rows"]} == {len(table["header"])}


def test_results_and_f1():
    results, f1, *_ = terminal.tables(evaluation(("ehr", "cxr"), missing=("cxr",)))
    assert (
        results["title"]
        == "mortality: test stays, 95 % percentile and shifted percentile intervals, 1,000 resamples of patients"
    )
    assert results["rows"][0] == ["all", "ehr", "200", "20.0\N{NO-BREAK SPACE}%", *["0.812 (0.762–0.862)"] * 2]
    assert results["rows"][1][4:] == ["–", "–"]
    assert f1["rows"] == [[name, "ehr", *["0.812"] * 4] for name in ("all", "paired")]


def test_differences_name_the_reference_once_or_in_a_column():
    metrics = evaluation()
    table = terminal.comparisons(metrics)
    assert table["title"] == "Difference to attention on the same resamples; p after Holm's correction"
    assert table["header"] == ["stays", "model", "AUROC", "p", "AUPRC", "p"]
    assert table["rows"][0] == ["all", "ehr", *["−0.012 (−0.062 to +0.038)", "0.060"] * 2]
    metrics["subsets"]["all"]["comparisons"].append({"a": "x", "b": "ehr", "metrics": scores(-0.012, p_holm=None)})
    table = terminal.comparisons(metrics)
    assert table["header"] == ["stays", "model", "minus", "AUROC", "p"]
    assert table["rows"][1] == ["all", "x", "ehr", "−0.012 (−0.062 to +0.038)", "–"]


def test_calibration_of_several_labels_is_the_median_of_those_that_have_one():
    metrics = evaluation(labels=("a", "b", "c"))
    metrics["calibration"]["ehr"]["a"] |= {"slope": None, "ece": 0.9}
    table = terminal.calibration(metrics)
    assert "medians of 3 labels" in table["title"]
    assert table["rows"][1] == ["ehr", "0.110", "0.040", "0.900", "−0.100", "1.200", "0.030"]


def test_gaps_of_the_first_model_name_the_groups():
    table = terminal.gaps(evaluation())
    assert table["title"].startswith("Subgroups of all test stays, attention; p: ")
    assert table["rows"] == [
        ["care unit", "AUROC", "CVICU 0.812", "Neuro Stepdown 0.812", "0.100", "0.060"],
        ["care unit", "AUPRC", "CVICU 0.400", "Neuro Stepdown 0.400", "0.100", "–"],
    ]


@pytest.mark.parametrize("patients", [0, 9])
def test_of_few_patients_nothing_is_shown(patients):
    metrics = evaluation()
    for subset in metrics["subsets"].values():
        subset |= {"patients": patients, "n": patients}
    metrics["gaps"] = []
    (table,) = terminal.tables(metrics)
    assert {cell for row in table["rows"] for cell in row[4:]} == {"–"}


def test_a_value_that_no_draw_varies_has_no_interval():
    metrics = evaluation()
    for entry in metrics["subsets"]["all"]["models"].values():
        entry["metrics"]["auroc"] = dict.fromkeys(("value", "low", "high"), 0.0)
    metrics["subsets"]["all"]["comparisons"][0]["metrics"]["auroc"] |= dict.fromkeys(("value", "low", "high"), 0.0)
    assert terminal.results(metrics)["rows"][0][4] == "0.000"
    assert terminal.comparisons(metrics)["rows"][0][2] == "+0.000"
