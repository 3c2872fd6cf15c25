import sys

import film_files
import numpy as np
import pytest

from fusionctl.data import dicom, images
from fusionctl.data.images import FilmFormat, FilmReader
from fusionctl.data.jpeg import UnreadableFilm
from fusionctl.errors import InputError

PATH = "files/p1/p1/s0/a.dcm"
VALUES = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


def write(root, values=VALUES, **changes):
    return film_files.write_dicom(root, PATH, values, **changes)


def test_without_a_window_the_range_becomes_black_to_white(tmp_path):
    film = dicom.read(write(tmp_path))
    expected = np.rint(VALUES / VALUES.max() * 255)
    assert film.dtype == np.uint8 and np.abs(film - expected).max() <= 1
    assert (film.min(), film.max()) == (0, 255)


def test_monochrome1_is_inverted(tmp_path):
    plain = dicom.read(write(tmp_path))
    inverted = dicom.read(write(tmp_path, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(inverted, 255 - plain)


def test_the_first_of_several_windows_counts_after_the_rescale(tmp_path):
    signed = VALUES.astype(np.int16) - 1000
    window = {"WindowCenter": [2000, 0], "WindowWidth": [1001, 1]}
    film = dicom.read(write(tmp_path, signed, RescaleSlope=2, RescaleIntercept=10, **window))
    units = signed.astype(float) * 2 + 10
    # C.11.2.1.2: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
    expected = np.clip(((units - 1999.5) / 1000 + 0.5) * 255, 0, 255)
    assert np.abs(film - expected).max() <= 0.51
    assert 0 < (film == 0).mean() < 1 and 0 < (film == 255).mean() < 1


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        ("LINEAR", [-0.5, 0.0, 1.0, 127.5, 255.0, 300.0], [0, 0, 1, 128, 255, 255]),
        ("LINEAR_EXACT", [0.0, 64.0, 128.0, 256.0], [0, 64, 128, 255]),
        ("SIGMOID", [-5000.0, 128.0, 5000.0], [0, 128, 255]),
    ],
)
def test_window_functions(function, values, expected):
    found = dicom.to_grey(np.array(values, np.float32), centre=128.0, width=256.0, function=function)
    np.testing.assert_array_equal(found, expected)


def test_a_window_of_one_is_a_threshold_and_a_constant_film_is_black():
    values = np.array([3.0, 4.0, 5.0], np.float32)
    np.testing.assert_array_equal(dicom.to_grey(values, centre=4.5, width=1.0), [0, 0, 255])
    np.testing.assert_array_equal(dicom.to_grey(values[:1], centre=None, width=None), [0])


def test_an_empty_window_is_no_window(tmp_path):
    film = dicom.read(write(tmp_path, WindowCenter=[], WindowWidth=[]))
    np.testing.assert_array_equal(film, dicom.read(write(tmp_path)))
    np.testing.assert_array_equal(dicom.read(write(tmp_path, WindowCenter=5, WindowWidth=0)), film)


def test_read_where_the_jpeg_is_not_there(tmp_path):
    grey, jpeg = film_files.picture(300, 280), PATH.replace(".dcm", ".jpg")
    write(tmp_path, grey, WindowCenter=128, WindowWidth=256)  # leaves the 256 levels as they are
    reader = FilmReader(tmp_path, FilmFormat(size=64, fit="squeeze", clahe=True, backend="opencv"))
    films, unreadable = reader.read_block([jpeg])
    assert unreadable == {} and reader.n_dicom == 1
    small, expected = np.empty((2, 64, 64), np.uint8)
    images.fit_film(grey, small, sides=(64, 64), fit="squeeze")
    images.equaliser("opencv", size=64)(small, expected)
    np.testing.assert_array_equal(films[0], expected)
    film_files.write(tmp_path, jpeg, b"")
    assert reader.read_block([jpeg])[1] == {0: "is empty; rule: JPEG files"}, "a JPEG that is there is the film"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"PhotometricInterpretation": "RGB"}, "has photometric interpretation RGB; rule: MONOCHROME1 or MONOCHROME2"),
        ({"NumberOfFrames": 3}, "has 3 frames; rule: one picture a file"),
        ({"PixelData": None}, "has no pixels"),
        ({"Rows": 60000, "Columns": 60000}, "has 60000 x 60000 pixels; rule: at most 100 million"),
        ({"PixelData": b"\0\0"}, "is truncated or damaged: its pixels cannot be decoded"),
        ({"BitsStored": None}, "is truncated or damaged: its pixels cannot be decoded"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, changes, rule):
    path = write(tmp_path, **changes)
    with pytest.raises(UnreadableFilm) as caught:
        dicom.read(path)
    assert caught.value.message.startswith(rule)


def test_files_that_are_cut_short_or_something_else(tmp_path):
    path = write(tmp_path)
    whole = path.read_bytes()
    for data, rule in [
        (whole[: len(whole) // 2], "is truncated"),
        (b"hello" * 100, "is not a DICOM file"),
        (b"", "is"),
    ]:
        path.write_bytes(data)
        with pytest.raises(UnreadableFilm, match=rule):
            dicom.read(path)


def test_without_pydicom_the_run_ends_and_says_what_to_install(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    form = FilmFormat(size=64, fit="squeeze", clahe=False, backend="opencv")
    with pytest.raises(InputError, match="pydicom is not installed") as caught:
        FilmReader(tmp_path, form).read_block([PATH.replace(".dcm", ".jpg")])
    assert not isinstance(caught.value, UnreadableFilm)
    assert caught.value.hint == "pip install 'fusionctl[dicom]'"


def test_without_a_decoder_for_the_compression_the_run_ends(tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    path = write(tmp_path)
    meta = pydicom.dcmread(path)
    meta.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    meta.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + b"\0" * 40])
    meta["PixelData"].VR = "OB"
    meta["PixelData"].is_undefined_length = True
    meta.save_as(path, enforce_file_format=True)
    no_decoder = type("Decoder", (), {"is_available": False})()
    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda syntax: no_decoder)
    with pytest.raises(InputError, match="compressed as JPEG 2000 .*no decoder for that is installed") as caught:
        dicom.read(path)
    assert not isinstance(caught.value, UnreadableFilm) and "pylibjpeg-openjpeg" in caught.value.hint
