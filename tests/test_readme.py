"""The README's commands are commands of this program."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fusionctl.cli import app

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = [line for line in LINES if line.startswith("fusionctl ")]


def test_the_first_block_is_the_two_commands():
    assert [line for line in LINES if line][:2] == ["make demo", "make test"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command, tmp_path, monkeypatch):
    """Without the data a command ends with 3 (input missing) or 0 (a dry run), never with 2 (usage) or a traceback."""
    monkeypatch.chdir(tmp_path)
    name, *arguments = shlex.split(command)[1:]
    if name == "synth" and "--cxr-only" not in arguments:
        arguments[arguments.index("--stays") + 1] = "12"
    elif name not in ("synth", "export-slurm"):
        arguments.append("--dry-run")
    result = CliRunner().invoke(app, [name, *arguments])
    assert result.exit_code in (0, 3), result.output
    assert result.exit_code == 0 or "error: " in result.stderr


def test_every_stage_is_in_the_readme():
    from fusionctl.stages import HIDDEN, STAGES

    shown = set(STAGES) - set(HIDDEN)
    assert all(any(f"fusionctl {stage} " in f"{command} " for command in COMMANDS) for stage in shown)
