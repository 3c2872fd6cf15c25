"""Who is at work: a lock file that names its holder, and is freed where that holder is known to be dead.

The record is written beside the lock and linked to its name: that is exclusive, on NFS too (unlike flock), and no kill
leaves a lock that names nobody. Where there are no hard links a kill can; such an empty lock is freed after a while.
Only a process of the same machine, or a later attempt of the same Slurm job, can know that a holder is dead; any other
lock stays, and the error says which file to remove.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fusionctl.errors import LockedError

_TRIES = 20  # a lock that was freed between two looks is tried again
_EMPTY_SECONDS = 600.0  # it takes milliseconds to write into a new lock; clocks of machines may differ by minutes
_NOT_MAKERS = 0b11  # bits of an address's first byte, both 0 where the card's maker gave it: no other card has it
_CARDS = Path("/sys/class/net")


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock, told apart from any other that has, or had, its number.

    Attributes:
        pid: its number.
        host: name of its machine.
        machine, boot: ids of that machine and of its start ("" where the system tells none).
        namespace: which numbers of processes `pid` is one of: containers count for themselves.
        started: when the process began, in the kernel's count.
        card: address of a network card ("" where none is sure to be its own): machines of one image share the rest.
        job, attempt: number of its Slurm job, and how often that was requeued.
        token: unlike that of any other lock.
    """

    pid: int
    host: str
    machine: str = ""
    boot: str = ""
    namespace: str = ""
    started: str = ""
    card: str = ""
    job: str = ""
    attempt: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def __str__(self) -> str:
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on host {self.host}{job}" if self.pid else "its file names none"

    def is_dead(self, here: Holder) -> bool:
        """Whether the process `here` can know that this one has ended."""
        if self == _NEVER_WRITTEN:
            return True
        if self.job and self.job == here.job and self.attempt != here.attempt:
            return True  # Slurm ends a job before it starts it again, maybe on another machine
        if not self.pid or self.host != here.host or self.machine != here.machine:
            return False
        if self.boot != here.boot:
            same = self.machine and self.card and self.card == here.card  # and no other of the same image
            return bool(same and self.boot and here.boot)  # it was started again since
        return self.namespace == here.namespace and _began(self.pid) != self.started


_UNKNOWN = Holder(pid=0, host="", token="")
_NEVER_WRITTEN = Holder(pid=0, host="", token="never written")  # of a lock that has been empty for long


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
        card=_card(),
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
    try:
        _write(written, mine)
        try:
            os.link(written, path)
        except OSError as error:
            held = isinstance(error, (FileExistsError, FileNotFoundError))  # or its holder has just swept ours away
            # NFS asks again where an answer was lost, and is told that what it has just made exists.
            if _read(path) != mine and (held or not _create_without_links(path, mine)):
                return False
    finally:
        written.unlink(missing_ok=True)
    for left in path.parent.glob(f"{path.name}.*"):  # by who was killed here; who lives asks again
        left.unlink(missing_ok=True)
    return True


def _create_without_links(path: Path, mine: Holder) -> bool:
    """Make a lock and write into it, on a file system that cannot do both at once."""
    with _alone(path.parent):
        try:
            _write(path, mine)
        except FileExistsError:
            return False
        return _read(path) == mine  # else we slept so long that another machine took it for a dead one's


def _write(path: Path, mine: Holder) -> None:
    """Write a record into a new file; what cannot be written leaves none.

    Raises:
        FileExistsError: the file is there already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(mine), file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Holder | None:
    """Who holds a lock; None: it is free. Of what is no record the holder is unknown."""
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            return Holder(**json.load(file))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return _UNKNOWN if status.st_size or time.time() - status.st_mtime < _EMPTY_SECONDS else _NEVER_WRITTEN


def _remove(path: Path, dead: Holder) -> None:
    """Remove a dead holder's lock, unless another process has done so and somebody holds it anew.

    Between the look and the removal nobody else may remove, nor write into an empty lock: only processes of this
    machine (but for the holder's own requeued job) can know that the holder is dead.
    """
    with _alone(path.parent):
        if _read(path) == dead:
            path.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process of this machine at a time do what is inside; the kernel frees the folder of one that dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # NFS locks no folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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


def _card() -> str:
    """Address that its maker gave a network card of this machine; "" where there is none."""
    found = []
    for device in _CARDS.glob("*/device"):  # a real card, not one of a container or a bridge
        address, its_own = _text(device.with_name("address")), _text(device.with_name("addr_assign_type")) == "0"
        if its_own and len(address) == len("00:00:00:00:00:00") and not int(address[:2], 16) & _NOT_MAKERS:
            found.append(address)
    return min(found, default="")


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
