"""What the section on subgroups hides, and what it draws."""

import pytest
from report_world import LABEL, world

from fusionctl.report import subgroups
from fusionctl.report.export import plain
from fusionctl.stages import report as stage


def group(name, n, positives, *, by="race"):
    hidden = n is None
    metric = {"auroc": {"value": 0.8, "low": 0.7, "high": 0.9}, "auprc": {"value": 0.5, "low": 0.4, "high": 0.6}}
    counts = {"n": n, "patients": n, "positives": None if hidden else {LABEL: positives}, "hidden": hidden}
    return {"by": by, "group": name, **counts, "models": {} if hidden else {"attention": metric}, "note": None}


@pytest.mark.parametrize(
    ("groups", "stays", "outcomes"),
    [
        ([("A", 100, 20), ("B", 50, 15)], ["100", "50"], ["20", "15"]),
        # with one hidden group the largest other would give it away
        ([("A", 100, 20), ("B", None, None), ("C", 50, 15)], ["≥10", "<10", "50"], ["≥10", "<10", "15"]),
        ([("A", 100, 20), ("B", None, None), ("C", None, None)], ["≥10", "<10", "<10"], ["≥10", "<10", "<10"]),
        # few with, or few without the outcome
        ([("A", 100, 20), ("B", 50, 3)], ["100", "50"], ["≥10", "<10"]),
        ([("A", 100, 20), ("B", 50, 45)], ["100", "50"], ["≥10", "–"]),
        ([("A", 100, 20), ("B", 50, 0)], ["100", "50"], ["20", "0"]),
    ],
)
def test_counts_that_would_tell_a_small_one_are_hidden(groups, stays, outcomes):
    found = subgroups._counts([group(*each) for each in groups])
    assert [found["race", each[0]] for each in groups] == list(zip(stays, outcomes, strict=True))


def test_of_several_labels_no_outcome_is_counted():
    several = {**group("A", 100, 20), "positives": {"a": 20, "b": 3}}
    assert subgroups._counts([several, {**several, "group": "B"}])["race", "A"] == ("100", "")


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    return stage.gather(world(tmp_path_factory.mktemp("w"))[0])["metrics"]


def test_groups_are_drawn_with_everyones_value_and_gaps_follow(metrics):
    parts = subgroups.subgroups(metrics)
    drawn = next(part for part in parts if "<svg" in str(part))
    assert drawn.count("<svg") == 2 and drawn.count('class="ref"') == 2  # the first two models
    assert "MICU/SICU" in drawn and "Female" in drawn
    table = next(part for part in parts if getattr(part, "name", "") == "Gaps between the best and the worst group")
    cells = {(title, row[0]): [plain(cell) for cell in row[1:]] for title, rows in table.groups for row in rows}
    gap = next(g for g in metrics["gaps"] if (g["by"], g["model"], g["metric"]) == ("age", "attention", "auroc"))
    assert cells["Age", "Attention fusion"][0] == f"{gap['largest']} (over {gap['smallest']})"
    assert cells["Age", "Attention fusion"][1].startswith(f"{gap['gap']['value']:.3f} (p ")
    assert "Holm" in cells["Age", "Attention fusion"][1] and "(" not in cells["Age", "Attention fusion"][3]


def test_a_group_of_everyone_is_left_out(metrics):
    everyone = [g for g in metrics["subgroups"] if g["by"] == "film"]
    one = {**everyone[0], "by": "race", "group": "UNKNOWN"}
    parts = subgroups.subgroups({**metrics, "subgroups": [one, *everyone], "gaps": []})
    assert "Race" not in str(parts) and "Absent" in str(parts)
    assert subgroups.subgroups({**metrics, "subgroups": [one]}) == []
