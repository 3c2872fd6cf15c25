"""Doing the next thing while the last one is used: an iterator in a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import TypeVar

_T = TypeVar("_T")
_ITEMS = 8
_SECONDS = 0.1  # between two looks whether anybody still waits for the items


def ahead(source: Iterator[_T]) -> Iterator[_T]:
    """The items of an iterator, in order, which runs in a thread of its own, a few items ahead.

    Worth it where the iterator spends its time outside the interpreter, as inflating does. Its exceptions come out
    here; closing the generator ends the thread.
    """
    ready: queue.Queue[_T | BaseException | None] = queue.Queue(_ITEMS)
    closed = threading.Event()

    def put(item: _T | BaseException | None) -> None:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=_SECONDS)
                return

    def run() -> None:
        try:
            for item in source:
                put(item)
                if closed.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=run, name="inflate", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()
