"""Copies of an artifact on the disk of the node that trains, for arrays that are read again and again.

    DIR/fusionctl-<user number>/<stage>/<id>/           a whole copy, for all this user's processes on the node
    DIR/fusionctl-<user number>/<stage>/<id>.partial/   being copied, or left by a killed run; the next run begins anew

A copy is compared with the manifest before it is used, and nothing removes it but a run that finds it wrong: what lies
in a job's own folder goes with the job.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusionctl import durable
from fusionctl.errors import FusionctlError, InputError
from fusionctl.workdir import MANIFEST, Artifact

log = logging.getLogger("fusionctl")

STAGES = ("preprocess",)  # whose arrays are read in every epoch
_checked: set[tuple[Path, str]] = set()  # copies that this process has compared with their manifests


def applies(artifact: Artifact | None, folder: Path | None) -> bool:
    """Whether an input is read from a copy in `folder`, and so need not be verified where it is."""
    return folder is not None and artifact is not None and artifact.stage in STAGES


def staged(inputs: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """A stage's inputs, those that are read again and again from copies in `folder` (None: nothing is copied).

    Raises:
        InputError: the folder is not there, or the artifact itself is damaged.
        FusionctlError: the folder has too little room, or is not this user's.
    """
    if folder is None:
        return dict(inputs)
    copied = {name: entry for name, entry in inputs.items() if isinstance(entry, Artifact) and applies(entry, folder)}
    return {**inputs, **{name: stage(artifact, folder) for name, artifact in copied.items()}}


def stage(artifact: Artifact, folder: Path) -> Artifact:
    """The artifact with its path in a verified copy; of several processes on a node the first one copies.

    Raises:
        InputError: `folder` is not there, or the artifact itself is damaged.
        FusionctlError: it has too little room, or is not this user's.
    """
    copy = replace(artifact, path=_own(folder) / artifact.stage / artifact.id)
    if not _is_whole(copy):
        copy.path.parent.mkdir(mode=0o700, exist_ok=True)
        with _alone(copy.path.with_name(f"{artifact.id}.lock")):
            if not _is_whole(copy):
                _copy(artifact, copy, folder)
    return copy


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes of this node out; the kernel frees the lock when its holder dies."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process of this node that copies %s", path.stem)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _own(folder: Path) -> Path:
    """This user's part of a folder that may be everyone's, closed to others."""
    if not folder.is_dir():
        raise InputError(
            f"--stage-to {folder}: no such directory on {platform.node()}",
            hint="give a folder that is there on every node of the job, or leave the option out",
        )
    own = folder / f"fusionctl-{os.getuid()}"
    try:
        own.mkdir(mode=0o700, exist_ok=True)
        status = own.lstat()
    except OSError as error:
        raise FusionctlError(f"--stage-to {own}: {error.strerror}", hint="choose a folder you can write to") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise FusionctlError(
            f"--stage-to: {own} must be a folder of yours that is closed to others; it is not",
            hint="choose another folder, or remove that one if it is yours",
        )
    return own


def _is_whole(copy: Artifact) -> bool:
    """Whether the copy is there and as its manifest says; a large one is read whole, once a process."""
    key = (copy.path, str(sorted((n, f["sha256"]) for n, f in copy.manifest["files"].items())))
    if not copy.path.is_dir():
        return False
    if key not in _checked:
        try:
            copy.verify()
        except InputError as error:
            log.warning("the copy is made again: %s", error.message)
            return False
        _checked.add(key)
    return True


def _copy(artifact: Artifact, copy: Artifact, folder: Path) -> None:
    """Copy beside the final name, compare, rename; a wrong copy that was there is put out of the way."""
    started, need = time.perf_counter(), sum(f["size"] for f in artifact.manifest["files"].values())
    partial = replace(copy, path=copy.path.with_name(f"{copy.id}.partial"))
    wrong = copy.path.with_name(f"{copy.id}.wrong")
    for left in (partial.path, wrong):
        shutil.rmtree(left, ignore_errors=True)
    _check_room(need, folder)
    log.info("copying %s/%s (%.1f GB) to %s", artifact.stage, artifact.id, need / 1e9, copy.path)
    try:
        for name in (*artifact.manifest["files"], MANIFEST):
            _copy_file(artifact.file(name), partial.file(name))
    except OSError as error:
        shutil.rmtree(partial.path, ignore_errors=True)
        raise FusionctlError(
            f"copying to --stage-to {folder} failed on {platform.node()}: {error.strerror}: {error.filename}",
            hint="free space there, choose another folder, or leave the option out",
        ) from error
    _compare(artifact, partial)
    if copy.path.exists():
        os.replace(copy.path, wrong)  # who still reads it keeps its files
    durable.replace(partial.path, copy.path)
    shutil.rmtree(wrong, ignore_errors=True)
    log.info("copied in %.1f s", time.perf_counter() - started)


def _check_room(need: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if need > free:
        raise FusionctlError(
            f"--stage-to {folder}: {need / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free on {platform.node()}",
            hint="free space there, choose another folder, or leave the option out",
        )


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copyfile(source, target)
    durable.sync(target)


def _compare(artifact: Artifact, partial: Artifact) -> None:
    """Check what was written; where it differs, say whether the artifact or the node's disk is at fault."""
    try:
        partial.verify()
    except InputError as error:
        shutil.rmtree(partial.path, ignore_errors=True)
        artifact.verify()
        raise FusionctlError(
            f"a copy under --stage-to differs from its original twice read: the disk of {platform.node()} is at fault",
            hint="choose another folder or node, or leave the option out",
        ) from error
