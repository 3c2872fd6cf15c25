"""DICOM films to 8-bit grey. Needs pydicom, which is optional: it is imported when the first DICOM file is read.

The pixels are not those of MIMIC-CXR-JPG, whose owners equalised the histogram of every film before they stored it
(Johnson et al. 2019): do not mix the two in one data set.
"""

from __future__ import annotations

import importlib
import io
import logging
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionctl.data.jpeg import Film, UnreadableFilm, check_sides, read_file
from fusionctl.errors import InputError

# What pydicom and its decoders raise for files that are cut short or contradict themselves; and its own error of that
# kind, which is none of these.
_DAMAGE = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def read(path: Path) -> Film:
    """Read a DICOM film as (height, width) grey levels, black at 0.

    Stored values are rescaled to the modality's units, then the window that the file names (the first of several), or
    else the range from the smallest to the largest value, becomes 0 to 255. MONOCHROME1 (small is white) is inverted.

    Raises:
        UnreadableFilm: not a DICOM file, not one grey picture, too large, or damaged.
        InputError: pydicom, or its decoder for this kind of compression, is not installed.
    """
    pydicom = _pydicom()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the file, which may name a patient
        try:
            return _read(pydicom, path)
        except pydicom.errors.InvalidDicomError as error:
            raise UnreadableFilm("is not a DICOM file; rule: intact DICOM files") from error
        except OSError as error:
            raise UnreadableFilm(f"cannot be read: {error.strerror or error}") from error
        except (*_DAMAGE, struct.error, pydicom.errors.BytesLengthException) as error:
            raise UnreadableFilm("is truncated or damaged; rule: intact DICOM files") from error


def _read(pydicom: Any, path: Path) -> Film:
    dataset = pydicom.dcmread(io.BytesIO(read_file(path)))
    kind = str(dataset.get("PhotometricInterpretation", "missing"))
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnreadableFilm(
            f"has photometric interpretation {ascii(kind[:20])[1:-1]}; rule: MONOCHROME1 or MONOCHROME2"
        )
    film = to_grey(_modality_values(_pixels(pydicom, dataset), dataset), **_window(dataset))
    return np.asarray(255 - film, dtype=np.uint8) if kind == "MONOCHROME1" else film


def version() -> str:
    """Name and version of the library that reads DICOM."""
    return f"pydicom {importlib.import_module('pydicom').__version__}"


def to_grey(
    values: npt.NDArray[np.float32], *, centre: float | None, width: float | None, function: str = "LINEAR"
) -> Film:
    """Map values to 0..255 (DICOM PS3.3, section C.11.2.1: VOI LUT functions).

    Args:
        values: any shape, in the units of the window.
        centre, width: the window, or None: from the smallest to the largest value.
        function: LINEAR, LINEAR_EXACT or SIGMOID.
    """
    if centre is None or width is None:
        low, span = float(values.min()), float(values.max()) - float(values.min())
    elif function == "SIGMOID":
        with np.errstate(over="ignore"):
            return _round(255 / (1 + np.exp(-4 * (values - centre) / width)))
    elif function == "LINEAR_EXACT":
        low, span = centre - width / 2, width
    else:
        low, span = centre - 0.5 - (width - 1) / 2, width - 1
    if span <= 0:  # a window of width 1 is a threshold; values that are all the same are black
        return _round(np.where(values > low, np.float32(255), np.float32(0)))
    return _round((values - np.float32(low)) * np.float32(255 / span))


def _round(values: npt.NDArray[Any]) -> Film:
    return np.asarray(np.rint(np.clip(values, 0, 255)), dtype=np.uint8)


def _pydicom() -> Any:
    try:
        pydicom = importlib.import_module("pydicom")
        importlib.import_module("pydicom.pixels")
    except ImportError as error:  # true of every such film, so it ends the run
        raise InputError(
            "a film is a DICOM file (.dcm), and pydicom is not installed", hint="pip install 'fusionctl[dicom]'"
        ) from error
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # its warnings quote files
    return pydicom


def _pixels(pydicom: Any, dataset: Any) -> npt.NDArray[Any]:
    """The stored values, (height, width)."""
    if "PixelData" not in dataset:
        raise UnreadableFilm("has no pixels; rule: intact DICOM files")
    if int(dataset.get("NumberOfFrames", 1) or 1) != 1:
        raise UnreadableFilm(f"has {dataset.NumberOfFrames} frames; rule: one picture a file")
    check_sides(int(dataset.get("Columns", 0) or 0), int(dataset.get("Rows", 0) or 0))
    _check_decoder(pydicom, dataset)
    try:
        pixels = np.asarray(dataset.pixel_array)
    except (*_DAMAGE, struct.error) as error:
        raise UnreadableFilm("is truncated or damaged: its pixels cannot be decoded; rule: intact files") from error
    if pixels.ndim != 2 or not pixels.size:
        raise UnreadableFilm(f"holds an array of shape {pixels.shape}; rule: one grey picture a file")
    return pixels


def _check_decoder(pydicom: Any, dataset: Any) -> None:
    """A decoder that is not installed fails for every film alike, so it ends the run."""
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        raise UnreadableFilm("names no transfer syntax; rule: intact DICOM files")
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        missing = not pydicom.pixels.get_decoder(syntax).is_available
    except NotImplementedError as error:
        raise UnreadableFilm(f"is compressed as {syntax.name}; rule: pictures that pydicom can decode") from error
    if missing:
        raise InputError(
            f"a DICOM film is compressed as {syntax.name}, and no decoder for that is installed",
            hint="pip install pylibjpeg pylibjpeg-openjpeg (JPEG 2000), pylibjpeg-libjpeg (other JPEG)",
        )


def _modality_values(pixels: npt.NDArray[Any], dataset: Any) -> npt.NDArray[np.float32]:
    slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
    values = pixels.astype(np.float32)
    if slope is not None:
        values *= np.float32(slope)
    if intercept is not None:
        values += np.float32(intercept)
    return values


def _window(dataset: Any) -> dict[str, Any]:
    centre, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if width is not None and width <= 0:  # not a window at all
        centre = width = None
    return {"centre": centre, "width": width, "function": str(dataset.get("VOILUTFunction", "") or "LINEAR")}


def _first(dataset: Any, name: str) -> float | None:
    """A number of the data set, the first one of several, or None where it is absent or empty."""
    value = dataset.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if value else None
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError) as error:
        raise UnreadableFilm(f"has a {name} that is no number; rule: intact DICOM files") from error
