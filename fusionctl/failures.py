"""What the system refuses, such as room on a disk, as one clear error that names no patient."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path

from fusionctl.errors import FusionctlError

_RUST = re.compile(r"\(os error (\d+)\)")  # how polars and safetensors tell the system's number
_ENDED = re.compile(r"SIG(KILL|TERM)\b")  # how joblib tells what ended a worker; what a bug does is another signal
_SHOWN = 2  # levels of a raw folder that an error names: the paths of films hold patients' ids


@contextmanager
def one_error(stage: str, roots: Mapping[str, Path]) -> Iterator[None]:
    """Turn a failed write or read inside into one clear error; what is no such failure stays the bug that it is.

    Args:
        stage: the stage that runs inside.
        roots: its raw folders.

    Raises:
        FusionctlError: the system refused something.
    """
    try:
        yield
    except FusionctlError:
        raise
    except Exception as error:
        if isinstance(error, BrokenExecutor) and _ENDED.search(str(error)):
            raise FusionctlError(f"{stage}: {_WORKER_ENDED[0]}", hint=_WORKER_ENDED[1]) from error
        code = _code(error)
        if code is None:
            raise
        where = _place(error, roots)
        reason, hint = _SAID.get(code, (os.strerror(code), "mend it, then run the same command again"))
        named = (where, reason) if code not in _SAID else (reason, where)
        raise FusionctlError(": ".join([stage, *(text for text in named if text)]), hint=hint) from error


_WORKER_ENDED = (
    "a worker process was ended from outside, perhaps for want of memory",
    "give fewer --jobs, or the job more memory, then run the same command again",
)
_DISK_FULL = ("the disk is full", "free space or choose another --work-dir, then rerun")
_SAID = {
    errno.ENOSPC: _DISK_FULL,
    errno.EDQUOT: ("the disk is full (quota)", _DISK_FULL[1]),
    errno.EFBIG: ("a file may not grow as large as it must", "raise the limit, for example: ulimit -f unlimited"),
}


def _code(error: Exception) -> int | None:
    """The system's number of what it refused; None where the error is of another kind."""
    said = _RUST.search(str(error))
    if said:
        return int(said[1])
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return errno.ENOSPC if "No space left" in str(error) else None


def _place(error: Exception, roots: Mapping[str, Path]) -> str:
    """The file that was refused, if it is known."""
    name = getattr(error, "filename", None)
    if name is None:
        return ""
    path = Path(os.fsdecode(name)) if isinstance(name, (str, bytes)) else Path(str(name))
    for root in roots.values():
        parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
        if len(parts) > _SHOWN:
            return str(Path(root, *parts[:_SHOWN], "..."))
    return str(path)
