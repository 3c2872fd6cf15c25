"""What may be shown of a count, and what would give a small one away."""

import pytest

from fusionctl import disclosure


@pytest.mark.parametrize(
    ("parts", "texts"),
    [
        ([100, 50], ["100", "50"]),
        ([100, 9], ["≥10", "<10"]),
        ([100, 9, 20], ["≥10", "<10", "20"]),
        ([100, 9, 3], ["100", "<10", "<10"]),
        ([100, 0], ["100", "0"]),
        ([5, 0], ["<10", "0"]),
    ],
)
def test_hidden_parts_cannot_be_computed(parts, texts):
    assert disclosure.shown_parts(parts) == texts


def test_attrition_never_shows_a_small_difference():
    steps, before = [], 1000
    for rule, dropped in (("a", 3), ("b", 500), ("c", 0), ("d", 4), ("e", 2)):
        steps.append({"rule": rule, "before": before, "dropped": dropped, "kept": before - dropped})
        before -= dropped
    safe = disclosure.safe_attrition(steps)
    assert [(s["rule"], s["before"], s["dropped"], s["kept"]) for s in safe] == [
        ("a; b; c; d; e", "1,000", "509", "491")
    ]
    lone = disclosure.safe_attrition(steps[:1])
    assert (lone[0]["before"], lone[0]["dropped"], lone[0]["kept"]) == ("1,000", "<10", "≥10")


def test_calibration_bins_are_joined_until_large_enough():
    bins = [
        {"n": 40, "positives": p, "predicted": i / 10, "observed": p / 40} for i, p in enumerate([0, 2, 9, 12, 20, 38])
    ]
    safe = disclosure.safe_bins(bins)
    assert [round(b["observed"], 3) for b in safe] == [round(11 / 120, 3), 12 / 40, round(58 / 80, 3)]
    assert safe[0]["predicted"] == pytest.approx(0.1)
    assert disclosure.safe_bins(bins[:2]) == []


@pytest.mark.parametrize(
    ("text", "exact"), [("1,234", True), ("0", True), ("<10", False), ("≥10", False), ("–", False)]
)
def test_a_bound_is_no_exact_count(text, exact):
    assert disclosure.exact(text) is exact
