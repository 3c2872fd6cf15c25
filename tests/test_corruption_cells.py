import pytest

from fusionctl.corruption_cells import CLEAN, NAMES, Cell, Curve, cell_of, cells, curves
from fusionctl.corruptions import _BUILD
from fusionctl.errors import UsageError

BOTH, EHR, CXR = ("ehr", "cxr"), ("ehr",), ("cxr",)
NOISE = {"kind": "additive", "modality": "both", "train_on": "clean"}


def test_the_names_are_those_that_can_be_made():
    assert {"noise", *_BUILD} == set(NAMES)


def test_curves():
    assert curves("noise", **NOISE) == [Curve("noise", "additive", "both", "clean")]
    found = curves("gap, noise,blur", kind="replace", modality="ehr,cxr", train_on="both")
    assert found == [
        Curve("gap", "", "ehr", "clean"),
        *(Curve("noise", "replace", m, t) for t in ("clean", "noisy") for m in EHR + CXR),
        Curve("blur", "", "cxr", "clean"),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corruption": "fog"}, "--corruption takes names of noise, film-missing, .* got 'fog'"),
        ({"corruption": ""}, "--corruption takes names of .* got ''"),
        ({"corruption": "noise", "modality": "ehr,text"}, "--modality takes names of both, ehr, cxr.* got 'text'"),
        ({"corruption": "gap", "train_on": "noisy"}, "--train-on noisy trains on noise; --corruption is gap"),
    ],
)
def test_wrong_names(given, message):
    with pytest.raises(UsageError, match=message):
        curves(**(NOISE | given))


def test_a_model_that_does_not_read_what_is_corrupted_has_its_clean_cell():
    films = Curve("blur", "", "cxr", "clean")
    assert cell_of(films, 0.5, 3, EHR) == Cell(3) == cell_of(films, 0.0, 3, BOTH)
    assert cell_of(films, 0.5, 3, BOTH) == Cell(3, "blur", 0.5, "", "cxr")
    noise = Curve("noise", "additive", "both", "noisy")
    assert cell_of(noise, 0.5, 0, BOTH) == Cell(0, "noise", 0.5, "additive", "both", "noisy")
    assert cell_of(noise, 0.5, 0, CXR) == Cell(0, "noise", 0.5, "additive", "cxr", "noisy")
    assert cell_of(Curve("noise", "additive", "cxr", "noisy"), 0.5, 0, EHR).trained == CLEAN


def test_each_cell_once_and_the_models_of_a_level_beside_each_other():
    found = cells(curves("noise", **NOISE), (0.0, 0.5), [BOTH, EHR])
    assert found == [
        Cell(0),
        Cell(1),
        Cell(0, "noise", 0.5, "additive", "both"),
        Cell(1, "noise", 0.5, "additive", "ehr"),
    ]
    wider = cells(curves("noise,jpeg,gap", **NOISE | {"modality": "both,ehr"}), (0.0, 0.5), [BOTH, EHR])
    assert set(found) < set(wider) and len(wider) == len(set(wider))
    # beyond: noise in the series alone of both, where ehr has it already; jpeg of the first; gap of both
    assert len(wider) == 4 + 1 + 1 + 2
