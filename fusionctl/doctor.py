"""What `doctor` looks at: the machine, the installation, the folders, each finding with the command that mends it.

A `fault` stops some stage or would let it do harm; a `note` costs speed or an optional part, or is only worth knowing.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fusionctl import doctor_machine, doctor_packages
from fusionctl.config import known_variables
from fusionctl.errors import InputError

State = Literal["ok", "note", "fault"]

GB = 1e9
LEAST_DISK, ENOUGH_DISK = 1 * GB, 50 * GB  # all films at 256 pixels are 24.7 GB, and their cache is linked, not copied
LEAST_MEMORY = 8 * GB


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        found: what it is like.
        state: ok, note or fault.
        mend: a command or sentence that mends it; empty where nothing is wrong.
    """

    what: str
    found: str
    state: State = "ok"
    mend: str = ""


def findings(common: Mapping[str, Any], stages: Mapping[str, type[Any]]) -> list[Finding]:
    """Everything, in the order in which it is worth mending.

    Args:
        common: values of the common options: `work_dir`, `mimic_root`, `cxr_root`, `stage_to`.
        stages: settings by stage, whose environment variables are known.
    """
    return [
        *packages(doctor_packages.look()),
        *machine(doctor_machine.look()),
        work_dir(common["work_dir"]),
        disk(common["work_dir"]),
        *([stage_to(common["stage_to"])] if common["stage_to"] else []),
        data("MIMIC-IV", "--mimic-root", common["mimic_root"], _release),
        data("MIMIC-CXR", "--cxr-root", common["cxr_root"], _films),
        *variables(os.environ, stages),
    ]


def packages(facts: doctor_packages.Facts) -> Iterable[Finding]:
    """Python, the packages that are needed, the optional ones, and the compiled parts."""
    yield Finding(what="Python", found=facts.python)
    wrong = [p for p in facts.needed if p.problem]
    if not facts.needed:
        yield Finding(what="packages", found="run from its sources, not installed", state="note", mend="pip install .")
    elif not wrong:
        yield Finding(what="packages", found=f"{len(facts.needed)} as required")
    for package in wrong:
        mend = f"pip install --force-reinstall '{package.requirement}'"
        yield Finding(what=package.name, found=package.problem, state="fault", mend=mend)
    if "torch" not in {package.name for package in wrong}:
        yield Finding(what="torch", found=facts.torch)
    for package in facts.optional:
        found = package.problem or package.version
        mend = f"pip install '{package.requirement}'" if package.problem else ""
        yield Finding(what=package.name, found=f"{found} ({package.use})", state=_note_if(package.problem), mend=mend)
    for name, use in facts.compiled.items():
        mend = "install a C compiler (apt-get install gcc), then: pip install --force-reinstall --no-deps ."
        found = use if name in facts.compiled_there else f"not there: numpy does the same, more slowly ({use})"
        missing = name not in facts.compiled_there
        yield Finding(what=name, found=found, state=_note_if(missing), mend=mend if missing else "")


def _note_if(wrong: object) -> State:
    return "note" if wrong else "ok"


def machine(facts: doctor_machine.Facts) -> Iterable[Finding]:
    """GPUs with their driver, threads, memory."""
    for gpu in facts.gpus:
        yield Finding(what="GPU", found=gpu)
    if not facts.gpus and facts.driver:
        mend = "install the torch build that fits this driver, or on a cluster ask for a GPU: --gres=gpu:1"
        yield Finding(what="GPU", found="a driver is there, torch sees no GPU", state="fault", mend=mend)
    elif not facts.gpus:
        mend = "without one add --preset small; training with the paper's settings takes days"
        yield Finding(what="GPU", found="none", state="note", mend=mend)
    yield Finding(what="driver", found=facts.driver or "none")
    yield Finding(what="threads", found=facts.threads)
    little = facts.memory_free < LEAST_MEMORY
    found = f"{facts.memory_free / GB:.1f} GB free of {facts.memory / GB:.1f} GB"
    mend = "on a cluster ask for more: --mem=32G" if little else ""
    yield Finding(what="memory", found=found, state=_note_if(little), mend=mend)


def work_dir(folder: Path) -> Finding:
    """Whether artifacts can be written, and are closed to others."""
    there, what = existing(folder), f"work directory {folder}"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        mend = "choose a folder you can write to: --work-dir DIR"
        return Finding(what=what, found=f"{there} cannot be written to", state="fault", mend=mend)
    mode = _mode_of_new_file(there)
    if mode & 0o077:
        mend = "choose a file system that keeps permissions: --work-dir DIR"
        return Finding(what=what, found=f"new files get mode {mode:o}: others can read", state="fault", mend=mend)
    if folder.is_dir() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        mend = f"chmod go= '{folder}'"
        return Finding(what=what, found="others can look into it", state="note", mend=mend)
    found = "there, closed to others" if folder.is_dir() else f"not there yet, {there} can be written to"
    return Finding(what=what, found=f"{found}; files are written with umask 077")


def _mode_of_new_file(folder: Path) -> int:
    """Some mounts (of Windows shares, of removable disks) give every file the same open mode."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".fusionctl-doctor-", dir=folder) as file:
            return stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except OSError:
        return 0  # full or over quota: the room says so


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def disk(folder: Path) -> Finding:
    """Room for artifacts."""
    free = shutil.disk_usage(existing(folder)).free
    state: State = "fault" if free < LEAST_DISK else "note" if free < ENOUGH_DISK else "ok"
    mend = "" if state == "ok" else "free space, or choose another --work-dir; all films of MIMIC-CXR take 24.7 GB"
    return Finding(what="disk of the work directory", found=f"{free / GB:.1f} GB free", state=state, mend=mend)


def stage_to(folder: Path) -> Finding:
    """The folder on the node's own disk."""
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        mend = "give a folder that is there on every node of the job, or leave --stage-to out"
        return Finding(what=f"--stage-to {folder}", found="cannot be written to", state="fault", mend=mend)
    return Finding(what=f"--stage-to {folder}", found=f"{shutil.disk_usage(folder).free / GB:.1f} GB free")


def data(what: str, option: str, root: Path | None, describe: Any) -> Finding:
    """A data set's folder: its release, or what keeps it from being read."""
    if root is None:
        return Finding(what=what, found="no folder given", state="note", mend=f"{option} DIR, or: fusionctl synth")
    try:
        return Finding(what=what, found=describe(root))
    except InputError as error:
        return Finding(what=what, found=error.message, state="fault", mend=error.hint)


def _release(root: Path) -> str:
    from fusionctl.data import mimic, tables

    layout = mimic.find_layout(root)
    opened = {name: tables.open_table(path, mimic.COLUMNS[name]) for name, path in layout.paths.items()}
    version = mimic.refine_version(layout, tables.read(opened["patients"]))
    if "d_labitems" in opened:
        mimic.check_lab_items(opened["d_labitems"].path, tables.read(opened["d_labitems"]))
    return f"{version} ({layout.evidence}), {mimic.sensitivity(root)}, {root}"


def _films(root: Path) -> str:
    from fusionctl.data import mimic, tables

    paths = mimic.find_films(root)
    for name, path in paths.items():
        tables.open_table(path, mimic.COLUMNS[name])
    if not (root / "files").is_dir():
        raise InputError(f"{root}: the folder files/ is missing", hint="give the folder that holds files/")
    release = "2.1.0, with the radiologists' labels" if "test_labels" in paths else "2.0.0"
    return f"JPG {release}, {mimic.sensitivity(root)}, {root}"


def variables(environment: Mapping[str, str], stages: Mapping[str, type[Any]]) -> Iterable[Finding]:
    """Environment variables that look like settings and are none: nothing reads them."""
    unknown = [n for n in environment if n.startswith("FUSIONCTL_") and n not in known_variables(stages)]
    for name in sorted(unknown):
        mend = f"unset {name}; all settings and their values: fusionctl show-config"
        yield Finding(what=name, found="no setting has this environment variable", state="note", mend=mend)
