"""Files that a kill or a power cut leaves whole: written beside their name, forced to disk, renamed."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(written: Path, final: Path) -> None:
    """Give what has been written its final name in the same folder: at every moment there is the old or the new.

    The content of a folder must have been forced to disk before.
    """
    sync(written)
    os.replace(written, final)
    sync(final.parent)
