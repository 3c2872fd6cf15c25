"""Signals that ask a run to save and leave. Slurm sends USR1 (or TERM) before it ends a job."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fusionctl.errors import Interrupted

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopFlag:
    """Whether a signal has asked to save and leave, and which."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def set(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal: only note it. Saving inside a handler would meet a half-updated model."""
        self.signal = number


class _Stop(BaseException):
    """A signal came. No `except Exception` on the way up may swallow it."""


@contextmanager
def stop_on_signal() -> Iterator[StopFlag]:
    """Turn SIGTERM and SIGUSR1 into a flag for as long as the context lasts.

    Outside the main thread, where Python allows no handlers, the flag is never set.
    """
    flag = StopFlag()
    with _handled_by(flag.set):
        yield flag


@contextmanager
def leave_on_signal(message: str, *, hint: str) -> Iterator[None]:
    """Leave what is inside at once when SIGTERM or SIGUSR1 comes, as Ctrl-C does; a second signal changes nothing.

    Where training saves first, `stop_on_signal` takes over for that time.

    Raises:
        Interrupted: with the message and hint.
    """
    flag = StopFlag()

    def leave(number: int, frame: FrameType | None) -> None:
        if not flag:
            flag.set(number)
            raise _Stop

    with _handled_by(leave):
        try:
            yield
        except _Stop as stop:
            raise Interrupted(message, hint=hint) from stop


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
