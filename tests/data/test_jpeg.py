import io

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
