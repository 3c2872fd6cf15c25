import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import film_files
import joblib
import numpy as np
import pytest

from fusionctl.data import film_cache, film_journal, images, jpeg
from fusionctl.data.film_cache import FilmCache
from fusionctl.data.images import FilmFormat
from fusionctl.errors import FusionctlError, InputError, UsageError
from fusionctl.failures import one_error

FORM = FilmFormat(size=32, fit="squeeze", clahe=True, backend="opencv")
FILMS, BAD = 17, 5


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A film folder with an odd name and films s0 to s16, of which s5 is damaged; blocks of four."""
    monkeypatch.setattr(film_cache, "BLOCK_FILMS", 4)
    for i in range(FILMS):
        film_files.write(tmp_path / "odd 'films", path(i), film_files.jpeg(70, 60, seed=i) if i != BAD else b"")
    return tmp_path / "odd 'films"


def path(i):
    return f"files/p10/p10000001/s{i}/a.jpg"


def cache(root, name="cache", *, n=FILMS, form=FORM):
    folder = root.parent / name
    folder.mkdir(exist_ok=True)
    return FilmCache(folder, root, [path(i) for i in range(n)], form)


def fill(cache, **options):
    return cache.fill(**({"jobs": 1, "max_bad": 0.2} | options))


@pytest.fixture
def expected(root):
    """The bytes of films.npy, from one undisturbed run."""
    undisturbed = cache(root, "undisturbed")
    fill(undisturbed)
    return undisturbed.file.read_bytes()


def test_row_i_is_film_i_and_an_unreadable_one_is_black(root, expected):
    films = np.load(root.parent / "undisturbed/films.npy", mmap_mode="r")
    assert films.shape == (FILMS, 32, 32) and films.dtype == np.uint8
    for i in range(FILMS):
        wanted = np.zeros((32, 32), np.uint8)
        if i != BAD:
            wanted = images.read_film(root, path(i), size=32, fit="squeeze", clahe=True, backend="opencv")
        np.testing.assert_array_equal(films[i], wanted)
    blocks = film_journal.read_all(root.parent / "undisturbed")
    assert sorted(blocks) == [0, 1, 2, 3, 4]
    assert blocks[1].unreadable == {BAD: "is empty; rule: JPEG files"} and not blocks[0].unreadable


def test_two_processes_write_the_same_bytes(root, expected, monkeypatch):
    monkeypatch.setattr(film_cache, "PROCESSES_FROM_SECONDS", 0)
    two = cache(root)
    seen = []
    done = fill(two, jobs=2, progress=lambda n, total: seen.append((n, total)))
    assert two.file.read_bytes() == expected
    assert sorted(done) == [0, 1, 2, 3, 4] and done[1].unreadable == {BAD: "is empty; rule: JPEG files"}
    assert seen == [(n, 17) for n in (0, 4, 8, 12, 16, 17)]


def test_the_caller_chooses_the_kind_of_parallelism(root, expected, monkeypatch):
    monkeypatch.setattr(film_cache, "PROCESSES_FROM_SECONDS", 0)
    used = []

    class Counted(joblib._parallel_backends.ThreadingBackend):
        def submit(self, *arguments, **options):
            used.append(1)
            return super().submit(*arguments, **options)

    joblib.register_parallel_backend("counted", Counted)
    two = cache(root)
    with joblib.parallel_config(backend="counted"):
        fill(two, jobs=2)
    assert two.file.read_bytes() == expected and used


def test_threads_find_the_same_bad_films_as_one(root, capfd, monkeypatch):
    """Each hears what the library says of its own film, on the one standard error that all share."""
    for i in range(0, FILMS, 2):
        whole = film_files.jpeg(300, 280, seed=i)
        film_files.write(root, path(i), whole[: len(whole) // 2] + b"\0" * 99 + whole[-2:])
    alone, threads = cache(root, "alone"), cache(root, "threads")
    wanted = fill(alone, max_bad=1)
    assert sum(len(block.unreadable) for block in wanted.values()) == 10
    decode = jpeg._decoded

    def slowly(*arguments):
        time.sleep(0.002)
        return decode(*arguments)

    monkeypatch.setattr(jpeg, "_decoded", slowly)
    monkeypatch.setattr(film_cache, "PROCESSES_FROM_SECONDS", 0)
    with joblib.parallel_config("threading"):
        found = fill(threads, jobs=4, max_bad=1)
    assert found == wanted and threads.file.read_bytes() == alone.file.read_bytes()
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"


def test_little_work_starts_no_processes(root, monkeypatch):
    monkeypatch.setattr(film_cache.joblib, "Parallel", None)
    assert len(fill(cache(root), jobs=2)) == 5


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_shares_in_any_order_make_the_same_bytes(root, expected, n):
    shared = cache(root)
    order = list(range(1, n + 1))
    random.Random(n).shuffle(order)
    shares = [fill(shared, shard=(i, n)) for i in order]
    assert sorted(block for share in shares for block in share) == [0, 1, 2, 3, 4]
    assert all(block % n == i - 1 for i, share in zip(order, shares, strict=True) for block in share)
    seen = []
    assert len(fill(shared, progress=lambda n, total: seen.append((n, total)))) == 5
    assert seen == [(17, 17)], "nothing was left to do"
    assert shared.file.read_bytes() == expected


def test_two_shares_at_once_make_the_same_bytes(root, expected):
    shared = cache(root)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: fill(shared, shard=(i, 2)), (1, 2)))
    assert len(film_journal.read_all(shared.folder)) == 5
    assert shared.file.read_bytes() == expected


@pytest.mark.parametrize("stop", [0, 4, 12, 17])
def test_an_interrupted_run_goes_on_where_it_was(root, expected, stop):
    def interrupt(done, total):
        if done == stop:
            raise KeyboardInterrupt

    interrupted, seen = cache(root), []
    with pytest.raises(KeyboardInterrupt):
        fill(interrupted, progress=interrupt)
    fill(interrupted, progress=lambda n, total: seen.append(n))
    assert seen[0] == stop and seen[-1] == 17
    assert interrupted.file.read_bytes() == expected


@pytest.mark.parametrize("seed", range(8))
def test_what_a_power_cut_can_leave_is_mended(root, expected, seed):
    broken, rng = cache(root), random.Random(seed)
    fill(broken)
    journal = film_journal.path_of(broken.folder, (1, 1))
    lines = journal.read_bytes().splitlines(keepends=True)
    kept = rng.sample(range(5), rng.randint(0, 4))
    torn = lines[rng.randrange(5)][: rng.randint(0, 30)]
    journal.write_bytes(b"".join(lines[k] for k in kept) + torn)
    content = bytearray(expected)
    for k in set(range(5)) - set(kept):  # data without a line: anything
        first, last = (k + 1) * 4096, min((k + 2) * 4096, len(content))
        content[first:last] = rng.randbytes(last - first)
    broken.file.write_bytes(content if rng.random() < 0.7 or kept else content[: rng.randint(0, len(content))])
    fill(broken)
    assert broken.file.read_bytes() == expected


KILLED = """
import os, signal, sys
from pathlib import Path
from fusionctl.data import film_cache, film_file, film_journal
from fusionctl.data.images import FilmFormat

folder, root, moment = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
film_cache.BLOCK_FILMS, film_journal.SYNC_SECONDS = 4, 0
calls = 0

def killed(function):
    def wrapper(*arguments):
        global calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return wrapper

for name in ("open", "ftruncate", "fsync", "pwrite", "fdatasync"):
    setattr(os, name, killed(getattr(os, name)))
film_journal._fdatasync = os.fdatasync
form = FilmFormat(size=32, fit="squeeze", clahe=True, backend="opencv")
paths = [f"files/p10/p10000001/s{i}/a.jpg" for i in range(17)]
film_cache.FilmCache(folder, root, paths, form).fill(jobs=1, max_bad=0.2)
"""


@pytest.mark.parametrize("moment", [2, 5, 7, 12])
def test_killed_at_a_system_call_and_run_again(root, expected, moment):
    killed = cache(root)
    command = [sys.executable, "-c", KILLED, str(killed.folder), str(root), str(moment)]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    fill(killed)
    assert killed.file.read_bytes() == expected


def test_a_film_that_can_be_read_now_is_read(root):
    mended = cache(root)
    with pytest.raises(InputError):
        fill(mended, max_bad=0.05)
    film_files.write(root, path(BAD), film_files.jpeg(70, 60, seed=BAD))
    done = fill(mended, max_bad=0.0)
    assert not any(block.unreadable for block in done.values())
    wanted = images.read_film(root, path(BAD), size=32, fit="squeeze", clahe=True, backend="opencv")
    np.testing.assert_array_equal(np.load(mended.file)[BAD], wanted)


def test_journals_without_their_file_count_for_nothing(root, expected):
    removed = cache(root)
    fill(removed, shard=(1, 2))
    removed.file.unlink()
    fill(removed)
    assert removed.file.read_bytes() == expected


def test_no_films_make_an_empty_file(root):
    none = cache(root, n=0)
    assert fill(none) == {}
    assert np.load(none.file, mmap_mode="r").shape == (0, 32, 32)


def test_too_many_bad_films_end_the_run_and_what_was_read_is_kept(root):
    strict = cache(root)
    with pytest.raises(InputError) as caught:
        fill(strict, max_bad=0.05)
    assert caught.value.message == (
        f"{root}: the film in row 5 of extract's films.parquet is empty; rule: JPEG files "
        "(1 bad among 8 of 17 films, --max-bad-films 0.05 allows 0)"
    )
    assert "10000001" not in str(caught.value) and "--max-bad-films" in caught.value.hint
    assert sorted(film_journal.read_all(strict.folder)) == [0, 1], "it did not wait for the others"
    with pytest.raises(InputError, match="1 bad among 8 of 17"):
        fill(strict, max_bad=0.05, progress=lambda n, total: pytest.fail("known before it begins"))


def test_an_error_in_a_process_ends_the_run(root, monkeypatch):
    monkeypatch.setattr(film_cache, "PROCESSES_FROM_SECONDS", 0)
    gone = cache(root)
    fill(gone)
    film_journal.path_of(gone.folder, (1, 1)).unlink()
    with pytest.raises(FileNotFoundError, match="films.npy"):
        fill(gone, jobs=2, progress=lambda n, total: gone.file.unlink(missing_ok=True))


def write_or_die(block, *arguments, write=film_cache._write_block):
    if block == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(block, *arguments)


def test_a_process_killed_from_outside_is_one_clear_error(root, expected, monkeypatch):
    monkeypatch.setattr(film_cache, "PROCESSES_FROM_SECONDS", 0)
    killed = cache(root)
    with monkeypatch.context() as patched:
        patched.setattr(film_cache, "_write_block", write_or_die)
        with pytest.raises(FusionctlError, match="a worker process was ended from outside"), one_error("films", {}):
            fill(killed, jobs=2)
    fill(killed, jobs=2)
    assert killed.file.read_bytes() == expected


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(root, monkeypatch):
    written, write_rows = [], film_cache.film_file.write_rows

    def full(file, first_row, rows):
        if first_row == 8:
            raise OSError(28, "No space left on device", str(file))
        written.append(first_row)
        write_rows(file, first_row, rows)

    monkeypatch.setattr(film_cache.film_file, "write_rows", full)
    stopped = cache(root)
    with pytest.raises(OSError, match="No space left"):
        fill(stopped)
    assert written == [0, 4] and sorted(film_journal.read_all(stopped.folder)) == [0, 1]


def test_a_disk_without_room_is_noticed_at_once(root, monkeypatch):
    monkeypatch.setattr(film_cache.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 4095})())
    with pytest.raises(FusionctlError, match=r"17 films of 32 x 32 need 0 MB, 0 MB are free") as caught:
        fill(cache(root))
    assert "--film-size" in caught.value.hint and not cache(root).file.exists()


def test_sizes_that_do_not_fit(root):
    plain = FilmFormat(size=36, fit="squeeze", clahe=False, backend="opencv")
    with pytest.raises(UsageError, match="--film-size must be a multiple of 8 with --shard; got 36"):
        fill(cache(root, form=plain), shard=(1, 2))
    assert len(fill(cache(root, form=plain))) == 5
    with pytest.raises(UsageError, match="--film-size must be a multiple of 8 with --clahe; got 36"):
        fill(cache(root, form=FilmFormat(size=36, fit="pad", clahe=True, backend="opencv")))
