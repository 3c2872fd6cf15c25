"""One holder at a time, named to the others; the dead do not count."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from fusionctl import lock
from fusionctl.errors import LockedError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "0123456789ab.lock"


def write(path, **changes):
    """A lock of this process with some facts changed."""
    holder = replace(lock.this_process(), **changes)
    path.write_text(json.dumps(asdict(holder)))
    return holder


def test_a_second_holder_is_told_who_has_it_and_nothing_is_left_after(path):
    with lock.held(path, "extract/0123"):
        assert path.stat().st_mode & 0o777 == 0o600
        again = pytest.raises(LockedError, match=rf"extract/0123 .*process {os.getpid()} on host \S+\)")
        with again as caught, lock.held(path, "extract/0123"):
            pass
        assert caught.value.exit_code == 5 and f"remove {path}" in caught.value.hint
        assert not lock.is_free(path)
    assert list(path.parent.iterdir()) == [] and lock.is_free(path)


def test_asking_stands_in_nobodys_way(path):
    lock.check_free(path, "x")
    assert list(path.parent.iterdir()) == []
    with lock.held(path, "x"), pytest.raises(LockedError):
        lock.check_free(path, "x")


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": 2**22 - 1},  # no such process
        {"started": "1"},  # another process has its number now
        {"machine": "m", "boot": "before"},  # the machine was started again
    ],
)
def test_a_dead_holders_lock_is_freed(path, changes, monkeypatch):
    here = replace(lock.this_process(), machine="m")
    monkeypatch.setattr(lock, "this_process", lambda: here)
    write(path, **changes)
    lock.check_free(path, "x")
    assert not path.exists()
    write(path, **changes)
    with lock.held(path, "x"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "elsewhere", "pid": 2**22 - 1},
        {"machine": "another of the same name", "pid": 2**22 - 1},
        {"namespace": "pid:[1]", "pid": 2**22 - 1},  # a container's, whose processes cannot be seen from here
        {"boot": "unknown", "machine": "", "pid": 2**22 - 1},
    ],
)
def test_of_another_machines_holder_nothing_is_known(path, changes, monkeypatch):
    here = replace(lock.this_process(), machine=changes.get("machine", "m") and "m")
    monkeypatch.setattr(lock, "this_process", lambda: here)
    write(path, **changes)
    with pytest.raises(LockedError, match="process 4194303 on host"), lock.held(path, "x"):
        pass
    assert path.exists()


def test_a_requeued_job_frees_the_lock_of_its_earlier_attempt_on_any_machine(path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    write(path, host="elsewhere", job="77", attempt="1")
    with pytest.raises(LockedError, match="on host elsewhere, Slurm job 77"):
        lock.check_free(path, "x")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    lock.check_free(path, "x")
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "123\nhost\n", "[]", '{"pid": 1}'])
def test_a_file_that_names_nobody_is_left_to_the_user(path, content):
    path.write_text(content)
    with pytest.raises(LockedError, match="its file names none") as caught:
        lock.check_free(path, "x")
    assert f"remove {path}" in caught.value.hint


def test_a_zombie_is_dead(path):
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet reaped
    try:
        assert lock._began(child.pid) is None
    finally:
        child.wait()


def test_a_lock_that_somebody_holds_anew_is_not_freed(path):
    """Two runs find one dead holder; the slower one must not remove the lock of the faster."""
    dead = write(path, pid=2**22 - 1)
    write(path)
    lock._remove(path, dead)
    assert path.exists()


def test_without_hard_links_the_lock_is_exclusive_too(path, monkeypatch):
    def refuse(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(lock.os, "link", refuse)
    with lock.held(path, "x"), pytest.raises(LockedError, match=f"process {os.getpid()}"), lock.held(path, "x"):
        pass
    assert list(path.parent.iterdir()) == []


def test_what_was_killed_while_it_asked_leaves_nothing_for_long(path):
    path.with_name(f"{path.name}.0123").write_text("{")
    with lock.held(path, "x"):
        assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_only_a_dead_holders_lock_is_swept_away(path):
    lock.sweep(path)
    write(path, pid=2**22 - 1)
    lock.sweep(path)
    assert not path.exists()
    with lock.held(path, "x"):
        lock.sweep(path)
        assert path.exists()
