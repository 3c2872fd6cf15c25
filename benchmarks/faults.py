#!/usr/bin/env python3
"""Stages killed at random moments, and on disks that fill up: nothing half-written is seen, and reruns end the same.

    python benchmarks/faults.py                              20 kills a stage, and every step on a full disk
    python benchmarks/faults.py --kills 5 --stages films,fuse
    python benchmarks/faults.py --seed 7                     other moments

A tiny run of the whole pipeline is made first, undisturbed. Then each stage runs again and again in a copy of it, as
a process of its own that SIGKILL ends after a random part of the time that the stage takes, counted from its first
file on, or, for a fifth of the kills, from the start of the process. After each kill every
artifact that is listed is verified, the same command is run again, and every file is compared with the undisturbed one.

Full disks are of two kinds. At each of a stage's steps that open, rename or make something the system has no room
from there on (made up, so that it can be any step). And the work directory lies on a real file system of memory that
has less and less room left, where the system allows to mount one (Linux, root).

One line a stage; the exit code is 1 if anything was not as it must be.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from faults.child import Done, Fault, Running, until
from faults.tiny import Copy, run_all, write_tree

from fusionctl.stages import STAGES

Launch = Callable[..., Running]
CLEAR = re.compile(r"^error: .+\n  -> .+\n\Z", re.MULTILINE | re.DOTALL)
EARLY = 0.2  # share of the kills whose clock starts with the process, not with the stage's first file
ROOM = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9)  # of what the stage writes
SLACK = 12 << 10  # for the look whether anything can be written, and a lock
PEAK = 10  # a checkpoint is four times what training publishes, and twice there while it is written


class Broken(Exception):
    """Something was not as it must be."""


def check(holds: object, what: str) -> None:
    """Stop with what did not hold."""
    if not holds:
        raise Broken(what)


def kill_stage(copy: Copy, stage: str, launch: Launch, kills: int, chance: random.Random) -> Counter[str]:
    """Kill a stage so often, and count what each kill left behind."""
    folder, name = copy.work.root / stage, copy.made(stage).id
    draft = folder / f"{name}.partial"
    copy.without(stage)
    first = launch(*copy.command(stage))
    until(draft.exists, 300)
    began = time.monotonic()
    check(first.wait(300).code == 0, "the first run failed")
    seconds = time.monotonic() - began
    before = copy.without(stage).listed()
    found: Counter[str] = Counter()
    while found["kills"] < kills:
        run = launch(*copy.command(stage))
        if chance.random() > EARLY:
            until(lambda run=run: draft.exists() or not run.process.is_alive(), 300)
        run.process.join(chance.uniform(0, seconds))
        run.process.kill()
        code = run.wait().code
        if code == 0:
            found["too late"] += 1
        else:
            check(code == -9, f"exit code {code}")
            found["kills"] += 1
            published = (folder / name).exists()
            left = "draft left" if draft.exists() else "nothing"
            found["published" if published else left] += 1
            listed = copy.listed()  # verifies every file
            check(published or listed == before, f"half-written artifacts are listed: {listed}")
            done = launch(*copy.command(stage)).wait(300)
            check(done.code == 0, f"the rerun ended with {done.code}: {done.err}")
            found["resumed"] += "resumed from a checkpoint" in done.err
            copy.check_whole(stage)
        copy.without(stage)
    return found


def fill_disk(copy: Copy, stage: str, launch: Launch) -> int:
    """A full disk at each step of a stage in turn; how many there were."""
    before = copy.without(stage).listed()
    for n in itertools.count():
        fault = Fault(do="full", below=str(copy.work.root), after=n, event="")
        done = launch(*copy.command(stage), fault=fault).wait(300)
        if done.code == 0:
            copy.check_whole(stage)
            return n
        if copy.work.get(stage, copy.made(stage).id) is None:
            check(copy.listed() == before, "old artifacts are harmed")
        check_failed(done)
        shutil.rmtree(copy.work.root / stage / f"{copy.made(stage).id}.partial", ignore_errors=True)
    raise AssertionError


def check_failed(done: Done) -> None:
    """Of a full disk: one clear error, exit code 1."""
    check(done.code == 1 and CLEAR.search(done.err), f"no clear error, exit code {done.code}: {done.err}")
    check(re.search("disk is full|No space left|need .* MB, .* MB are free", done.err), f"another error: {done.err}")


@contextmanager
def disk_in_memory(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def leave_room(disk: Path, room: int) -> None:
    """Fill a disk up to so many bytes."""
    with (disk / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - room)


def shrink_disk(source: Path, stage: str, launch: Launch, folder: Path) -> str:
    """The stage in a work directory whose disk has room for a part of what it writes; in how many cases it failed."""
    linked = Copy(source, folder / "links").without(stage)
    own = sum(entry["size"] for entry in linked.made(stage).manifest["files"].values())
    whole = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    failed = 0
    for share in ROOM:
        try:
            with disk_in_memory(folder / f"{share}", 2 * whole + PEAK * own) as disk:
                copy = Copy(source, Path(shutil.copytree(linked.work.root, disk / "work")))
                before = copy.listed()
                leave_room(disk, int(own * share) + SLACK)
                done = launch(*copy.command(stage)).wait(300)
                if done.code:
                    check_failed(done)
                    check(copy.listed() == before, "old artifacts are harmed")
                    (disk / "ballast").unlink()
                    again = launch(*copy.command(stage)).wait(300)
                    check(again.code == 0, f"the rerun with room failed: {again.err}")
                    failed += 1
                copy.check_whole(stage)
        except (subprocess.CalledProcessError, FileNotFoundError):
            return "no mount"
    return f"{failed} of {len(ROOM)}"


def main() -> int:
    """Run the chosen stages and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--stages", default=",".join(name for name, stage in STAGES.items() if not stage.hidden))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-disk", action="store_true", help="kills only")
    options = parser.parse_args()
    heads = ("kills", "too late", "nothing", "draft left", "published", "resumed")
    bad = 0
    with tempfile.TemporaryDirectory(prefix="fusionctl-faults-") as name:
        folder, numbers = Path(name), itertools.count()

        def launch(*arguments: object, fault: Fault | None = None) -> Running:
            words = [str(a) for a in arguments]
            return Running(folder / "out" / str(next(numbers)), words, fault or Fault(), lambda done: None)

        tree = write_tree(folder / "tree")
        run_all(tree, folder / "work", launch)
        titles = "".join(f"{head:>12}" for head in (*heads, "full steps", "small disks"))
        sys.stdout.write(f"{'stage':<13}{titles}\n")
        for stage in options.stages.split(","):
            chance = random.Random(f"{options.seed} {stage}")
            try:
                found = kill_stage(Copy(folder / "work", folder / f"k-{stage}"), stage, launch, options.kills, chance)
                cells = [str(found[h]) for h in heads]
                if not options.no_disk:
                    steps = fill_disk(Copy(folder / "work", folder / f"d-{stage}"), stage, launch)
                    cells += [str(steps), shrink_disk(folder / "work", stage, launch, folder / f"s-{stage}")]
                line = "".join(f"{cell:>12}" for cell in cells) + "  same bytes"
            except (Broken, AssertionError) as error:
                bad, line = 1, f"  BROKEN: {error}"
            sys.stdout.write(f"{stage:<13}{line}\n")
            sys.stdout.flush()
    return bad


if __name__ == "__main__":
    raise SystemExit(main())
