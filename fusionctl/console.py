"""What a person sees: log lines and progress on standard error, tables and JSON on standard output."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from fusionctl.errors import FusionctlError

log = logging.getLogger("fusionctl")

# Off a terminal (a Slurm log) a progress line is written at most this often.
SECONDS_BETWEEN_LINES = 15.0


def open_streams() -> None:
    """Give the null device to what is closed of the standard streams, and let both outputs take any text."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # or the next file that is opened would be the output
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - open for as long as the program runs
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)  # a path may have any letters


def configure_logging(*, quiet: bool, verbose: bool) -> None:
    """Send log lines to standard error: warnings only, one line a step, or details."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)


class Progress:
    """Progress of one step at a time: a bar on a terminal, plain lines with rate and time left elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._label = ""
        self._started = self._shown = 0.0

    def __call__(self, label: str, done: int, total: int | None) -> None:
        """Say that `done` of `total` units of `label` are done (`total` None: not known)."""
        now = time.monotonic()
        if label != self._label:
            self._label, self._started, self._shown = label, now, now
        last = total is not None and done >= total
        pause = 0.1 if self._terminal else SECONDS_BETWEEN_LINES
        if self._quiet or (now - self._shown < pause and not (last and self._terminal)):
            return
        self._shown = now
        text = self._text(done, total, now - self._started)
        if self._terminal:
            sys.stderr.write(f"\r\x1b[2K{text}" + ("\n" if last else ""))
            sys.stderr.flush()
        else:
            log.info("%s", text)

    def _text(self, done: int, total: int | None, seconds: float) -> str:
        rate = done / seconds if seconds > 0 else 0.0
        text = f"{self._label}: {done:,}" + (f" of {total:,} ({done / total:.0%})" if total else "")
        left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
        pace = f"{rate:,.0f}/s" if rate >= 1 or not rate else f"{1 / rate:.1f} s each"
        return f"{text}, {pace}{left}"


@contextmanager
def _output() -> Iterator[TextIO]:
    """Standard output, written to at once.

    Raises:
        FusionctlError: it cannot be written to.
    """
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:  # who read it has gone: no failure
        raise
    except OSError as error:
        drop_output()
        hint = "what was made is kept; send the output to where there is room"
        raise FusionctlError(f"standard output: {error.strerror}", hint=hint) from error


def drop_output() -> None:
    """Write nothing more to standard output, which fails: nor does the interpreter at its end."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open for as long as the program runs


def write(text: str) -> None:
    """Write to standard output.

    Raises:
        FusionctlError: it cannot be written to, as on a full disk.
    """
    with _output() as out:
        out.write(text)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table to standard output; off a terminal it is as wide as it needs to be, so no cell is cut."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for i, name in enumerate(header):
        cells = [str(row[i]) for row in rows]
        is_text = i == 0 or not any(character.isdigit() for cell in cells for character in cell[:1])
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*[str(cell) for cell in row])
    width = None if sys.stdout.isatty() else 240
    with _output() as out:
        Console(file=out, width=width, markup=False, highlight=False).print(table)


def print_json(content: Any) -> None:
    """Print JSON to standard output."""
    write(json.dumps(content, indent=1, sort_keys=True) + "\n")
