"""One film file to a square of grey levels: decoded, fitted, its contrast equalised if wanted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Literal

import cv2
import numpy as np

from fusionctl.data import dicom, jpeg
from fusionctl.data.jpeg import Film, UnreadableFilm
from fusionctl.errors import UsageError

Fit = Literal["squeeze", "pad", "crop"]
Backend = Literal["opencv", "skimage"]
Equalise = Callable[[Film, Film], None]

CLAHE_CLIP, CLAHE_TILES = 2.0, 8  # paper's reference code
_BINS = 256


@dataclass(frozen=True, kw_only=True)
class FilmFormat:
    """What films are made into.

    Attributes:
        size: side of the square in pixels.
        fit: how it is filled. squeeze: both sides scaled to it (the paper's "resized to 256 x 256"); pad: the longer
            side scaled to it, the shorter one centred between black bars; crop: the middle square of the film (the
            reference code: shorter side to 256, centre crop).
        clahe: equalise contrast locally, after the film was fitted.
        backend: whose CLAHE; the two differ by tens of grey levels.
    """

    size: int
    fit: Fit
    clahe: bool
    backend: Backend

    def check(self) -> None:
        """Refuse a size that CLAHE's tiles do not divide.

        Raises:
            UsageError: naming the option.
        """
        if self.clahe and self.size % CLAHE_TILES:
            raise UsageError(f"--film-size must be a multiple of {CLAHE_TILES} with --clahe; got {self.size}")


class FilmReader:
    """Reads films in one format. Not for use by two threads at once: CLAHE keeps buffers.

    Args:
        root: folder of MIMIC-CXR-JPG, or of MIMIC-CXR.
        form: format of the result.

    Attributes:
        n_dicom: films read so far that were DICOM files.
    """

    def __init__(self, root: Path, form: FilmFormat) -> None:
        self.n_dicom = 0
        self._root, self._form = root, form
        self._equalise = equaliser(form.backend, size=form.size) if form.clahe else None
        self._fitted = np.empty((form.size, form.size), np.uint8)

    def read(self, path: str, out: Film) -> None:
        """Read one film.

        Args:
            path: relative to the root, as JPEG. Where there is none, the file of that name with `.dcm` is read.
            out: (size, size), overwritten; of undefined content after an error.

        Raises:
            UnreadableFilm: with the rule that the file breaks.
            InputError: it is a DICOM file, and what reads it is not installed.
        """
        fitted = out if self._equalise is None else self._fitted
        film, sides = self._decode(path)
        fit_film(film, fitted, sides=sides, fit=self._form.fit)
        if self._equalise is not None:
            self._equalise(fitted, out)

    def read_block(self, paths: Sequence[str]) -> tuple[Film, dict[int, str]]:
        """Read films into the rows of one array.

        Returns:
            (n, size, size) and, by row, why a film could not be read; such a row is black.
        """
        films, unreadable = np.zeros((len(paths), self._form.size, self._form.size), np.uint8), {}
        for row, path in enumerate(paths):
            try:
                self.read(path, films[row])
            except UnreadableFilm as error:
                films[row] = 0
                unreadable[row] = error.message
        return films, unreadable

    def _decode(self, path: str) -> tuple[Film, tuple[int, int]]:
        """The picture, not smaller than needed where it can be, and the width and height to scale it to."""
        relative = PurePosixPath(path)
        if relative.is_absolute() or ".." in relative.parts:
            raise UnreadableFilm("leaves the film folder; rule: paths stay inside --cxr-root")
        file = self._root / relative
        try:
            data = jpeg.read_file(file)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and file.with_suffix(".dcm").exists():
                return self._decode_dicom(file.with_suffix(".dcm"))
            raise UnreadableFilm(f"cannot be read: {error.strerror}") from error
        header = jpeg.read_header(data)
        width, height = target_sides(header.width, header.height, size=self._form.size, fit=self._form.fit)
        return jpeg.decode(data, header, width=width, height=height), (width, height)

    def _decode_dicom(self, file: Path) -> tuple[Film, tuple[int, int]]:
        film = dicom.read(file)
        self.n_dicom += 1
        return film, target_sides(film.shape[1], film.shape[0], size=self._form.size, fit=self._form.fit)


def read_film(root: Path, path: str, *, size: int, fit: Fit, clahe: bool, backend: Backend) -> Film:
    """Read one film as (size, size) grey levels.

    Args:
        root: folder of MIMIC-CXR-JPG.
        path: the film, relative to `root`.
        size, fit, clahe, backend: see `FilmFormat`.

    Raises:
        UnreadableFilm: with the rule that the file breaks.
        UsageError: `size` does not fit CLAHE's tiles.
    """
    form = FilmFormat(size=size, fit=fit, clahe=clahe, backend=backend)
    form.check()
    film = np.empty((size, size), np.uint8)
    FilmReader(root, form).read(path, film)
    return film


def target_sides(width: int, height: int, *, size: int, fit: Fit) -> tuple[int, int]:
    """Width and height to which a film, or its middle square, is scaled."""
    if fit != "pad":
        return size, size
    longer = max(width, height)
    return max(1, round(width * size / longer)), max(1, round(height * size / longer))


def fit_film(film: Film, out: Film, *, sides: tuple[int, int], fit: Fit) -> None:
    """Scale a picture into a square: by area average where it shrinks, linearly where it grows.

    Args:
        film: (height, width).
        out: (size, size), overwritten.
        sides: width and height to scale to, from `target_sides`.
        fit: see `FilmFormat`.
    """
    if fit == "crop":  # before scaling: a film of 2000 x 1 must not become one of 512,000 x 256
        side = min(film.shape)
        top, left = (film.shape[0] - side) // 2, (film.shape[1] - side) // 2
        film = film[top : top + side, left : left + side]
    width, height = sides
    if fit == "pad":
        top, left = (out.shape[0] - height) // 2, (out.shape[1] - width) // 2
        out.fill(0)
        out = out[top : top + height, left : left + width]
    shrunk = (min(width, film.shape[1]), min(height, film.shape[0]))
    if shrunk == (width, height):
        cv2.resize(film, shrunk, dst=out, interpolation=cv2.INTER_AREA)
    else:  # OpenCV's area average does not smooth at all if one side grows, so each side is scaled by itself
        film = np.asarray(cv2.resize(film, shrunk, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        cv2.resize(film, sides, dst=out, interpolation=cv2.INTER_LINEAR)


def equaliser(backend: Backend, *, size: int) -> Equalise:
    """Contrast-limited adaptive histogram equalisation in 8 x 8 tiles: a function of input and output array.

    OpenCV states the clip limit as a multiple of the mean count of a tile's 256 bins, scikit-image as a share of the
    tile's pixels; 2.0 of the one is 2.0 / 256 of the other. scikit-image also stretches every film from its darkest to
    its brightest pixel to the full range first, so low-contrast films come out tens of grey levels apart.
    """
    return _opencv_equaliser() if backend == "opencv" else _skimage_equaliser(size)


def _opencv_equaliser() -> Equalise:
    clahe = cv2.createCLAHE(CLAHE_CLIP, (CLAHE_TILES, CLAHE_TILES))

    def equalise(film: Film, out: Film) -> None:
        clahe.apply(film, out)

    return equalise


def _skimage_equaliser(size: int) -> Equalise:
    from skimage import exposure  # takes a second to import, and is seldom used

    kernel = (size // CLAHE_TILES, size // CLAHE_TILES)

    def equalise(film: Film, out: Film) -> None:
        levels = exposure.equalize_adapthist(film, kernel_size=kernel, clip_limit=CLAHE_CLIP / _BINS, nbins=_BINS)
        np.rint(levels * 255, out=out, casting="unsafe")

    return equalise


def decoder_version() -> str:
    """Name and version of what decodes JPEG: pixels may differ by a grey level between versions."""
    library = re.search(r"^\s*JPEG:\s*(.*\S)\s*$", cv2.getBuildInformation(), re.MULTILINE)
    return f"opencv {cv2.__version__}" + (f", {library[1]}" if library else "")


def backend_version(backend: Backend) -> str:
    """Name and version of what equalises contrast."""
    if backend == "opencv":
        return f"opencv {cv2.__version__}"
    return f"skimage {metadata.version('scikit-image')}"
