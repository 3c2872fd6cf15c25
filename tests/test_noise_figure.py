import re
from xml.etree import ElementTree

import pytest

from fusionctl.noise_figure import draw, title_of

LEVELS = (0.0, 0.3, 0.6)


def rows(models=("attention", "ehr"), corruptions=("noise",), subsets=("all", "paired"), value=0.8):
    return [
        {
            **{"model": m, "trained": "clean", "corruption": c, "kind": "additive" * (c == "noise")},
            **{"modality": "both" if c == "noise" else "cxr", "level": x, "subset": s, "metric": metric},
            **{"value": value - x / 2, "low": value - x / 2 - 0.1, "high": value - x / 2 + 0.1},
        }
        for c in corruptions
        for s in subsets
        for x in LEVELS
        for m in models
        for metric in ("auroc", "auprc", "binary_f1")
    ]


def parsed(curve):
    svg = draw(curve, task="mortality").decode()
    root = ElementTree.fromstring(svg)
    return svg, [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")], root


def test_a_panel_a_metric_and_subset_with_a_line_and_a_band_a_model():
    svg, texts, root = parsed(rows())
    for text in ("AUROC, all stays", "AUPRC, stays with a film", "Attention fusion", "share with noise (%)", "30"):
        assert text in texts
    assert "Gaussian noise, additive: series and films" in texts
    assert len(root.findall("{*}g")) == 4
    assert svg.count('class="l s0"') == 4 + 1 and svg.count('class="b f s1"') == 4  # one more in the legend


def test_a_row_a_corruption_on_one_scale():
    _, texts, root = parsed(rows(corruptions=("noise", "film-missing", "blur")))
    assert len(root.findall("{*}g")) == 3 * 4
    assert {"Films taken away", "share of films missing (%)", "severity (%)"} <= set(texts)
    heights = [g.attrib["transform"] for g in root.findall("{*}g")]
    assert len(set(heights)) == 12


def test_it_follows_the_theme_and_is_the_same_twice():
    svg, *_ = parsed(rows())
    assert "prefers-color-scheme:dark" in svg and draw(rows(), task="mortality").decode() == svg
    assert "<script" not in svg and "href" not in svg


def test_what_has_no_value_is_left_out():
    curve = rows(models=("attention", "cxr"))
    for row in curve:
        if row["model"] == "cxr" and (row["subset"] == "all" or row["level"] == 0.6):
            row |= {"value": None, "low": None, "high": None}
    svg, texts, root = parsed(curve)
    assert svg.count('class="l s1"') == 2 + 1 and "Film alone" in texts
    only_all = parsed(rows(subsets=("all",)))[2]
    assert len(only_all.findall("{*}g")) == 2
    assert "None" not in svg and "nan" not in svg


@pytest.mark.parametrize("n", [1, 9, 17])
def test_models_are_told_apart_by_colour_dash_or_mark(n):
    models = [f"model-{i}" for i in range(n)]
    svg, texts, _ = parsed(rows(models=models))
    assert set(models) <= set(texts)
    legend = [line for line in svg.splitlines() if any(f">{m}<" in line for m in models)]
    assert len(legend) == n
    looks = {
        (re.search(r"s\d", x)[0], re.search("stroke-dasharray=.[^/]*?d=|$", x)[0], x.count("circle")) for x in legend
    }
    assert len(looks) == n


def test_markup_in_a_name_is_text():
    curve = rows(models=("<b>&",))
    assert "<b>&" in parsed(curve)[1]


def test_titles():
    noise = {"corruption": "noise", "kind": "replace", "modality": "cxr", "trained": "noisy"}
    assert title_of(noise) == "Gaussian noise, replacing: films only; trained on input as noisy as at the test"
    assert title_of({"corruption": "gap", "kind": "", "modality": "ehr", "trained": "clean"}) == "Gap in time"
