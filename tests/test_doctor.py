"""What `doctor` finds, what it says to do about it, and its exit code."""

import json
import os
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fusionctl import cli, doctor, doctor_machine, doctor_packages
from fusionctl.data import synth
from fusionctl.doctor_packages import Package
from fusionctl.stages import STAGES

SETTINGS = {name: stage.settings for name, stage in STAGES.items() if not stage.hidden}
GOOD = doctor_packages.Facts(
    python="3.11.9",
    torch="2.10.0, built for CPUs",
    needed=[Package(name="numpy", requirement="numpy>=2.0", version="2.1.0")],
    optional=[Package(name="pydicom", requirement="pydicom>=3.0", version="3.0.1", use="reads DICOM")],
    compiled_there=frozenset(doctor_packages.COMPILED),
)
MACHINE = doctor_machine.Facts(threads="8 of 8 processors", memory=64e9, memory_free=60e9)


@pytest.fixture
def healthy(monkeypatch):
    """A machine on which nothing is wrong, whatever this one is like; no package is imported."""
    monkeypatch.setattr(doctor_packages, "look", lambda: GOOD)
    monkeypatch.setattr(doctor_machine, "look", lambda: MACHINE)


def call(*arguments):
    return CliRunner().invoke(cli.app, ["doctor", *(str(a) for a in arguments)])


def by_name(found):
    return {finding.what: finding for finding in found}


def test_a_healthy_machine_ends_with_0_and_lists_everything(healthy, tmp_path):
    result = call("--work-dir", tmp_path / "w")
    assert result.exit_code == 0, result.output
    for what in ("Python", "packages", "torch", "GPU", "threads", "memory", "work directory", "disk", "MIMIC-IV"):
        assert what in result.stdout
    assert "note   MIMIC-IV" in result.stdout and "--mimic-root DIR" in result.stdout
    assert list(tmp_path.iterdir()) == [], "doctor writes nothing"


def test_json_and_exit_code_3_with_the_first_fault(healthy, tmp_path, monkeypatch):
    result = call("--work-dir", tmp_path / "w", "--mimic-root", "/nowhere", "--json")
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert told["ok"] is False
    (fault,) = [finding for finding in told["findings"] if finding["state"] == "fault"]
    assert fault["what"] == "MIMIC-IV" and "/nowhere" in fault["found"] and fault["mend"]
    assert "fault: 1 found, the first: MIMIC-IV" in result.stderr
    assert json.loads(call("--work-dir", tmp_path / "w", "--json").stdout)["ok"] is True


def test_data_sets_are_recognised(tmp_path):
    synth.write_tree(tmp_path / "raw", stays=12, layout="v1", seed=1)
    found = doctor.data("MIMIC-IV", "--mimic-root", tmp_path / "raw" / "mimic-iv", doctor._release)
    assert found.state == "ok" and found.found.startswith("v1 (") and "synthetic" in found.found
    films = tmp_path / "raw" / "mimic-cxr-jpg"
    found = doctor.data("MIMIC-CXR", "--cxr-root", films, doctor._films)
    assert found.state == "ok" and found.found.startswith("JPG 2.")
    (films / "files").rename(films / "elsewhere")
    found = doctor.data("MIMIC-CXR", "--cxr-root", films, doctor._films)
    assert found.state == "fault" and "the folder files/ is missing" in found.found and found.mend
    found = doctor.data("MIMIC-IV", "--mimic-root", films, doctor._release)
    assert found.state == "fault" and "no folder icu/ or hosp/" in found.found


@pytest.mark.parametrize(
    ("package", "mend"),
    [
        (Package(name="torch", requirement="torch>=2.10", problem="not installed"), "'torch>=2.10'"),
        (Package(name="numpy", requirement="numpy>=2.0", version="1", problem="1 is older than 2.0"), "'numpy>=2.0'"),
    ],
)
def test_a_package_that_does_not_do_is_a_fault(package, mend):
    found = by_name(doctor.packages(doctor_packages.Facts(**{**vars(GOOD), "needed": [package]})))
    assert found[package.name].state == "fault" and found[package.name].mend == f"pip install --force-reinstall {mend}"
    assert "packages" not in found


def test_an_optional_part_that_is_not_there_is_a_note():
    missing = Package(name="pydicom", requirement="pydicom>=3.0", problem="not installed", use="reads DICOM")
    facts = {**vars(GOOD), "optional": [missing], "compiled_there": frozenset()}
    found = by_name(doctor.packages(doctor_packages.Facts(**facts)))
    assert found["pydicom"].state == "note" and found["pydicom"].mend == "pip install 'pydicom>=3.0'"
    scan = found["fusionctl.data._scan"]
    assert scan.state == "note" and "numpy does the same" in scan.found and "C compiler" in scan.mend
    found = by_name(doctor.packages(doctor_packages.Facts(**{**vars(GOOD), "needed": []})))
    assert found["packages"].state == "note" and found["packages"].mend == "pip install ."


def test_what_is_installed_is_compared_with_what_is_required(monkeypatch):
    assert doctor_packages.numbers("2.10.0+cpu") == (2, 10, 0) > doctor_packages.numbers("2.9")
    versions = {"numpy": "1.26.4", "rich": "99.1", "broken": "1.0"}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    assert doctor_packages._package("numpy>=2.0").problem == "1.26.4 is older than 2.0"
    assert doctor_packages._package("absent>=1").problem == "not installed"
    assert doctor_packages._package("rich>=13.9").problem == ""
    assert doctor_packages._broken("json") == ""
    problem = doctor_packages._package("broken").problem
    assert problem.startswith("1.0 is installed but cannot be imported: ModuleNotFoundError")


def test_the_requirements_are_those_of_the_installation(monkeypatch):
    listed = [
        "torch>=2.10",
        'pydicom>=3.0; extra == "dicom"',
        'pytest>=8; extra == "dev"',
        'pydicom>=3.0; extra == "dev"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: listed)
    assert doctor_packages.requirements() == ["torch>=2.10", "pydicom>=3.0"]


def test_gpus(monkeypatch):
    def found(**facts):
        return by_name(doctor.machine(doctor_machine.Facts(memory=64e9, memory_free=60e9, **facts)))["GPU"]

    assert found(gpus=["cuda:0 H100, 80 GB, bf16"], driver="NVIDIA 550.54").state == "ok"
    unusable = found(driver="NVIDIA 550.54")
    assert unusable.state == "fault" and "torch sees no GPU" in unusable.found and "--gres=gpu:1" in unusable.mend
    assert found().state == "note" and "--preset small" in found().mend


def test_the_driver_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_machine, "_DRIVER", tmp_path / "version")
    assert doctor_machine._driver() == ""
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\nGCC 12.2.0\n")
    assert doctor_machine._driver() == "NVIDIA 550.54.15"


def test_memory_is_what_the_job_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor_machine, "_MEMORY", tmp_path / "meminfo")
    assert doctor_machine.memory() == (0, 0)
    (tmp_path / "meminfo").write_text("MemTotal: 64000 kB\nMemFree: 1 kB\nMemAvailable: 60000 kB\n")
    monkeypatch.setattr(doctor_machine, "_GROUP", tmp_path / "cgroup")
    assert doctor_machine.memory() == (64000 * 1024, 60000 * 1024)
    (tmp_path / "cgroup").write_text("0::/job_1/step_0\n")
    monkeypatch.setattr(doctor_machine, "_GROUPS", tmp_path)
    for folder, limit in (("job_1", "10000"), ("job_1/step_0", "max")):
        (tmp_path / folder).mkdir()
        for name, text in (("max", limit), ("current", "6000"), ("stat", "anon 3500\nfile 2500\n")):
            (tmp_path / folder / f"memory.{name}").write_text(text)
    assert doctor_machine.memory() == (10000, 6500)
    little = by_name(doctor.machine(doctor_machine.Facts(memory=10000, memory_free=6500)))["memory"]
    assert little.state == "note" and "--mem=32G" in little.mend


def test_the_work_directory(tmp_path, monkeypatch):
    assert doctor.work_dir(tmp_path / "new" / "w").state == "ok"
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    found = doctor.work_dir(tmp_path / "open")
    assert found.state == "note" and found.mend == f"chmod go= '{tmp_path / 'open'}'"
    (tmp_path / "file").touch()
    found = doctor.work_dir(tmp_path / "file")
    assert found.state == "fault" and "cannot be written to" in found.found
    monkeypatch.setattr(doctor, "_mode_of_new_file", lambda folder: 0o777)
    found = doctor.work_dir(tmp_path)
    assert found.state == "fault" and "mode 777: others can read" in found.found


def test_room_on_the_disk(tmp_path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    states = []
    for free in (0.5e9, 10e9, 100e9):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path, free=free: usage(1e12, 0, free))
        states.append(doctor.disk(tmp_path / "not" / "there").state)
    assert states == ["fault", "note", "ok"]
    assert "100.0 GB free" in doctor.stage_to(tmp_path).found
    assert doctor.stage_to(Path("/nowhere")).state == "fault"


def test_variables_that_nothing_reads_are_named():
    environment = {"FUSIONCTL_FUSE_LRR": "1", "FUSIONCTL_FUSE_LR": "1", "FUSIONCTL_CONFIG": "x", "HOME": "y"}
    (found,) = doctor.variables(environment, SETTINGS)
    assert found.what == "FUSIONCTL_FUSE_LRR" and found.state == "note" and "unset FUSIONCTL_FUSE_LRR" in found.mend
    known = {f"FUSIONCTL_{name.upper()}" for name in ("work_dir", "stage_to", "preset", "seed")}
    assert list(doctor.variables(dict.fromkeys(known, "1"), SETTINGS)) == []


def test_this_machine_can_be_looked_at(monkeypatch):
    monkeypatch.setattr(doctor_packages, "_broken", lambda module: "")  # importing all takes seconds
    facts = doctor_machine.look()
    assert 0 < facts.memory_free <= facts.memory and f"of {os.cpu_count()} processors" in facts.threads
    found = doctor_packages.look()
    assert found.python and found.torch.startswith("2.")
