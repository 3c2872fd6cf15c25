"""What the system refuses is one clear error that names no patient; bugs stay bugs."""

import errno
from pathlib import Path

import pytest

from fusionctl.errors import FusionctlError, InputError
from fusionctl.failures import one_error

ROOTS = {"cxr_root": Path("/data/cxr")}


def said(error):
    with pytest.raises(FusionctlError) as caught, one_error("films", ROOTS):
        raise error
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "w/x.npy"), "films: the disk is full: w/x.npy"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "films: the disk is full (quota)"),
        (OSError(errno.EFBIG, "File too large", "x"), "films: a file may not grow as large as it must: x"),
        (RuntimeError("No space left on device (os error 28)"), "films: the disk is full"),
        (RuntimeError("I/O error: Permission denied (os error 13)"), "films: Permission denied"),
        (PermissionError(13, "Permission denied", "/w/x"), "films: /w/x: Permission denied"),
        (PermissionError(13, "no", "/data/cxr/files/p10/p10000032/a.jpg"), "cxr/files/p10/...: Permission denied"),
        (FileNotFoundError(2, "no", "/data/cxr/a.csv"), "films: /data/cxr/a.csv: No such file or directory"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_said_with_its_place(error, message):
    found = said(error)
    assert found.endswith(message) and "10000032" not in found


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("subject 1"), OSError("of no number")])
def test_a_bug_stays_one(error):
    with pytest.raises(type(error)) as caught, one_error("films", ROOTS):
        raise error
    assert caught.value is error


def test_a_clear_error_is_not_told_twice():
    error = InputError("x")
    with pytest.raises(InputError) as caught, one_error("films", ROOTS):
        raise error
    assert caught.value is error
