"""Identities of raw input files, cheap enough for a data set of 600 GB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fusionctl.errors import InputError

# Bytes hashed at the start, the middle and the end of a file.
_BLOCK = 1 << 20


def fingerprint(root: Path, patterns: Iterable[str]) -> dict[str, list[Any]]:
    """Identity of raw files: their digests from SHA256SUMS.txt, or size, modification time and a sampled hash.

    Args:
        root: folder of the data set, or one file, which is read whole.
        patterns: globs below `root`; folders of films are never walked.

    Raises:
        InputError: `root` or one of the files cannot be read.
    """
    if not root.exists():
        raise InputError(f"{root}: no such file or directory", hint="check the path that was given for it")
    try:
        if root.is_file():
            with root.open("rb") as file:
                return {root.name: [root.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]}
        next(root.iterdir(), None)
        listed = _listed_digests(root)
        paths = sorted({p for pattern in patterns for p in root.glob(pattern) if p.is_file()})
        return {p.relative_to(root).as_posix(): _identity(p, listed.get(p.relative_to(root).as_posix())) for p in paths}
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}", hint="check that you may read the data set") from error


def stamp(path: Path) -> tuple[int, int] | None:
    """Size and modification time in ns, by which a change during a run is noticed; None: the file cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _listed_digests(root: Path) -> dict[str, str]:
    sums = root / "SHA256SUMS.txt"
    if not sums.is_file():
        return {}
    lines = (line.split(maxsplit=1) for line in sums.read_text(encoding="utf-8", errors="replace").splitlines())
    return {parts[1].lstrip("*"): parts[0] for parts in lines if len(parts) == 2}


def _identity(path: Path, listed: str | None) -> list[Any]:
    status = path.stat()
    if listed:
        return [status.st_size, listed]
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for position in (0, status.st_size // 2, max(0, status.st_size - _BLOCK)):
            file.seek(position)
            digest.update(file.read(_BLOCK))
    return [status.st_size, status.st_mtime_ns, digest.hexdigest()[:32]]
