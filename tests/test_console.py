"""The standard streams of the program: closed, full, or of an encoding without the letters of a path."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusionctl import cli, console

ROOT = Path(cli.__file__).parents[1]
SYNTH = ("synth", "--out", "raw", "--stays", 30)


def run(folder, *arguments, redirect="", **variables):
    """`fusionctl` in a process of its own, its standard streams as `redirect` says in bash."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FUSIONCTL_", "PYTHON"))}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    command = ["bash", "-c", f'"$@" {redirect}', "bash", sys.executable, "-m", "fusionctl", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="latin-1", timeout=120)
    assert not any(word in done.stderr for word in ("Traceback", "internal error", "Exception ignored")), done.stderr
    return done


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_a_path_may_have_letters_that_the_output_has_not(tmp_path, encoding):
    done = run(tmp_path, "status", "--work-dir", "w日本", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    shown = "w日本" if encoding == "utf-8" else r"w\u65e5\u672c"
    assert shown.encode() in done.stdout.encode("latin-1")


@pytest.mark.parametrize(
    ("redirect", "shown"), [("2>&-", "raw\n"), (">&-", ""), ("<&-", "raw\n"), ("<&- >&- 2>&-", "")]
)
def test_a_closed_stream_does_no_harm(tmp_path, redirect, shown):
    done = run(tmp_path, *SYNTH, redirect=redirect)
    assert done.returncode == 0 and done.stdout == shown, done.stderr
    assert {path.name for path in (tmp_path / "raw").iterdir()} >= {"mimic-iv", "mimic-cxr-jpg"}
    assert run(tmp_path, "status", redirect=redirect).returncode == 0
    assert run(tmp_path, "fuse", "--lr", "-1", redirect=redirect).returncode == 2
    assert run(tmp_path, "--help", redirect=redirect).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_is_full_is_one_clear_error(tmp_path, unbuffered):
    for command in (SYNTH, ("status",), ("list", "tasks", "--json"), ("--help",), ("--version",)):
        done = run(tmp_path, *command, redirect=">/dev/full", PYTHONUNBUFFERED=unbuffered)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode == 1 and errors == ["error: standard output: No space left on device"], done.stderr
    assert (tmp_path / "raw").is_dir()


def test_a_reader_that_has_gone_is_no_failure(tmp_path):
    done = run(tmp_path, "list", "fusions", "--json", redirect="| true; exit ${PIPESTATUS[0]}")
    assert done.returncode == 0 and done.stderr == ""


def test_a_slow_pace_is_told_in_seconds_each():
    text = console.Progress(quiet=True)._text(4, 19, 17.0)
    assert text.endswith("4 of 19 (21%), 4.2 s each, 64 s left")
