"""Writing a .npy file block by block, its length known only at the end.

Appending keeps memory bounded (the pages of a memory map count as the process's own) and needs no first pass that
only counts. Reading is plain `np.load(path, mmap_mode="r")`.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt


class NpyAppender:
    """A .npy file that grows along its first axis. Use as a context manager; the file is complete on leaving it.

    Args:
        path: file to write.
        row_shape: shape of one row.
        dtype: type of the elements.

    Attributes:
        rows: number of rows written so far.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.rows = 0
        self._row_shape, self._dtype = row_shape, np.dtype(dtype)
        self._file = path.open("wb")
        self._write_header()

    def append(self, block: npt.NDArray[Any]) -> None:
        """Write rows at the end.

        Args:
            block: (n, *row_shape), of exactly the file's dtype.
        """
        if block.shape[1:] != self._row_shape or block.dtype != self._dtype:
            raise ValueError(f"block of {block.shape[1:]} {block.dtype}, file of {self._row_shape} {self._dtype}")
        self._file.write(np.ascontiguousarray(block).data)
        self.rows += len(block)

    def __enter__(self) -> NpyAppender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._file.seek(0)
            self._write_header()
        finally:
            self._file.close()

    def _write_header(self) -> None:
        # numpy pads the header so that a first axis of any length fits the same bytes
        shape = (self.rows, *self._row_shape)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
