"""Shell completion, as Typer offers it: the script, its installation, and what it completes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusionctl import cli

ROOT = Path(cli.__file__).parents[1]


def run(folder, *arguments, **variables):
    """`fusionctl`, called by that name, with a home of its own."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / "fusionctl"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom fusionctl.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FUSIONCTL_")}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(folder), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        [program, *arguments], env={**environment, **variables}, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done


def completed(folder, text):
    words = text.split(" ")
    place = {"COMP_WORDS": text, "COMP_CWORD": str(len(words) - 1), "_FUSIONCTL_COMPLETE": "complete_bash"}
    return run(folder, **place).stdout.split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fusionctl pretrain-", {"pretrain-ehr", "pretrain-cxr"}),
        ("fusionctl fuse --from-s", {"--from-scratch"}),
        ("fusionctl fuse --fusion at", {"attention"}),
        ("fusionctl export-slurm --launcher t", {"torchrun"}),
    ],
)
def test_commands_flags_and_values_are_completed(tmp_path, text, expected):
    assert set(completed(tmp_path, text)) == expected


def test_the_script_is_shown_and_installed(tmp_path):
    shown = run(tmp_path, "--show-completion", "bash")
    assert shown.returncode == 0 and "_FUSIONCTL_COMPLETE=complete_bash" in shown.stdout, shown
    installed = run(tmp_path, "--install-completion", "bash")
    assert installed.returncode == 0, installed
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "bin"]
    assert any("complete_bash" in path.read_text() for path in files), files


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_takes_the_script(tmp_path):
    script = run(tmp_path, "--show-completion", "bash").stdout
    check = "COMP_WORDS=(fusionctl fuse --fusion med); COMP_CWORD=3; _fusionctl_completion fusionctl"
    check += '; echo "${COMPREPLY[@]}"'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", f"{script}\n{check}"], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "medfuse", done
