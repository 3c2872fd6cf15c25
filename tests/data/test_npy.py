import numpy as np
import pytest

from fusionctl.data.npy import NpyAppender


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 1000])
def test_the_file_is_what_numpy_would_write(tmp_path, rows):
    expected = np.arange(rows * 6, dtype=np.float32).reshape(rows, 2, 3)
    with NpyAppender(tmp_path / "a.npy", (2, 3), np.float32) as file:
        for block in np.array_split(expected, 4):
            file.append(block)
    assert file.rows == rows
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), expected)
    np.save(tmp_path / "b.npy", expected)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_a_transposed_block_is_written_row_by_row(tmp_path):
    block = np.arange(6, dtype=np.int16).reshape(2, 3).T
    with NpyAppender(tmp_path / "a.npy", (2,), np.int16) as file:
        file.append(block)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), block)


@pytest.mark.parametrize("block", [np.zeros((1, 3), np.float32), np.zeros((1, 2)), np.zeros(2, np.float32)])
def test_a_block_of_another_kind_is_refused(tmp_path, block):
    with NpyAppender(tmp_path / "a.npy", (2,), np.float32) as file, pytest.raises(ValueError, match="block of"):
        file.append(block)
