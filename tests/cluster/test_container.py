"""The container's definition names what is there; nothing here can build it."""

import re
import stat
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "apptainer"
SECTIONS = re.split(r"^%(\w+)\n", (FOLDER / "fusionctl.def").read_text(encoding="utf-8"), flags=re.MULTILINE)
BY_NAME = dict(zip(SECTIONS[1::2], SECTIONS[2::2], strict=True))


def test_what_is_copied_is_there_and_is_all_that_an_installation_needs():
    sources = [line.split()[0] for line in BY_NAME["files"].strip().splitlines()]
    assert all((ROOT / source).exists() for source in sources)
    named = re.findall(r'"(README\.md|LICENSE)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"pyproject.toml", "setup.py", "fusionctl", *named} <= set(sources)


def test_it_installs_runs_and_tests_itself():
    assert set(BY_NAME) >= {"files", "post", "environment", "test", "runscript"}
    assert "--require-hashes" in BY_NAME["post"] and "PYTHONNOUSERSITE=1" in BY_NAME["environment"]
    assert BY_NAME["runscript"].strip() == 'exec fusionctl "$@"'
    assert "fusionctl doctor" in BY_NAME["test"]


def test_the_program_that_stands_for_it_passes_everything_on():
    program = FOLDER / "fusionctl"
    assert program.stat().st_mode & stat.S_IXUSR
    assert program.read_text(encoding="utf-8").strip().endswith('exec apptainer exec --nv "$sif" fusionctl "$@"')
