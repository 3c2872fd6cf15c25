"""Charts: axes, lines without needless points, forest plots, colours."""

import re

import pytest

from fusionctl.report.charts import UNIT_TICKS, Axis, Line, fitted_axis, legend, line_chart, thinned
from fusionctl.report.forest import Row, interval_chart


@pytest.mark.parametrize("values", [[0.5], [0.1, 0.9], [1, 40], [0.8712, 0.8713], [], [None, float("nan")], [-3, 250]])
def test_axis_holds_its_values_with_few_round_ticks(values):
    axis = fitted_axis("x", values)
    known = [v for v in values if v is not None and v == v]
    assert 2 <= len(axis.ticks) <= 8 and axis.low < axis.high
    assert all(axis.low <= v <= axis.high for v in known)
    assert len({axis.text(t) for t in axis.ticks}) == len(axis.ticks)


def test_points_on_a_line_are_left_out_and_corners_stay():
    straight = [(float(x), 2.0 * x) for x in range(50)]
    assert thinned(straight) == [straight[0], straight[-1]]
    corner = [*straight, *((49.0 + x, 98.0) for x in range(1, 20))]
    assert thinned(corner) == [(0.0, 0.0), (49.0, 98.0), (68.0, 98.0)]
    assert thinned([(1.0, 1.0)]) == [(1.0, 1.0)]
    assert thinned([(0.0, 0.0), (5.0, 0.0), (0.0, 0.0)]) == [(0.0, 0.0), (5.0, 0.0), (0.0, 0.0)]


def test_a_gap_parts_a_line():
    axis = Axis(label="x", ticks=UNIT_TICKS)
    line = Line(name="a", x=[0, 0.2, 0.4, 0.6, 1], y=[0.1, 0.5, None, 0.5, 0.9], slot=0)
    chart = line_chart([line], axis, axis, title="t", description="d")
    path = re.search(r'class="l s0"[^>]* d="([^"]+)"', chart)[1]
    assert path.count("M") == 2 and "nan" not in chart.lower()


def test_twelve_models_look_all_different():
    looks = [
        re.search(r'class="l (s\d)"( stroke-dasharray="[^"]+")?', legend([("m", slot)])).groups() for slot in range(12)
    ]
    assert len(set(looks)) == 12
    assert 'class="l base"' in legend([("all", None)])


def test_a_forest_plot_has_a_dot_a_row_and_a_line_only_for_intervals():
    rows = [
        Row(name="with", slot=0, value=0.8, low=0.7, high=0.9),
        Row(name="without", slot=1, value=0.6, dots=[0.5, 0.7]),
    ]
    chart = interval_chart([("Group <1>", rows)], "AUROC", title="t", description="d", reference=0.75)
    assert chart.count('class="m ') == 2 and chart.count('class="l ') == 1 and chart.count('class="d ') == 2
    assert "Group &lt;1&gt;" in chart and chart.count('class="ref"') == 1


def test_negative_ticks_have_a_minus_sign():
    assert fitted_axis("x", [-0.02, 0.02]).text(-0.02) == "−0.02"
