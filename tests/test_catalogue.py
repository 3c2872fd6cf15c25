"""The listing of what can be chosen by name is complete."""

import json
from typing import get_args

import pytest
from typer.testing import CliRunner

from fusionctl.cli import app
from fusionctl.fusion import FUSIONS
from fusionctl.losses import LOSSES
from fusionctl.models.cxr import ARCHS
from fusionctl.settings import CxrArch, EhrArch, Fusion, Loss
from fusionctl.tasks import TASKS


def listed(kind):
    result = CliRunner().invoke(app, ["list", kind, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("fusions", get_args(Fusion)),
        ("losses", tuple(LOSSES)),
        ("encoders", (*get_args(EhrArch), *ARCHS)),
        ("tasks", tuple(TASKS)),
    ],
)
def test_every_name_is_listed_with_a_sentence(kind, names):
    rows = listed(kind)
    assert [row["name"] for row in rows] == list(names)
    for row in rows:
        assert row["what"].endswith((".", "?")) and len(row["what"]) > 20, row
    text = CliRunner().invoke(app, ["list", kind]).stdout
    assert all(name in text for name in names)


def test_the_modalities_of_a_fusion_are_told():
    reads = {row["name"]: row["reads"] for row in listed("fusions")}
    assert reads["attention"] == reads["trees-film"] == "ehr + cxr"
    assert reads["ehr"] == reads["logistic"] == "ehr" and reads["cxr"] == "cxr"
    assert all(reads[name] == " + ".join(method.modalities) for name, method in FUSIONS.items())


def test_the_choices_of_the_command_line_are_those_of_the_modules():
    assert set(get_args(Loss)) == set(LOSSES) and set(get_args(CxrArch)) == set(ARCHS)


def test_another_kind_is_refused():
    result = CliRunner().invoke(app, ["list", "things"])
    assert result.exit_code == 2 and "things" in result.output
