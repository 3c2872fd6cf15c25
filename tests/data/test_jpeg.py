import io
import os

import cv2
import film_files
import numpy as np
import pytest
from PIL import Image

from fusionctl.data import jpeg
from fusionctl.errors import InputError


def decode(data, width, height):
    return jpeg.decode(data, jpeg.read_header(data), width=width, height=height)


@pytest.mark.parametrize(
    ("side", "size", "decoded"),
    [(512, 64, 64), (511, 64, 64), (504, 64, 126), (256, 64, 64), (128, 64, 64), (127, 64, 64), (126, 64, 126)],
)
def test_decoded_at_the_smallest_scale_that_suffices(side, size, decoded):
    film = decode(film_files.jpeg(side, side), size, size)
    assert film.shape == (decoded, decoded)
    assert film.dtype == np.uint8


def test_both_sides_decide_the_scale():
    data = film_files.jpeg(1024, 130)
    assert decode(data, 64, 64).shape == (512, 65)
    assert decode(data, 8, 64).shape == (128, 17)
    assert decode(data, 8, 256).shape == (256, 33)
    assert decode(data, 2000, 2000).shape == (1024, 130), "there is no larger scale"


def test_a_reduced_decode_equals_the_full_one_averaged():
    data = film_files.jpeg(512, 512)
    full = cv2.resize(decode(data, 512, 512), (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(decode(data, 64, 64).astype(int) - full).mean() < 1.5


def test_orientation_tags_do_not_turn_a_film():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = film_files.jpeg(300, 280)
    tagged = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(tagged, np.uint8), cv2.IMREAD_GRAYSCALE).shape == (280, 300), "the tag works"
    np.testing.assert_array_equal(decode(tagged, 256, 256), decode(data, 256, 256))


@pytest.mark.parametrize(
    ("mode", "options"), [("RGB", {}), ("RGB", {"keep_rgb": True}), ("CMYK", {}), ("L", {"progressive": True})]
)
@pytest.mark.parametrize("size", [64, 256])
def test_colour_and_progressive_files_become_the_same_grey(mode, options, size):
    grey, file = film_files.picture(256, 256), io.BytesIO()
    Image.fromarray(grey).convert("RGB").convert(mode).save(file, "JPEG", quality=95, subsampling=0, **options)
    expected = decode(film_files.jpeg(256, 256), size, size)
    assert np.abs(decode(file.getvalue(), size, size).astype(int) - expected).mean() < 2


def test_one_pixel():
    assert decode(film_files.jpeg(1, 1), 64, 64).shape == (1, 1)


GOOD = film_files.jpeg(300, 280)
BAD = {
    "empty": (b"", "is empty"),
    "text": (b"<html>404 not found</html>", "is not a JPEG image"),
    "png": (b"\x89PNG\r\n\x1a\n" + b"0" * 50, "is not a JPEG image"),
    "truncated": (GOOD[: len(GOOD) // 2], "is truncated: the end-of-image marker is missing"),
    "padded": (GOOD[: len(GOOD) // 2] + b"\0" * 500, "is truncated: the end-of-image marker is missing"),
    "header only": (GOOD[:20], "is truncated or damaged: no image data after the JPEG header"),
    "one marker": (b"\xff\xd8\xff", "is truncated or damaged"),
    "huge": (GOOD.replace(b"\x01\x2c\x01\x18", b"\xff\xff\xff\xff", 1), "has 65535 x 65535 pixels; rule: at most 100"),
    "12 bits": (GOOD.replace(b"\x08\x01\x2c\x01\x18", b"\x0c\x01\x2c\x01\x18", 1), "has 12 bits a pixel; rule: 8-bit"),
    "no tables": (GOOD.replace(b"\xff\xdb", b"\xff\xec"), "cannot be decoded; rule: intact JPEG files"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_says_why(kind):
    data, rule = BAD[kind]
    with pytest.raises(jpeg.UnreadableFilm) as caught:
        decode(data, 64, 64)
    assert caught.value.message.startswith(rule)
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_data_that_the_library_completes_with_grey_are_refused(damage, capfd):
    data = film_files.jpeg(300, 280)
    half = len(data) // 2
    broken = data[:half] + (b"" if damage == "cut" else bytes(200) + data[half + 200 : -2]) + b"\xff\xd9"
    with pytest.raises(jpeg.UnreadableFilm, match=r"^is damaged \(.*(premature|extraneous)"):
        decode(broken, 64, 64)
    assert capfd.readouterr().err == "", "what the library says is heard, not shown"


def test_what_others_write_to_standard_error_while_a_film_is_decoded_is_not_lost(monkeypatch, capfd):
    usual = cv2.imdecode

    def talking(*arguments):
        os.write(2, b"something else\n")
        return usual(*arguments)

    monkeypatch.setattr(cv2, "imdecode", talking)
    decode(film_files.jpeg(30, 30), 8, 8)
    assert capfd.readouterr().err == "something else\n"


def test_a_film_of_very_many_scans_is_refused_before_it_is_decoded():
    out = io.BytesIO()
    Image.fromarray(film_files.picture(64, 64)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    scan = data[data.rfind(b"\xff\xda") : -2]
    jpeg.read_header(data)
    with pytest.raises(jpeg.UnreadableFilm, match=r"^has \d{3} scans; rule: at most 100"):
        jpeg.read_header(data[:-2] + scan * 100 + data[-2:])


def test_only_files_of_a_film_s_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(jpeg.UnreadableFilm, match="is no file but a folder, a pipe or a device"):
        jpeg.read_file(tmp_path / "pipe")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)
    with pytest.raises(jpeg.UnreadableFilm, match=r"has 1,099,512 MB; rule: at most 268 MB"):
        jpeg.read_file(tmp_path / "large")
