import errno
import os
import resource

import numpy as np
import pytest

from fusionctl.data import film_file


@pytest.mark.parametrize("shape", [(5, 64, 64), (3, 7, 7), (0, 64, 64)])
@pytest.mark.parametrize("reserves", [True, False])
def test_numpy_reads_what_was_written_block_by_block(tmp_path, monkeypatch, shape, reserves):
    path = tmp_path / "a.npy"
    if not reserves:
        monkeypatch.setattr(film_file, "_succeeds", lambda *arguments: False)
    expected = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    film_file.create(path, shape, np.uint8)
    assert path.stat().st_size == 4096 + expected.size
    for first in range(0, len(expected), 2):
        film_file.write_rows(path, first, expected[first : first + 2])
    film_file.write_rows(path, 0, expected[:0])
    for mode in ("r", None):
        found = np.load(path, mmap_mode=mode)
        assert found.dtype == np.uint8 and found.shape == shape
        np.testing.assert_array_equal(found, expected)
    if len(expected):
        assert np.load(path, mmap_mode="r").offset == 4096, "rows begin on a page of their own"


def test_making_it_again_changes_nothing(tmp_path):
    path = tmp_path / "a.npy"
    rows = np.ones((4, 8, 8), np.uint8)
    film_file.create(path, (4, 8, 8), np.uint8)
    film_file.write_rows(path, 0, rows)
    film_file.create(path, (4, 8, 8), np.uint8)
    np.testing.assert_array_equal(np.load(path), rows)
    os.truncate(path, 4096 + 64)  # killed while it was made
    film_file.create(path, (4, 8, 8), np.uint8)
    np.testing.assert_array_equal(np.load(path), np.concatenate([rows[:1], np.zeros((3, 8, 8), np.uint8)]))


def test_only_the_owner_may_read(tmp_path):
    film_file.create(tmp_path / "a.npy", (1, 8, 8), np.uint8)
    assert (tmp_path / "a.npy").stat().st_mode & 0o777 == 0o600


def test_the_space_is_reserved_at_once(tmp_path):
    path = tmp_path / "a.npy"
    assert film_file.missing_bytes(path, 10**6) == 10**6
    film_file.create(path, (100, 100, 100), np.uint8)
    left = film_file.missing_bytes(path, 4096 + 10**6)
    if left:
        pytest.skip("this file system does not reserve space")
    assert path.stat().st_blocks * 512 >= 10**6


def test_no_room_is_an_error_at_once_and_takes_no_space(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            film_file.create(tmp_path / "a.npy", (100, 100, 100), np.uint8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(tmp_path / "a.npy")
    assert (tmp_path / "a.npy").stat().st_blocks == 0


def test_rows_go_nowhere_without_the_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        film_file.write_rows(tmp_path / "a.npy", 0, np.ones((1, 8, 8), np.uint8))


def test_columns_in_another_order_are_written_in_numpys(tmp_path):
    film_file.create(tmp_path / "a.npy", (2, 3, 4), np.int16)
    rows = np.arange(24, dtype=np.int16).reshape(2, 4, 3).transpose(0, 2, 1)
    film_file.write_rows(tmp_path / "a.npy", 0, rows)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows)
