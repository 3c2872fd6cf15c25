"""A .npy file of known shape that is filled block by block at fixed places, by several processes or machines at once.

Everything here can be done twice, or by two at the same moment, with the same result. The header takes a whole page,
so that blocks of whole pages never share one: machines that write through NFS write pages.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PAGE = 4096
# what file systems without reserved space answer; others write what they are given, or fail then
_NOT_OFFERED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def create(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Make the file with its full size, or leave it as it is when it has that already.

    Raises:
        OSError: the disk has no room for all of it; what was there before is kept.
    """
    header = _header(shape, np.dtype(dtype))
    size = len(header) + math.prod(shape) * np.dtype(dtype).itemsize
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        if before != size:
            try:
                _allocate(descriptor, size)
            except OSError as error:
                os.ftruncate(descriptor, before)
                raise OSError(error.errno, error.strerror, str(path)) from error
        os.pwrite(descriptor, header, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_rows(path: Path, first_row: int, rows: npt.NDArray[Any]) -> None:
    """Write rows at their place in the file. They are on disk after the next `fdatasync`, or on NFS at once.

    Args:
        path: from `create`.
        first_row: place of the first of them.
        rows: (n, *row_shape), of the file's dtype.
    """
    data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
    position = PAGE + first_row * rows[:1].nbytes
    # opened for writing only: a client of NFS that may also read can extend a write to data of its neighbours
    descriptor = os.open(path, os.O_WRONLY)
    try:
        while data:
            written = os.pwrite(descriptor, data, position)
            data, position = data[written:], position + written
    finally:
        os.close(descriptor)


def missing_bytes(path: Path, size: int) -> int:
    """How much of a file of `size` bytes the disk still has to find room for."""
    try:
        return max(0, size - os.stat(path).st_blocks * 512)
    except FileNotFoundError:
        return size


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Version 1.0 of numpy's format: magic, version, length, and a dict padded with blanks."""
    content = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}).encode()
    start = np.lib.format.magic(1, 0) + (PAGE - 10).to_bytes(2, "little")
    return start + content.ljust(PAGE - len(start) - 1) + b"\n"


def _allocate(descriptor: int, size: int) -> None:
    """Reserve space for the whole file, so that a disk without room says so now and not after an hour.

    `os.posix_fallocate` is not used: where the file system cannot reserve, the C library writes a zero into every
    page instead, and would wipe out what another machine is writing at that moment.
    """
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is not None and _succeeds(fallocate, descriptor, size):
        return
    os.ftruncate(descriptor, size)


def _succeeds(fallocate: Any, descriptor: int, size: int) -> bool:
    """Whether space was reserved; False where that is not offered."""
    while fallocate(descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size)) != 0:
        code = ctypes.get_errno()
        if code in _NOT_OFFERED:
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return os.fstat(descriptor).st_size == size
