"""A `fusionctl` command in a process of its own, which a test can kill, starve of disk space, or listen to.

Processes are forked from a server that has imported everything and done nothing, so one starts in milliseconds. What
goes wrong is brought about by the interpreter's audit events (PEP 578): the test says at which of a process's own
steps (opening a file, renaming one, ...) something happens, and so needs neither luck nor waiting.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEAVY = ("torch", "torchvision", "polars", "pyarrow.parquet", "sklearn.linear_model", "matplotlib.figure", "joblib")
STAGES = ("extract", "films", "preprocess", "pretrain_ehr", "pretrain_cxr", "fuse", "evaluate", "robustness", "report")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([*HEAVY, "fusionctl.cli", *(f"fusionctl.stages.{name}" for name in STAGES), __name__])


@dataclass(frozen=True)
class Fault:
    """What happens to a process, and when.

    Attributes:
        at: pattern (searched for) of the path of the file whose opening, renaming or making brings it about.
        below: only files below this folder count.
        after: how many such steps pass before.
        event: kind of the step: "write" (opened to write), "read", "rename" (to that name), "os.mkdir", ...; "": any.
        do: "kill", "stop" (SIGSTOP), "TERM", "USR1", "full" (the disk has no room: this step fails, and all later ones
            that open or make something), "refuse" (this and all later such steps are not permitted), "run".
        code: Python statements that "run" executes.
        file_size: no file may grow beyond so many bytes; None: any size.
    """

    at: str = ""
    below: str = ""
    after: int = 0
    event: str = ""
    do: str = ""
    code: str = ""
    file_size: int | None = None


@dataclass
class Done:
    """How a command ended.

    Attributes:
        code: exit code, negative for a signal.
        out, err: what it printed.
        steps: paths that it opened to write, renamed to, linked or made, and addresses that it reached for, in order.
    """

    code: int
    out: str
    err: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.out + self.err


class Running:
    """A command that is running."""

    def __init__(self, folder: Path, arguments: list[str], fault: Fault, heard: Callable[[Done], None]) -> None:
        folder.mkdir(parents=True)
        for name in ("out", "err", "steps"):
            (folder / name).touch()
        self._folder, self._heard = folder, heard
        self.process = _context.Process(target=_main, args=(folder, arguments, fault), daemon=False)
        self.process.start()

    @property
    def pid(self) -> int:
        return int(self.process.pid or 0)

    def is_stopped(self) -> bool:
        """Whether it has met a fault "stop"."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        """Let it go on after that."""
        until(self.is_stopped)
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, seconds: float = 60) -> Done:
        """Its end.

        Raises:
            TimeoutError: it hangs; it is killed.
        """
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(f"still running after {seconds} s: {(self._folder / 'err').read_text()}")
        steps = [json.loads(line) for line in (self._folder / "steps").read_text().splitlines()]
        code = self.process.exitcode
        done = Done(code, *((self._folder / name).read_text() for name in ("out", "err")), steps)
        self._heard(done)
        return done


def until(happened: Callable[[], Any], seconds: float = 30) -> Any:
    """Look again and again until it has happened."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := happened():
            return result
        time.sleep(0.002)
    raise TimeoutError("it has not happened")


def _main(folder: Path, arguments: list[str], fault: Fault) -> None:
    gc.freeze()  # what the server has imported is not looked at again, so its memory stays shared
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    os.umask(0)  # whoever starts fusionctl may have any
    steps = os.open(folder / "steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if fault.file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_size, resource.RLIM_INFINITY))
    sys.addaudithook(_Hook(fault, steps))
    import torch

    torch.set_num_threads(1)
    from fusionctl.cli import app

    sys.argv = ["fusionctl", *arguments]
    try:
        app(arguments, standalone_mode=True)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()


class _Hook:
    """Notes the steps of a process, and brings about its fault."""

    def __init__(self, fault: Fault, steps: int) -> None:
        self.fault, self.steps, self.left, self.met = fault, steps, fault.after, False
        self.local = threading.local()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if getattr(self.local, "busy", False):
            return
        self.local.busy = True
        try:
            for kind, place in _steps(event, arguments):
                if kind != "read":
                    os.write(self.steps, (json.dumps([kind, place]) + "\n").encode())
                if kind == "network":
                    raise PermissionError(13, "no network in any stage", place)
                self._meet(kind, place)
        finally:
            self.local.busy = False

    def _meet(self, kind: str, place: str) -> None:
        fault = self.fault
        if not fault.do or not place.startswith(fault.below):
            return
        if self.met and fault.do == "full" and kind in ("write", "os.mkdir"):
            raise OSError(28, "No space left on device", place)
        if fault.event not in ("", kind) or (kind == "read" != fault.event) or not re.search(fault.at, place):
            return
        self.left -= 1
        if self.left >= 0 or (self.met and fault.do != "refuse"):
            return
        self.met = True
        if fault.do == "full":
            raise OSError(28, "No space left on device", place)
        if fault.do == "refuse":
            raise PermissionError(13, "Permission denied", place)
        if fault.do == "run":
            exec(fault.code)
        else:
            os.kill(os.getpid(), SIGNALS[fault.do])


SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "TERM": signal.SIGTERM, "USR1": signal.SIGUSR1}


def _steps(event: str, arguments: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, (str, bytes, os.PathLike)):
            yield "write" if flags & WRITING else "read", _absolute(path)
    elif event in ("os.rename", "os.link"):
        yield "rename", _absolute(arguments[1])
    elif event in ("os.mkdir", "os.remove"):
        yield event, _absolute(arguments[0])
    elif event in ("socket.connect", "socket.sendto", "socket.bind"):
        yield "network", str(arguments[1])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        yield "network", str(arguments[0])


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))
