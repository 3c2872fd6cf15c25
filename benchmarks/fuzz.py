"""The whole corpus of damages: every kind on every table that it fits, then pairs of kinds drawn by a seed.

    python benchmarks/fuzz.py                     # everything, and 100 pairs
    python benchmarks/fuzz.py --only 'gzip|bomb'  # families or names that match
    python benchmarks/fuzz.py --pairs 1000 --seed 7

The test suite runs a fixed sample of this. Ends with a table of families; exit code 1 if anything was not as stated.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fuzz"))

from broken_tree import write_good
from corpus import Case, cases, one_of_each
from outcome import Error, Good, check_output


def main() -> int:
    """Run what was asked for, and say what was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="families or names to run (a regular expression)")
    parser.add_argument("--pairs", type=int, default=100, help="pairs of kinds to run")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs")
    options = parser.parse_args()
    wanted = re.compile(options.only)
    chosen = [case for case in cases() if wanted.search(case.damage.family) or wanted.search(case.name)]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        good = Good(write_good(Path(folder) / "good"), Path(folder))
        started = time.perf_counter()
        faults = [(case.name, fault) for case in chosen if (fault := attempt(good, [case]))]
        # Bombs and moved folders leave a second damage nothing to damage.
        single = [case for case in one_of_each() if case.damage.family not in ("bomb", "tree")]
        for number in range(options.pairs):
            pair = random.Random(f"{options.seed}/{number}").sample(single, 2)
            if fault := attempt(good, pair):
                faults.append((" + ".join(case.name for case in pair), fault))
    show(chosen, faults, options.pairs, time.perf_counter() - started)
    return bool(faults)


def attempt(good: Good, pair: Sequence[Case]) -> str:
    """Run one case or two at once; what is not as it must be, or nothing."""
    try:
        run = good.try_out(*(case.do for case in pair))
        shutil.rmtree(run.work.parent / "raw" / "mimic-cxr-jpg" / "files", ignore_errors=True)
        check_output(run, good)
        if len(pair) == 1:
            pair[0].damage.outcome.check(run, good, pair[0].table)
        elif isinstance(pair[0].damage.outcome, Error) and pair[0].table and pair[1].table not in ("", pair[0].table):
            assert run.code == 3, "one of two errors is gone"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    else:
        shutil.rmtree(run.work.parent, ignore_errors=True)
    return ""


def show(chosen: Sequence[Case], faults: Sequence[tuple[str, str]], pairs: int, seconds: float) -> None:
    """Print every fault, and how many kinds and cases each family has."""
    for name, fault in faults:
        print(f"NOT AS STATED: {name}\n  {fault[-600:]}\n")
    kinds = Counter({case.damage.name: case.damage.family for case in chosen}.values())
    runs = Counter(case.damage.family for case in chosen)
    print("| family | kinds | cases |\n|---|---|---|")
    for family, n in kinds.items():
        print(f"| {family} | {n} | {runs[family]} |")
    print(f"| all | {sum(kinds.values())} | {len(chosen)} |")
    print(f"\n{len(chosen)} cases and {pairs} pairs in {seconds:.0f} s, {len(faults)} not as stated")


if __name__ == "__main__":
    raise SystemExit(main())
