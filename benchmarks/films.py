#!/usr/bin/env python3
"""The film cache against its floor and against the usual way, all measured in one run on films that it makes itself.

    python benchmarks/films.py                              200 films of 2500 x 3056, about six minutes on two cores
    python benchmarks/films.py --films 20 --rows 128 --repeats 1 --skip-training     a quick look
    python benchmarks/films.py --keep DIR                   the films stay in DIR for the next run

The films are smooth chests with fine grain, as JPEG of quality 95 and of about the size of MIMIC-CXR-JPG's (570 GB /
377,110 films = 1.51 MB). They are read from memory that the system keeps of files, not from the disk. What is compared
is measured in turns, `--repeats` times after a turn to warm up; the table has the median of the turns' ratios.

- Floor: decoding the same bytes at 1/8 scale and nothing else: what the Huffman code of a JPEG costs at the least.
- Usual way: Pillow decodes the whole film and scales it, scikit-image equalises it, one JPEG file a film is written;
  Pillow's defaults, as in MedFuse's resize.py (bicubic; its bilinear filter would take about a fifth off the whole).
- The cache: the package's own code, with checks, checksums, journal and the disk's confirmation. Every film is taken
  `--rows` / `--films` times, so that a turn is many blocks long.

At the end it runs benchmarks/film_training.py, about the batches that training reads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import joblib
import numpy as np
from PIL import Image

from fusionctl.data import film_cache
from fusionctl.data.film_cache import BLOCK_FILMS, FilmCache
from fusionctl.data.images import CLAHE_CLIP, FilmFormat
from fusionctl.data.synth.render import Findings, render

HEIGHT, WIDTH, QUALITY = 3056, 2500, 95
GRAIN_SD = 1.9  # grey levels; with it a film takes about 1.5 MB
MIMIC_FILMS = 377_110
HEALTHY = Findings(consolidation=0.3, effusion=0.1, edema=0.1, heart=1.0, device=True)
PROCESSES = 2


# ------------------------------------------------------------------------------------------------------- the films
def make_film(path: Path, seed: int) -> int:
    """Write one film.

    Returns:
        Bytes of the file.
    """
    if not path.exists():
        rng = np.random.default_rng(seed)
        smooth = cv2.GaussianBlur(render(HEALTHY, "AP", rng), (0, 0), 2.0)
        film = cv2.resize(smooth, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        film += rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32) * np.float32(GRAIN_SD)
        grey = np.rint(np.clip(film, 0, 255)).astype(np.uint8)
        data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        part = path.with_suffix(".part")
        part.write_bytes(data)
        part.replace(path)
    return path.stat().st_size


def make_films(folder: Path, n: int) -> list[str]:
    """Write the films, and say how large they are.

    Returns:
        Their paths relative to the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"film-{i:05d}.jpg" for i in range(n)]
    sizes = joblib.Parallel(n_jobs=PROCESSES)(joblib.delayed(make_film)(folder / x, i) for i, x in enumerate(names))
    print(f"{n} films of {WIDTH} x {HEIGHT}, JPEG quality {QUALITY}: {statistics.mean(sizes) / 1e6:.2f} MB each")
    return names


# --------------------------------------------------------------------------------------- what is measured, by block
def decode_only(folder: Path, names: Sequence[str]) -> None:
    """The floor."""
    cv2.setNumThreads(1)
    for name in names:
        cv2.imdecode(np.memmap(folder / name, np.uint8, mode="r"), cv2.IMREAD_REDUCED_GRAYSCALE_8)


def usual_way(folder: Path, names: Sequence[str], target: Path, size: int) -> None:
    """Whole decode, scikit-image's CLAHE, a file a film."""
    from skimage import exposure

    for name in names:
        with Image.open(folder / name) as image:
            small = np.asarray(image.convert("L").resize((size, size)))
        levels = exposure.equalize_adapthist(small, clip_limit=CLAHE_CLIP / 256)
        Image.fromarray(np.rint(levels * 255).astype(np.uint8)).save(target / name)


def in_blocks(task: Callable[..., None], folder: Path, names: Sequence[str], *rest: object) -> Callable[[], None]:
    """A measured job: the task over all films, in as many processes as the cache has, in blocks of the same size."""
    blocks = [names[start : start + BLOCK_FILMS] for start in range(0, len(names), BLOCK_FILMS)]

    def job() -> None:
        joblib.Parallel(n_jobs=PROCESSES, batch_size=1)(joblib.delayed(task)(folder, b, *rest) for b in blocks)

    return job


def cache_job(folder: Path, names: Sequence[str], target: Path, size: int, jobs: int) -> Callable[[], None]:
    """A measured job: the whole cache, from nothing to the last confirmation of the disk."""
    form = FilmFormat(size=size, fit="squeeze", clahe=True, backend="opencv")

    def job() -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        done = FilmCache(target, folder, names, form).fill(jobs=jobs, max_bad=0.0)
        assert len(done) == -(-len(names) // BLOCK_FILMS)

    return job


def read_array(path: Path, order: Sequence[int]) -> None:
    """Read films in a random order from the cache."""
    films = np.load(path, mmap_mode="r")
    for i in order:
        np.array(films[i])


def read_files(paths: Sequence[Path], order: Sequence[int]) -> None:
    """The same from JPEG files, as a data set of image files does."""
    for i in order:
        with Image.open(paths[i]) as image:
            np.asarray(image)


# ------------------------------------------------------------------------------------------------------- measuring
def seconds(job: Callable[[], None]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def in_turns(jobs: dict[str, Callable[[], None]], repeats: int, *, warm_up: bool = True) -> dict[str, list[float]]:
    """Times of every job, measured one after the other, again and again."""
    for job in jobs.values() if warm_up else ():
        job()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            times[name].append(seconds(job))
    return times


class Table:
    """Lines of the result: a figure, its target, whether it is met, and the times behind it."""

    def __init__(self) -> None:
        self.lines = [("figure", "ratio", "target", "", "times")]

    def add(
        self, figure: str, numerator: Sequence[float], denominator: Sequence[float], bound: str, target: float
    ) -> None:
        """A ratio of two jobs that were measured in turns; bound is <= or >=."""
        ratio = statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))
        met = ratio <= target if bound == "<=" else ratio >= target
        times = f"{statistics.median(numerator):.3f} s / {statistics.median(denominator):.3f} s"
        self.lines.append((figure, f"{ratio:.2f}", f"{bound} {target:g}", "ok" if met else "MISSED", times))

    def show(self) -> None:
        """Print the table, as wide as it needs to be."""
        widths = [max(len(line[i]) for line in self.lines) for i in range(5)]
        for line in self.lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def measure(folder: Path, work: Path, names: list[str], rows: int, repeats: int) -> None:
    """Run everything and print the table and the arithmetic."""
    film_cache.PROCESSES_FROM_SECONDS = 0.0  # processes also for a quick look
    many = (names * -(-rows // len(names)))[:rows]
    jpegs = work / "jpegs"
    jpegs.mkdir()
    caches = {size: work / f"cache-{size}" for size in (256, 512)}
    jobs = {"floor": in_blocks(decode_only, folder, many)}
    jobs |= {str(size): cache_job(folder, many, target, size, PROCESSES) for size, target in caches.items()}
    jobs["one"] = cache_job(folder, many, work / "cache-one", 256, 1)
    for name in ("floor", "256"):  # starts the processes and brings the films to memory
        jobs[name]()
    times = in_turns(jobs, repeats, warm_up=False)
    usual_jobs = {
        "usual": in_blocks(usual_way, folder, names, jpegs, 256),
        "cache": cache_job(folder, names, work / "cache-few", 256, PROCESSES),
    }
    usual = in_turns(usual_jobs, repeats)
    table = Table()
    table.add("cache of 256 px, 2 processes / Huffman decoding alone", times["256"], times["floor"], "<=", 1.25)
    table.add("cache of 512 px, 2 processes / Huffman decoding alone", times["512"], times["floor"], "<=", 1.8)
    table.add("Pillow + scikit-image + JPEG files / cache of 256 px", usual["usual"], usual["cache"], ">=", 3)
    table.add("cache of 256 px: one process / two", times["one"], times["256"], ">=", 1.8)
    table.add("random reads: JPEG files of 256 px / films.npy", *random_reads(caches[256], jpegs, names, repeats))
    table.show()
    for size in caches:
        arithmetic(size, rows, statistics.median(times[str(size)]))


def random_reads(
    cache: Path, jpegs: Path, names: Sequence[str], repeats: int
) -> tuple[list[float], list[float], str, float]:
    """Times for JPEG files and for the array, and their target."""
    order = np.random.default_rng(0).integers(0, len(names), 4000).tolist()
    paths = [jpegs / name for name in names]
    jobs = {"files": lambda: read_files(paths, order), "array": lambda: read_array(cache / "films.npy", order)}
    times = in_turns(jobs, max(5, repeats))
    return times["files"], times["array"], ">=", 20


def arithmetic(size: int, rows: int, duration: float) -> None:
    """What all of MIMIC-CXR-JPG takes at the measured rate."""
    rate = rows / duration
    hours = MIMIC_FILMS / rate / 3600
    print(
        f"{size} px, {PROCESSES} processes: {rows} films / {duration:.2f} s = {rate:.1f} films/s; "
        f"{MIMIC_FILMS:,} films / {rate:.1f} per s = {MIMIC_FILMS / rate:,.0f} s = {hours:.2f} h; "
        f"films.npy: {MIMIC_FILMS * size**2 / 1e9:.1f} GB"
    )


def main() -> None:
    """Parse the options, make the films, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=200, help="different films (default: 200)")
    parser.add_argument("--rows", type=int, default=1024, help="films of a turn, each taken several times (1024)")
    parser.add_argument("--repeats", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("--keep", type=Path, help="folder in which the films are made and stay")
    parser.add_argument("--skip-training", action="store_true", help="leave film_training.py out")
    options = parser.parse_args()
    if min(options.films, options.rows, options.repeats) < 1:
        parser.error("--films, --rows and --repeats must be at least 1")
    os.umask(0o077)
    with tempfile.TemporaryDirectory(prefix="fusionctl-films-") as temporary:
        work = Path(temporary)
        folder = options.keep or work / "films"
        measure(folder, work, make_films(folder, options.films), options.rows, options.repeats)
    if (Path(__file__).parent / "film_training.py").exists() and not options.skip_training:
        import film_training

        film_training.main([])


if __name__ == "__main__":
    main()
