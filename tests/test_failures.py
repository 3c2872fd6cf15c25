"""What the system refuses is one clear error that names no patient; bugs stay bugs."""

import errno
import os
import signal
from pathlib import Path

import joblib
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


def end_itself(number):
    os.kill(os.getpid(), number)


def ended_by(number):
    """What joblib raises where a signal ends one of its workers."""
    with pytest.raises(RuntimeError) as caught:
        joblib.Parallel(n_jobs=2)(joblib.delayed(end_itself)(number) for _ in range(2))
    return caught.value


def test_a_worker_that_was_killed_is_said_with_what_to_do():
    message = "films: a worker process was ended from outside, perhaps for want of memory"
    assert said(ended_by(signal.SIGKILL)) == message


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("subject 1"), OSError("of no number")])
def test_a_bug_stays_one(error):
    with pytest.raises(type(error)) as caught, one_error("films", ROOTS):
        raise error
    assert caught.value is error


def test_a_worker_that_fell_over_its_own_feet_is_a_bug():
    error = ended_by(signal.SIGSEGV)
    with pytest.raises(type(error)), one_error("films", ROOTS):
        raise error


def test_a_clear_error_is_not_told_twice():
    error = InputError("x")
    with pytest.raises(InputError) as caught, one_error("films", ROOTS):
        raise error
    assert caught.value is error
