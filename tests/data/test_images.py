import logging

import cv2
import numpy as np
import pytest

from fusionctl.data import images
from fusionctl.errors import FusionctlError, InputError, UsageError


def jpeg(height, width, seed=0):
    """A smooth grey picture with a bright square in its upper left quarter, as JPEG."""
    rng = np.random.default_rng(seed)
    picture = cv2.resize(rng.integers(40, 160, (6, 6)).astype(np.uint8), (width, height))
    picture[height // 8 : height // 4, width // 8 : width // 4] = 250
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@pytest.fixture
def root(tmp_path):
    """A film folder with an odd name and films s0 to s4."""
    folder = tmp_path / "odd 'films"
    for i in range(5):
        write(folder, f"files/p1/p1/s{i}/a.jpg", jpeg(300, 280, seed=i))
    return folder


def write(root, path, data):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    return path


def cache(root, paths, **options):
    target = root.parent / "films.npy"
    defaults = {"size": 64, "clahe": False, "jobs": 1, "max_bad": 0.0}
    reasons = images.cache_films(root, paths, target, **(defaults | options))
    return np.load(target), reasons


@pytest.mark.parametrize(
    ("side", "size", "decoded"),
    [(512, 64, 64), (511, 64, 64), (504, 64, 126), (256, 64, 64), (128, 64, 64), (127, 64, 64), (126, 64, 126)],
)
def test_decoded_at_the_smallest_scale_that_suffices(side, size, decoded):
    film = images.decode(jpeg(side, side), size=size)
    assert film.shape == (decoded, decoded)
    assert film.dtype == np.uint8


def test_the_shorter_side_decides_the_scale():
    assert images.decode(jpeg(1024, 130), size=64).shape == (512, 65)


@pytest.mark.parametrize("shape", [(300, 280), (64, 64), (50, 70), (40, 40), (2000, 100)])
def test_any_shape_becomes_the_square(shape):
    film = images.resize(images.decode(jpeg(*shape), size=64), size=64)
    assert film.shape == (64, 64)
    assert film[12, 12] > 220, "the bright square keeps its place: squeezed, not cropped or turned"
    assert film[40, 40] < 190


def test_a_reduced_decode_equals_the_full_one_averaged():
    data = jpeg(512, 512)
    full = cv2.resize(images.decode(data, size=512), (64, 64), interpolation=cv2.INTER_AREA)
    difference = np.abs(images.decode(data, size=64).astype(int) - full)
    assert difference.mean() < 1.5


def test_orientation_tags_do_not_turn_a_film(root):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = jpeg(300, 280)
    tagged = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(tagged, np.uint8), cv2.IMREAD_GRAYSCALE).shape == (280, 300), "the tag works"
    np.testing.assert_array_equal(images.decode(tagged, size=256), images.decode(data, size=256))


def test_clahe_is_opencvs_on_the_small_film(root):
    plain = images.read_film(root, "files/p1/p1/s0/a.jpg", size=64, clahe=False)
    equalised = images.read_film(root, "files/p1/p1/s0/a.jpg", size=64, clahe=True)
    np.testing.assert_array_equal(equalised, cv2.createCLAHE(2.0, (8, 8)).apply(plain))
    assert (plain != equalised).any()


def test_clahe_needs_sides_that_its_tiles_divide(root):
    with pytest.raises(UsageError, match="--film-size must be a multiple of 8 with --clahe; got 60"):
        cache(root, [], size=60, clahe=True)


def test_one_and_two_processes_write_the_same_bytes(root, monkeypatch):
    monkeypatch.setattr(images, "BLOCK_FILMS", 2)
    monkeypatch.setattr(images, "PROCESSES_FROM_SECONDS", 0)
    paths = [f"files/p1/p1/s{i % 5}/a.jpg" for i in range(9)]
    one, _ = cache(root, paths, jobs=1)
    written = (root.parent / "films.npy").read_bytes()
    two, reasons = cache(root, paths, jobs=2)
    assert (root.parent / "films.npy").read_bytes() == written
    assert two.shape == (9, 64, 64) and reasons == [None] * 9
    np.testing.assert_array_equal(one[7], images.read_film(root, paths[7], size=64, clahe=False))


def test_no_films_make_an_empty_file(root):
    films, reasons = cache(root, [])
    assert films.shape == (0, 64, 64) and films.dtype == np.uint8 and reasons == []
    assert np.load(root.parent / "films.npy", mmap_mode="r").shape == (0, 64, 64)


GOOD = jpeg(300, 280)
HUGE = GOOD.replace(b"\x01\x2c\x01\x18", b"\xff\xff\xff\xff", 1)
BAD = {
    "missing": (None, "cannot be read: No such file or directory"),
    "empty": (b"", "is empty"),
    "text": (b"<html>404 not found</html>", "is not a JPEG image"),
    "png": (b"\x89PNG\r\n\x1a\n" + b"0" * 50, "is not a JPEG image"),
    "truncated": (GOOD[: len(GOOD) // 2], "is truncated: the end-of-image marker is missing"),
    "padded": (GOOD[: len(GOOD) // 2] + b"\0" * 500, "is truncated: the end-of-image marker is missing"),
    "header only": (GOOD[:20], "is truncated or damaged: no image data after the JPEG header"),
    "one marker": (b"\xff\xd8\xff", "is truncated or damaged"),
    "huge": (HUGE, "has 65535 x 65535 pixels; rule: at most 100 million"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_film_ends_the_run_and_says_which_and_why(root, kind):
    data, rule = BAD[kind]
    path = "files/p10/p10000001/s9/bad.jpg"
    if data is not None:
        write(root, path, data)
    with pytest.raises(InputError) as caught:
        cache(root, ["files/p1/p1/s0/a.jpg", path])
    assert f"{root}/files/p10/p10*/s9/bad.jpg: film {rule}" in caught.value.message
    assert "10000001" not in str(caught.value)
    assert "1 bad among the first 2 of 2 films, --max-bad-films 0 allows 0" in caught.value.message
    assert "--max-bad-films" in caught.value.hint


def test_a_directory_in_place_of_a_film(root):
    with pytest.raises(InputError, match="film cannot be read: Is a directory"):
        cache(root, ["files/p1/p1/s0"])


@pytest.mark.parametrize("path", ["../outside.jpg", "files/../../outside.jpg", "/etc/hostname"])
def test_paths_stay_inside_the_root(root, path):
    (root.parent / "outside.jpg").write_bytes(GOOD)
    with pytest.raises(InputError, match="rule: paths stay inside --cxr-root"):
        images.read_film(root, path, size=64, clahe=False)


def test_a_share_of_bad_films_may_be_absent(root, caplog):
    paths = [f"files/p1/p1/s{i}/a.jpg" for i in range(5)]
    write(root, paths[1], b"")
    with caplog.at_level(logging.WARNING, logger="fusionctl"):
        films, reasons = cache(root, paths, max_bad=0.2)
    assert [reason is None for reason in reasons] == [True, False, True, True, True]
    assert films.shape == (4, 64, 64)
    np.testing.assert_array_equal(films[1], images.read_film(root, paths[2], size=64, clahe=False))
    assert caplog.messages == ["film of study s1 is empty; rule: JPEG files; treated as absent"]
    with pytest.raises(InputError, match="--max-bad-films 0.19 allows 0"):
        cache(root, paths, max_bad=0.19)


def test_an_error_does_not_wait_for_the_remaining_films(root, monkeypatch):
    monkeypatch.setattr(images, "BLOCK_FILMS", 1)
    done = []
    paths = ["files/missing.jpg"] + [f"files/p1/p1/s{i}/a.jpg" for i in range(5)]
    with pytest.raises(InputError, match="1 bad among the first 1 of 6"):
        cache(root, paths, progress=lambda n, total: done.append(n))
    assert done == []


def test_a_disk_without_room_is_noticed_at_once(root, monkeypatch):
    monkeypatch.setattr(images.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 4095})())
    with pytest.raises(FusionctlError, match=r"1 films of 64 x 64 need 0 MB, 0 MB are free"):
        cache(root, ["files/p1/p1/s0/a.jpg"])
