#!/usr/bin/env python3
"""Extraction and the grid against their floors, all measured in one run on files that it makes itself.

    python benchmarks/extract.py                      30 million chart rows, 10 million lab rows
    python benchmarks/extract.py --million 90 --keep DIR     another size; the files stay in DIR for the next run
    python benchmarks/extract.py --mimic-root DIR     also the whole way on real tables: extract, preprocess both tasks

Floors: `zcat FILE > /dev/null` and inflating FILE with python-isal, each in a process of its own. Extraction runs in a
fresh process too; its peak memory is that process's. The tables' rows look like MIMIC-IV's: about 4,300 chart rows a
stay, 7 % of them of items that are read, four stays of five in the cohort. Needs about 30 MB of disk per million rows.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl

from fusionctl.data import series
from fusionctl.data.batch import StayData, collate
from fusionctl.data.events import item_ids
from fusionctl.data.variables import VARIABLES

BLOCK = 500_000  # rows of one gzip member
ROWS_OF_STAY = 4_300
MAPPED = 0.07
CHART_ITEMS = item_ids("chart")
LAB_ITEMS = item_ids("lab")
REAL_REFERENCE_SECONDS = 525  # the reference's six scripts on 4,000 stays, one process
_ISAL = "from isal import igzip;f=igzip.open(r'{}');[0 for _ in iter(lambda:f.read(1<<19),b'')]"


# ------------------------------------------------------------------------------------------------------- the files
def times(hours: np.ndarray, start: str = "2150-01-01") -> pl.Series:
    """Hours since `start` as MIMIC writes times."""
    moments = np.datetime64(start, "ms") + (hours * 3600).astype("timedelta64[s]").astype("timedelta64[ms]")
    return pl.Series(moments).dt.to_string("%Y-%m-%d %H:%M:%S")


def block(index: int, kind: str) -> bytes:
    """One gzip member of rows, of stays that no other block has."""
    rng = np.random.default_rng([index, kind == "lab"])
    stay = index * (BLOCK // ROWS_OF_STAY) + np.arange(BLOCK) * (BLOCK // ROWS_OF_STAY) // BLOCK
    hours = stay % 9_000 * 96 + np.arange(BLOCK) * (BLOCK // ROWS_OF_STAY) % BLOCK / BLOCK * 72
    wanted = CHART_ITEMS if kind == "chart" else LAB_ITEMS
    others = np.arange(225_000, 225_400) if kind == "chart" else np.arange(51_000, 51_300)
    others = others[~np.isin(others, wanted)]
    item = np.where(rng.random(BLOCK) < MAPPED, rng.choice(wanted, BLOCK), rng.choice(others, BLOCK))
    number = np.round(rng.gamma(20, 4, BLOCK), rng.integers(0, 2))
    ids = {"subject_id": stay + 10_000_000, "hadm_id": stay + 20_000_000}
    clock = {"charttime": times(hours), "storetime": times(hours + rng.random(BLOCK) * 2)}
    read = {"itemid": item, "value": pl.Series(number).cast(pl.String), "valuenum": number}
    unit = {"valueuom": rng.choice(["mmHg", "bpm", "insp/min", ""], BLOCK)}
    if kind == "chart":
        columns = {**ids, "stay_id": stay + 30_000_000, "caregiver_id": rng.integers(1_000, 9_999, BLOCK), **clock}
        frame = pl.DataFrame({**columns, **read, **unit, "warning": rng.integers(0, 2, BLOCK)})
    else:
        own = {"specimen_id": rng.integers(10**7, 10**8, BLOCK), "order_provider_id": ["P12ABC"] * BLOCK}
        tail = {"ref_range_lower": [70.0] * BLOCK, "ref_range_upper": [105.0] * BLOCK, "flag": [""] * BLOCK}
        key = {"labevent_id": np.arange(BLOCK) + index * BLOCK}
        frame = pl.DataFrame({**key, **ids, **own, **clock, **read, **unit, **tail, "priority": ["ROUTINE"] * BLOCK})
    text = frame.write_csv(include_header=index == 0, quote_style="never").encode()
    packer = zlib.compressobj(6, wbits=31)
    return packer.compress(text) + packer.flush()


def write_events(path: Path, blocks: int, kind: str) -> None:
    """The table, made by two threads (compression releases the interpreter)."""
    with ThreadPoolExecutor(2) as pool, path.open("wb") as file:
        for member in pool.map(lambda index: block(index, kind), range(max(blocks, 1))):
            file.write(member)


def write_tree(root: Path, chart: int, lab: int) -> None:
    """A MIMIC-IV tree of that many million rows (0: one row alone)."""
    (root / "icu").mkdir(parents=True, exist_ok=True)
    (root / "hosp").mkdir(exist_ok=True)
    per_million = 1_000_000 // BLOCK
    for kind, millions, path in (
        ("chart", chart, root / "icu" / "chartevents.csv.gz"),
        ("lab", lab, root / "hosp" / "labevents.csv.gz"),
    ):
        if not path.exists():
            write_events(path.with_suffix(".tmp"), millions * per_million, kind)
            if not millions:
                head = gzip.decompress(path.with_suffix(".tmp").read_bytes()).split(b"\n")[:2]
                path.with_suffix(".tmp").write_bytes(gzip.compress(b"\n".join([*head, b""])))
            path.with_suffix(".tmp").rename(path)
    stay = np.arange(max(chart, lab, 1) * per_million * (BLOCK // ROWS_OF_STAY))
    begin = stay % 9_000 * 96.0
    ids = {"subject_id": stay + 10_000_000, "hadm_id": stay + 20_000_000}
    span = {"admittime": times(begin), "dischtime": times(begin + 96)}
    unit = ["MICU"] * len(stay)
    tables = {
        "hosp/patients": {"subject_id": ids["subject_id"], "gender": ["F"] * len(stay), "anchor_age": 60}
        | {"anchor_year": 2150, "anchor_year_group": "2011 - 2013", "dod": ""},
        "hosp/admissions": {**ids, **span, "deathtime": "", "race": "WHITE"},
        "icu/icustays": {**ids, "stay_id": stay + 30_000_000, "first_careunit": unit}
        | {
            "last_careunit": np.where(stay % 5 == 0, "SICU", "MICU"),
            "intime": times(begin),
            "outtime": times(begin + 72),
        },
        "hosp/diagnoses_icd": {**ids, "seq_num": 1, "icd_code": "5849", "icd_version": 9},
    }
    for name, columns in tables.items():
        pl.DataFrame(columns).write_csv(root / f"{name}.csv")


# --------------------------------------------------------------------------------------------------- measurements
class Run:
    """A finished process: wall seconds, processor seconds, peak memory in GiB."""

    def __init__(self, command: Sequence[str]) -> None:
        started, self.gib = time.perf_counter(), 0.0
        process, done = subprocess.Popen(command, stdout=subprocess.DEVNULL), 0
        while not done:
            self.gib = max(self.gib, _memory(process.pid))
            time.sleep(0.02)
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
        self.wall = time.perf_counter() - started
        self.cpu = usage.ru_utime + usage.ru_stime
        if status:
            sys.exit(f"{' '.join(command)} failed")


def _memory(pid: int) -> float:
    """Memory of a process and all that it started, in GiB (shared pages count in each)."""
    found = 0.0
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        found = next((int(line.split()[1]) / 2**20 for line in text.splitlines() if line.startswith("VmRSS")), 0.0)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return found
    return found + sum(_memory(int(child)) for child in children)


def fusionctl(stage: str, work: Path, *options: str) -> Run:
    """A stage in a fresh process."""
    return Run([sys.executable, "-m", "fusionctl", stage, "--work-dir", str(work), "--quiet", *options])


def floors(path: Path) -> tuple[Run, Run]:
    """zcat and python-isal on a file."""
    return Run(["zcat", str(path)]), Run([sys.executable, "-c", _ISAL.format(path)])


def best(measure: Callable[[], float], repeats: int = 5) -> float:
    """Least seconds of several."""
    return min(measure() for _ in range(repeats))


def seconds(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def dict_reader_cpu(path: Path, rows: int = 500_000) -> float:
    """Processor seconds per row of the plainest filter in Python: gzip, DictReader, a set of items, DictWriter."""
    wanted = {str(item) for item in CHART_ITEMS}
    started = time.process_time()
    with gzip.open(path, "rt", newline="") as file:
        reader = csv.DictReader(file)
        writer = csv.DictWriter(io.StringIO(), fieldnames=reader.fieldnames or [])
        for row, _ in zip(reader, range(rows), strict=False):
            if row["itemid"] in wanted:
                writer.writerow(row)
    return (time.process_time() - started) / rows


def show(name: str, value: str, target: str = "") -> None:
    """One line of the result."""
    sys.stdout.write(f"{name:<74} {value:>22}   {target}\n")
    sys.stdout.flush()


def measure_table(root: Path, name: str, rows: int, work: Path) -> tuple[Run, Run, Run]:
    """Extraction of a tree beside the floors of its large table; each twice, the lesser wall counts."""
    path = next(root.glob(f"*/{name}.csv.gz"))
    runs = []
    for _ in range(2):
        zcat, isal = floors(path)
        runs.append((fusionctl("extract", work, "--mimic-root", str(root), "--force"), zcat, isal))
    own, zcat, isal = (min((r[i] for r in runs), key=lambda run: run.wall) for i in range(3))
    show(f"{name}: {rows / 1e6:.0f} million rows, {path.stat().st_size / 1e6:,.0f} MB", f"{own.wall:.1f} s")
    show("  rows per second", f"{rows / own.wall:,.0f}")
    show("  processor seconds; zcat, isal wall seconds", f"{own.cpu:.1f}; {zcat.wall:.1f}, {isal.wall:.1f}")
    return own, zcat, isal


def write_stays(path: Path, n_stays: int = 10_000, n_events: int = 700) -> None:
    """An events.parquet of stays with as many events in 48 h as MIMIC's have."""
    rng = np.random.default_rng(0)
    n = n_stays * n_events
    columns = {
        "stay_id": np.repeat(np.arange(n_stays) + 30_000_000, n_events),
        "hours": np.sort(rng.random((n_stays, n_events)) * 48, axis=1).ravel(),
        "variable": rng.integers(0, len(VARIABLES), n).astype(np.uint8),
        "value": np.zeros(n, np.float32),
        "stored_hours": np.full(n, 1.0),
    }
    pl.DataFrame(columns).write_parquet(path, compression="zstd", row_group_size=1 << 20)


def measure_grid(work: Path) -> None:
    """Events to the grid, in memory and to disk, 48 rows of 1 h a stay."""
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        out, path = Path(scratch), Path(scratch) / "events.parquet"
        write_stays(path)
        blocks = list(series.read_blocks(path))
        ids = np.unique(np.concatenate([block.stay_id for block in blocks]))
        window, fill = np.full(len(ids), 48.0), np.array([v.normal_value for v in VARIABLES], np.float32)
        samples = [np.unique(block.stay_id, return_inverse=True)[1] for block in blocks]

        def in_memory() -> None:
            for sample, block in zip(samples, blocks, strict=True):
                series.grid(sample, block, window[: sample[-1] + 1], timestep=1.0, fill=fill)

        rate = len(ids) / best(lambda: seconds(in_memory))
        show("grid, 700 events a stay, 48 rows: stays per second, one core", f"{rate:,.0f}", ">= 25,000")
        own = best(lambda: seconds(lambda: series.write_grid(path, out, ids, window, timestep=1.0, fill=fill)))
        values, observed = np.load(out / "values.npy"), np.load(out / "observed.npy")

        def floor() -> None:
            for _ in series.read_blocks(path):
                pass
            np.save(out / "v.npy", values)
            np.save(out / "o.npy", observed)

        ratio = own / best(lambda: seconds(floor))
        show("grid stage / (read events.parquet + write the arrays)", f"{ratio:.2f}", "<= 2.0")


def measure_batches(work: Path) -> None:
    """Random batches of 256 stays from the memory-mapped arrays."""
    data, rng = StayData.open(next((work / "preprocess").iterdir())), np.random.default_rng(0)
    size = min(256, len(data))
    rows = [rng.choice(len(data), size, replace=False) for _ in range(20)]
    took = sorted(seconds(lambda r=r: collate(data, r)) for r in rows)[10]
    show(f"batch of {size} random stays to 76 columns, warm, median", f"{took * 1e3:.1f} ms", "<= 5 ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", type=int, default=30, help="million rows of chartevents")
    parser.add_argument("--lab-million", type=int, default=10, help="million rows of labevents")
    parser.add_argument("--keep", type=Path, help="folder for the files, which stay there")
    parser.add_argument("--mimic-root", type=Path, help="real tables, for the whole way")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        chart_tree, lab_tree = folder / f"chart-{arguments.million}", folder / f"lab-{arguments.lab_million}"
        sys.stdout.write("making the files (minutes) ...\n")
        write_tree(chart_tree, arguments.million, 0)
        write_tree(lab_tree, 0, arguments.lab_million)
        work, lab_work = Path(scratch) / "work", Path(scratch) / "lab"
        rows = arguments.million * 1_000_000
        own, zcat, isal = measure_table(chart_tree, "chartevents", rows, work)
        manifest = json.loads(next((work / "extract").glob("*/manifest.json")).read_text())
        show("  events kept", f"{manifest['rows']['events'] / rows:.1%}")
        show("  wall / zcat", f"{own.wall / zcat.wall:.2f}", "<= 0.75")
        show("  wall / isal", f"{own.wall / isal.wall:.2f}", "<= 4.5, moonshot 2.5")
        show("  peak memory", f"{own.gib:.2f} GiB", "<= 1.0")
        per_row = dict_reader_cpu(chart_tree / "icu" / "chartevents.csv.gz")
        show(
            "  processor time per row: gzip + csv.DictReader filter / extraction",
            f"{per_row / (own.cpu / rows):.1f}",
            ">= 12",
        )
        own, zcat, isal = measure_table(lab_tree, "labevents", arguments.lab_million * 1_000_000, lab_work)
        show("  wall / isal", f"{own.wall / isal.wall:.2f}", "<= 4.5")
        measure_grid(work)
        fusionctl("preprocess", work)
        measure_batches(work)
        if arguments.mimic_root:
            real = Path(scratch) / "real"
            raw = ("--mimic-root", str(arguments.mimic_root))
            first = fusionctl("preprocess", real, "--task", "mortality", *raw)  # extracts too
            second = fusionctl("preprocess", real, "--task", "phenotyping")
            total = f"{first.wall + second.wall:.1f} s"
            show("real tables to both tasks' arrays", total, f"< 5 (reference: {REAL_REFERENCE_SECONDS})")


if __name__ == "__main__":
    main()
