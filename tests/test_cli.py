"""Usage errors, help and the frame of every command."""

import re

import pytest
from typer.testing import CliRunner

from fusionctl import cli, options
from fusionctl.stages import STAGES


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def test_help_lists_every_stage_and_every_setting():
    text = call("--help").stdout
    for stage in STAGES.values():
        assert stage.name in text
        shown = call(stage.name, "--help").stdout
        for name in stage.settings.__dataclass_fields__:
            assert f"--{name.replace('_', '-')}" in shown, (stage.name, name)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fuse", "--lr", "nan"], 2, "--lr must be a number"),
        (["fuse", "--preset", "papr"], 2, "--preset must be one of"),
        (["fuse", "--seed", "-1"], 2, "--seed must be >= 0"),
        (["fuse", "--jobs", "0"], 2, "--jobs >= 1"),
        (["run"], 2, "run needs --mimic-root"),
        (["run", "--mimic-root", ".", "--models", "guess"], 2, "'guess' is not a model"),
        (["run", "--mimic-root", ".", "--models", "attention"], 2, "reads films"),
        (["extract"], 2, "extract needs --mimic-root"),
        (["extract", "--mimic-root", "/nowhere"], 3, "no such directory"),
        (["synth"], 2, "needs --out"),
        (["synth", "--out", "x", "--cxr-only"], 2, "--mimic-root"),
        (["fuse", "--config", "/nowhere.toml"], 2, "/nowhere.toml"),
    ],
)
def test_wrong_usage_is_one_clear_error(tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_internal_error_shows_its_place_but_not_its_text():
    def body(values):
        raise ValueError("row of patient 12345678")

    import typer

    app = typer.Typer()
    app.command("x")(options.command_with(body, options.common_parameters(())))
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 1
    assert re.search(r"internal error: ValueError at test_cli.py:\d+", result.stderr)
    assert "12345678" not in result.output


def test_ctrl_c_is_exit_code_130():
    def body(values):
        raise KeyboardInterrupt

    import typer

    app = typer.Typer()
    app.command("x")(options.command_with(body, options.common_parameters(())))
    assert CliRunner().invoke(app, []).exit_code == 130
