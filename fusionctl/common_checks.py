"""Checks of the options that every command shares and no stage declares, before anything is planned."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from fusionctl.errors import InputError, UsageError

# Control characters, line breaks among them; and what Python keeps of bytes that are not UTF-8.
_CONTROL, _UNDECODED = re.compile("[\x00-\x1f\x7f-\x9f]"), re.compile("[\ud800-\udfff]")
# What numpy and torch take as a seed everywhere; and more processes than any node has.
_MOST_SEEDS, _MOST_JOBS = 2**32, 1024


def check_common(seed: int, jobs: int, device: str) -> None:
    """Check the common options that no stage declares.

    Raises:
        UsageError: one of them is out of its range.
    """
    if not 0 <= seed < _MOST_SEEDS or not 1 <= jobs <= _MOST_JOBS:
        rule = f"--seed must be >= 0 and below {_MOST_SEEDS} and --jobs >= 1 and at most {_MOST_JOBS}"
        raise UsageError(f"{rule}; got {seed} and {jobs}")
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        raise UsageError(f"--device must be auto, cpu, cuda or cuda:N; got {device!r}")


def check_roots(roots: Mapping[str, Path | None]) -> None:
    """Check that the raw folders and files that were given exist, before anything is planned.

    Raises:
        InputError: one of them is not there.
    """
    for name, path in roots.items():
        flag = "--" + name.replace("_", "-")
        if path is not None:
            check_reachable(flag, path)
        if path is not None and not name.endswith("_root") and not path.exists():
            raise InputError(f"{flag} {path}: no such file", hint="check the path")
        if path is not None and name.endswith("_root") and not path.is_dir():
            raise InputError(
                f"{flag} {path}: no such directory", hint="give the folder that holds hosp/ and icu/, or files/"
            )


def check_reachable(flag: str, path: Path) -> None:
    """Check that a path can be asked for; nothing needs to be there.

    Raises:
        InputError: it is too long, or a folder above it may not be read, say.
    """
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{flag} {path}: {reason}", hint="check the path") from error


def check_work_dir(path: Path) -> None:
    """Check that a work directory can be asked for and named by every library that writes there.

    Raises:
        UsageError: its name is not UTF-8.
        InputError: as `check_reachable`.
    """
    check_unicode("--work-dir", str(path))
    check_reachable("--work-dir", path)


def check_unicode(flag: str, text: str) -> None:
    """Check that a text can be written to a file, and a path given to libraries that want UTF-8.

    Raises:
        UsageError: it holds bytes that are not UTF-8.
    """
    if _UNDECODED.search(text):
        raise UsageError(f"{flag} must be UTF-8; got {text!r}", hint="rename it, or choose another")


def check_line(flag: str, text: str) -> None:
    """Check that a text can stand in one line of a script.

    Raises:
        UsageError: it has a line break or another control character, or is not UTF-8.
    """
    check_unicode(flag, text)
    if _CONTROL.search(text):
        raise UsageError(
            f"{flag} must not hold line breaks or other control characters; got {text!r}",
            hint="rename it, or choose another",
        )
