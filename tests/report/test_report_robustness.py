"""The section on robustness, and what the summary says of it."""

import pytest
from report_world import robustness as made_up
from report_world import world

from fusionctl.report import robustness, summary
from fusionctl.report.export import plain
from fusionctl.report.parts import Fold, Heading
from fusionctl.stages import report as stage


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    return stage.gather(world(tmp_path_factory.mktemp("w"))[0])["metrics"]


def titles(parts):
    return [
        part.text if isinstance(part, Heading) else part.summary for part in parts if isinstance(part, (Heading, Fold))
    ]


def test_small_multiples_areas_and_numbers(metrics):
    parts = robustness.robustness(metrics, made_up(), None)
    assert titles(parts) == [
        "AUROC, all stays",
        "AUPRC, all stays",
        "Curves of the stays with a film",
        "Share of performance kept under corruption",
        "Differences between models in what they keep",
        "The numbers: additive noise in series and films",
        "The numbers: films taken away",
    ]
    charts = next(part for part in parts if "<svg" in str(part) and not isinstance(part, Fold))
    assert charts.count("<figure>") == 2 and "Film alone" not in charts  # it has no value on all stays
    area = next(part for part in parts if getattr(part, "name", "") == "Share of performance kept under corruption")
    rows = {(title, row[0]): [plain(cell) for cell in row[1:]] for title, rows in area.groups for row in rows}
    assert rows["Films taken away", "Film alone"] == ["–", "–", "0.700 (0.650–0.750)", "0.700 (0.650–0.750)"]


def test_tables_5_and_6_are_told_apart_by_the_training(metrics):
    found = made_up(panels=(("noise", "both"),))
    noisy = [{**row, "trained": "noisy"} for row in found["curve"]]
    parts = robustness.robustness(metrics, {**found, "curve": [*found["curve"], *noisy]}, None)
    assert "The numbers: additive noise in series and films, trained on clean input" in titles(parts)
    assert any(title.endswith("trained on input as noisy as at the test") for title in titles(parts))


def test_no_more_models_are_drawn_than_there_are_colours(metrics):
    found = made_up(models=("attention", "ehr", "early", "joint", "late", "mmtm", "daft", "card"))
    parts = robustness.robustness(metrics, found, None)
    charts = [str(part) for part in parts if "<svg" in str(part) and not isinstance(part, Fold)]
    assert all(chart.count("<li>") <= 6 for chart in charts)
    note = next(part.text for part in parts if "not drawn" in getattr(part, "text", ""))
    assert note.count(",") >= 2 and "Attention" not in note


def test_a_subset_of_few_patients_has_no_curve(metrics):
    few = {**metrics, "subsets": {**metrics["subsets"], "paired": {**metrics["subsets"]["paired"], "patients": 9}}}
    assert "Curves of the stays with a film" not in titles(robustness.robustness(few, made_up(), None))
    assert robustness.robustness(metrics, None, None) == []


@pytest.mark.parametrize(("earlier", "words"), [(40, "40 of 100 test stays"), (3, "Some test stays"), (0, "0 of 100")])
def test_how_many_films_can_be_stale_is_said_unless_few(metrics, earlier, words):
    found = {**made_up(panels=(("film-stale", "cxr"),)), "films": {"stays": 100, "with_earlier_film": earlier}}
    assert any(words in getattr(part, "text", "") for part in robustness.robustness(metrics, found, None))


def test_the_summary_says_what_models_keep(metrics):
    found = made_up()
    said = summary.findings({"metrics": metrics, "robustness": found})
    keep = "Robustness (Gaussian noise): averaged over the levels, models keep of what their AUROC has above 0.5 "
    keep += "(guessing)"
    assert said[-1] == f"{keep}: Attention fusion 90.0\u00a0%, Time series alone 80.0\u00a0%."
    for area in found["area"]:
        area["value"] = None if area["model"] == "ehr" else area["value"]
    said = summary.findings({"metrics": metrics, "robustness": found})
    rest = "no share of Time series alone: not clearly better than guessing"
    assert said[-1] == f"{keep}: Attention fusion 90.0\u00a0%; {rest}."
