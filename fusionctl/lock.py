"""Who is at work: a lock file that names its holder, and is freed where that holder is known to be dead.

The record is written beside the lock and linked to its name: that is exclusive, on NFS too (unlike flock), and no kill
leaves a lock that names nobody. Only a process of the same machine, or a later attempt of the same Slurm job, can know
that a holder is dead; any other lock stays, and the error says which file to remove.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fusionctl.errors import LockedError

_TRIES = 20  # a lock that was freed between two looks is tried again


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock, told apart from any other that has, or had, its number.

    Attributes:
        pid: its number.
        host: name of its machine.
        machine, boot: ids of that machine and of its start ("" where the system tells none).
        namespace: which numbers of processes `pid` is one of: containers count for themselves.
        started: when the process began, in the kernel's count.
        job, attempt: number of its Slurm job, and how often that was requeued.
        token: unlike that of any other lock.
    """

    pid: int
    host: str
    machine: str = ""
    boot: str = ""
    namespace: str = ""
    started: str = ""
    job: str = ""
    attempt: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def __str__(self) -> str:
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on host {self.host}{job}" if self.pid else "its file names none"

    def is_dead(self, here: Holder) -> bool:
        """Whether the process `here` can know that this one has ended."""
        if self.job and self.job == here.job and self.attempt != here.attempt:
            return True  # Slurm ends a job before it starts it again, maybe on another machine
        if not self.pid or self.host != here.host or self.machine != here.machine:
            return False
        if self.boot != here.boot:
            return bool(self.machine and self.boot and here.boot)  # the machine was started again since
        return self.namespace == here.namespace and _began(self.pid) != self.started


def this_process() -> Holder:
    """The record of this process, with a new token."""
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return Holder(
        pid=os.getpid(),
        host=platform.node(),
        machine=_text("/etc/machine-id"),
        boot=_text("/proc/sys/kernel/random/boot_id"),
        namespace=namespace,
        started=_began(os.getpid()) or "",
        job=os.environ.get("SLURM_JOB_ID", ""),
        attempt=os.environ.get("SLURM_RESTART_COUNT", "0"),
    )


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock.

    Args:
        path: the lock's file.
        what: what is locked, for the error.

    Raises:
        LockedError: another process holds it; it is named.
    """
    mine = this_process()
    for _ in range(_TRIES):
        if _create(path, mine):
            break
        check_free(path, what)
    else:
        raise LockedError(f"{what} is asked for by several runs at once", hint="run the same command again")
    try:
        yield
    finally:
        if _read(path) == mine:  # another one's, where somebody removed ours by hand
            path.unlink(missing_ok=True)


def check_free(path: Path, what: str) -> None:
    """Check that nobody holds a lock; one whose holder is dead is removed.

    Raises:
        LockedError: somebody does.
    """
    here, found = this_process(), _read(path)
    if found is not None and found.is_dead(here):
        _remove(path, found)
        found = _read(path)
    if found is not None and not found.is_dead(here):
        raise LockedError(
            f"{what} is being written by another run ({found})",
            hint=f"wait for it, or, if that process is gone, remove {path}",
        )


def sweep(path: Path) -> None:
    """Remove a dead holder's lock, if there is one and this process may: nobody asks for it where all is done."""
    with contextlib.suppress(OSError):
        found = _read(path)
        if found is not None and found.is_dead(this_process()):
            _remove(path, found)


def is_free(path: Path) -> bool:
    """Whether no living process is known to hold a lock; nothing is removed."""
    found = _read(path)
    return found is None or found.is_dead(this_process())


def _create(path: Path, mine: Holder) -> bool:
    """Whether the lock is now ours."""
    written = path.with_name(f"{path.name}.{mine.token}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with open(os.open(written, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(mine), file)
        try:
            os.link(written, path)
        except (FileExistsError, FileNotFoundError):  # held, or its holder has just swept ours away
            return False
        except OSError:  # no hard links on this file system: a kill between these two steps leaves a nameless lock
            try:
                os.close(os.open(path, flags, 0o600))
            except FileExistsError:
                return False
            os.replace(written, path)
    finally:
        written.unlink(missing_ok=True)
    for left in path.parent.glob(f"{path.name}.*"):  # by who was killed here; who lives asks again
        left.unlink(missing_ok=True)
    return True


def _read(path: Path) -> Holder | None:
    """Who holds a lock; None: it is free. Of what is no record the holder is unknown."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return Holder(pid=0, host="", token="")


def _remove(path: Path, dead: Holder) -> None:
    """Remove a dead holder's lock, unless another process has done so and somebody holds it anew.

    Between the look and the removal nobody else may remove: the folder's flock says so to the processes of this
    machine, which alone (but for the holder's own requeued job) can know that the holder is dead.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # NFS locks no folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        if _read(path) == dead:
            path.unlink(missing_ok=True)
    finally:
        os.close(folder)


def _began(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; "" where the system does not tell, None: it has ended."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if words[0] in "ZX" else words[19]  # a zombie has ended; proc(5), fields 3 and 22
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
