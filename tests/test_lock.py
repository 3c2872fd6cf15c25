"""One holder at a time, named to the others; the dead do not count."""

import json
import os
import subprocess
import sys
import time
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
        {"boot": "before"},  # the machine was started again
    ],
)
def test_a_dead_holders_lock_is_freed(path, changes, monkeypatch):
    here = replace(lock.this_process(), machine="m", card="c")
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
        {"boot": "its own", "card": "its own", "pid": 2**22 - 1},  # a machine of the same image and name
        {"boot": "its own", "card": "", "pid": 2**22 - 1},
    ],
)
def test_of_another_machines_holder_nothing_is_known(path, changes, monkeypatch):
    here = replace(lock.this_process(), **{name: changes.get(name, "x") and "x" for name in ("machine", "card")})
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


@pytest.mark.parametrize(("seconds", "freed"), [(590, False), (610, True)])
def test_a_lock_that_was_made_but_not_written_is_freed_after_a_while(path, seconds, freed):
    path.touch()
    os.utime(path, (time.time() - seconds,) * 2)
    assert lock.is_free(path) == freed
    if freed:
        with lock.held(path, "x"):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert not path.exists()
    else:
        with pytest.raises(LockedError, match="its file names none"):
            lock.check_free(path, "x")


def test_a_card_that_its_maker_numbered_tells_machines_of_one_image_apart(path, tmp_path, monkeypatch):
    cards = {
        "lo": ("00:00:00:00:00:00", "0", False),
        "docker0": ("00:1b:21:00:00:00", "0", False),  # no device
        "virtual": ("02:fc:00:00:00:01", "0", True),  # the image's: of a number that anybody may use
        "random": ("00:1b:21:00:00:01", "1", True),
        "infiniband": ("00:00:00:67:fe:80:00:00:00:00:00:00:00:02:c9:03:00:1f:22:51", "0", True),
        "eth1": ("00:1b:21:aa:aa:02", "0", True),
        "eth0": ("00:1b:21:aa:aa:03", "0", True),
    }
    for name, (address, kind, real) in cards.items():
        (tmp_path / "net" / name / "device" if real else tmp_path / "net" / name).mkdir(parents=True)
        (tmp_path / "net" / name / "address").write_text(f"{address}\n")
        (tmp_path / "net" / name / "addr_assign_type").write_text(f"{kind}\n")
    monkeypatch.setattr(lock, "_CARDS", tmp_path / "net")
    assert lock.this_process().card == "00:1b:21:aa:aa:02"
    monkeypatch.setattr(lock, "_CARDS", tmp_path / "nothing")
    assert lock.this_process().card == ""


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


@pytest.fixture
def no_links(monkeypatch):
    def refuse(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(lock.os, "link", refuse)


def test_without_hard_links_the_lock_is_exclusive_too(path, no_links):
    with lock.held(path, "x"), pytest.raises(LockedError, match=f"process {os.getpid()}"), lock.held(path, "x"):
        pass
    assert list(path.parent.iterdir()) == []


def test_without_hard_links_another_holders_sweep_harms_nobody(path, monkeypatch):
    def sweep(*paths):
        for left in path.parent.glob(f"{path.name}.*"):
            left.unlink()
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(lock.os, "link", sweep)
    with lock.held(path, "x"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(path.parent.iterdir()) == []


def test_without_hard_links_a_lock_that_cannot_be_written_is_none(path, no_links, monkeypatch):
    write, names = lock.json.dump, []

    def full(record, file):
        names.append(record)
        if len(names) > 1:
            raise OSError(28, "No space left on device")
        write(record, file)

    monkeypatch.setattr(lock.json, "dump", full)
    with pytest.raises(OSError, match="No space left"), lock.held(path, "x"):
        pass
    assert list(path.parent.iterdir()) == []


def test_without_hard_links_one_that_slept_too_long_does_not_hold_the_lock(path, no_links, monkeypatch):
    """Another machine takes the empty lock for a dead one's and makes its own; what the sleeper writes is nowhere."""
    write = lock.json.dump

    def late(record, file):
        if path.exists():
            path.unlink()
            path.write_text(json.dumps(asdict(replace(lock.this_process(), host="elsewhere"))))
        write(record, file)

    monkeypatch.setattr(lock.json, "dump", late)
    with pytest.raises(LockedError, match="on host elsewhere"), lock.held(path, "x"):
        pass
    assert "elsewhere" in path.read_text()


@pytest.mark.parametrize("error", [FileExistsError(17, "File exists"), TimeoutError(110, "Connection timed out")])
def test_a_link_that_nfs_made_and_denies_counts(path, monkeypatch, error):
    """NFS sends a request again whose answer was lost; the second answer is of the first one's success."""
    link = os.link

    def asked_again(*paths):
        link(*paths)
        raise error

    monkeypatch.setattr(lock.os, "link", asked_again)
    with lock.held(path, "x"):
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        with pytest.raises(LockedError, match=f"process {os.getpid()}"), lock.held(path, "x"):
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
