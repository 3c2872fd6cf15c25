"""What a person sees: log lines and progress on standard error, tables and JSON on standard output."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

log = logging.getLogger("fusionctl")

# Off a terminal (a Slurm log) a progress line is written at most this often.
SECONDS_BETWEEN_LINES = 15.0


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
        return f"{text}, {rate:,.0f}/s{left}"


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
    Console(width=width, markup=False, highlight=False).print(table)


def print_json(content: Any) -> None:
    """Print JSON to standard output."""
    sys.stdout.write(json.dumps(content, indent=1, sort_keys=True) + "\n")
