"""Film files for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth grey picture with a bright square in its upper left quarter."""
    rng = np.random.default_rng(seed)
    grey = cv2.resize(rng.integers(40, 160, (6, 6)).astype(np.uint8), (width, height))
    grey[height // 8 : height // 4, width // 8 : width // 4] = 250
    return grey


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    """The picture as JPEG."""
    return cv2.imencode(".jpg", picture(height, width, seed), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def write(root: Path, path: str, data: bytes) -> str:
    """Put a file into a film folder."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    return path


def write_dicom(root: Path, name: str, values: np.ndarray, **changes: Any) -> Path:
    """A DICOM film of the given stored values; a change of None removes the element."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    bits = values.dtype.itemsize * 8
    elements = {
        "PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1, "Rows": values.shape[0],
        "Columns": values.shape[1], "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"), "PixelData": values.tobytes(),
    }  # fmt: skip
    for keyword, value in (elements | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    if bits == 16 and "PixelData" in dataset:
        dataset["PixelData"].VR = "OW"
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(root / name, enforce_file_format=True)
    return root / name
