"""`show-config`: every setting with its value and source, and the annotated example that it writes."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fusionctl import cli
from fusionctl.config import collect, collect_common, everywhere, known_variables, read_config
from fusionctl.options import COMMON_DEFAULTS
from fusionctl.stages import STAGES

EXAMPLE = Path(__file__).parents[1] / "examples" / "config.toml"
SETTINGS = {name: stage.settings for name, stage in STAGES.items() if not stage.hidden}
REMAKE = "make it again: fusionctl show-config --toml > examples/config.toml"


def call(*arguments):
    result = CliRunner().invoke(cli.app, ["show-config", *(str(a) for a in arguments)])
    assert "Traceback" not in result.output
    return result


def sources(*arguments):
    records = json.loads(call(*arguments, "--json").stdout)
    return {(r["stage"], r["name"]): (r["value"], r["source"]) for r in records}


def test_every_setting_of_every_stage_is_there():
    found = sources()
    expected = {(name, field) for name, cls in SETTINGS.items() for field in cls.__dataclass_fields__}
    assert set(found) == expected | {("common", name) for name in COMMON_DEFAULTS}
    assert found["fuse", "lr"] == (1e-4, "default") and found["common", "preset"] == ("paper", "default")


def test_every_source_is_named(tmp_path, monkeypatch):
    file = tmp_path / "c.toml"
    file.write_text('[common]\nseed = 3\nwork_dir = "w"\n[fuse]\nlr = 0.3\npatience = 5\n')
    monkeypatch.setenv("FUSIONCTL_FUSE_PATIENCE", "7")
    monkeypatch.setenv("FUSIONCTL_JOBS", "3")
    flags = ("--config", file, "--preset", "small", "--set", "fuse.epochs=9", "--task", "phenotyping", "--seed", 4)
    found = sources(*flags)
    assert found["fuse", "lr"] == (0.3, f"config {file}")
    assert found["fuse", "patience"] == (7, "environment FUSIONCTL_FUSE_PATIENCE")
    assert found["fuse", "epochs"] == (9, "flag") and found["fuse", "task"] == ("phenotyping", "flag")
    assert found["pretrain-ehr", "hidden"] == (64, "preset small")
    assert found["pretrain-cxr", "task"] == ("radiology", "default"), "its task is its own"
    assert found["evaluate", "resamples"] == (1000, "default")
    assert found["common", "seed"] == (4, "flag") and found["common", "preset"] == ("small", "flag")
    assert found["common", "jobs"] == (3, "environment FUSIONCTL_JOBS")
    assert found["common", "work_dir"] == ("w", f"config {file}")


def test_the_file_may_come_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / "c.toml").write_text("[fuse]\nlr = 0.3\n")
    monkeypatch.setenv("FUSIONCTL_CONFIG", str(tmp_path / "c.toml"))
    assert sources()["fuse", "lr"] == (0.3, f"config {tmp_path / 'c.toml'}")


def test_one_stage_as_a_table():
    text = call("robustness").stdout
    assert "threshold" in text and "0.5" in text and "pretrain-ehr" not in text
    wrong = call("robustnes")
    assert wrong.exit_code == 2 and "'robustnes' is no stage" in wrong.stderr and "robustness" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--set", "fuse.lr=nan"], "--lr must be a number"), (["--preset", "x"], "--preset must be")],
)
def test_wrong_values_are_refused(arguments, message):
    result = call(*arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_the_annotated_example_is_what_the_command_writes():
    assert EXAMPLE.read_text(encoding="utf-8") == call("--toml").stdout, REMAKE


def test_the_annotated_example_holds_every_setting_at_its_default():
    """As it is nothing is set; with the # before every setting removed, every value is the default."""
    assert all(table == {} for table in read_config(EXAMPLE, SETTINGS).values())
    text = re.sub(r"^# (?=\w+ = )", "", EXAMPLE.read_text(encoding="utf-8").partition("\n\n")[2], flags=re.MULTILINE)
    tables = tomllib.loads(text)
    assert set(tables) == {"common", *SETTINGS} and set(tables["common"]) == set(COMMON_DEFAULTS)
    for name, cls in SETTINGS.items():
        assert tables[name] == {field.name: field.default for field in cls.__dataclass_fields__.values()}, REMAKE
    collect_common({}, tables, COMMON_DEFAULTS)


def test_a_file_that_the_command_writes_gives_the_same_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONCTL_FUSE_FILM_DROPOUT", "0.25")
    flags = ("--preset", "small", "--set", "films.clahe=true", "--set", 'preprocess.film_window=0:"24\\')
    (tmp_path / "c.toml").write_text(call("--toml", *flags).stdout)
    before = {key: value for key, (value, _) in sources(*flags).items()}
    monkeypatch.delenv("FUSIONCTL_FUSE_FILM_DROPOUT")
    assert {key: value for key, (value, _) in sources("--config", tmp_path / "c.toml").items()} == before


def test_one_option_for_every_stage_that_has_it():
    given = {"fuse": {"lr": 1.0}}
    found = everywhere(given, SETTINGS, {"task": "phenotyping", "noise": None})
    assert found["fuse"] == {"lr": 1.0, "task": "phenotyping"} and given == {"fuse": {"lr": 1.0}}
    assert "pretrain-cxr" not in found and "films" not in found
    assert {"FUSIONCTL_FUSE_LR", "FUSIONCTL_PRETRAIN_EHR_LR", "FUSIONCTL_STAGE_TO"} <= known_variables(SETTINGS)
    assert collect("fuse", SETTINGS["fuse"], flags=found["fuse"], config={}, preset="paper")["lr"]["value"] == 1.0
