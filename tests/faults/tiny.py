"""A tiny run of the whole pipeline, and cheap copies of it to break."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.child import Done, Running
from fusionctl.stages import STAGES
from fusionctl.workdir import Artifact, Work

STAYS = 60
MODELS = ("ehr", "logistic")
SHOWN = tuple(name for name, stage in STAGES.items() if not stage.hidden)  # those that have a command
TINY = (
    "films.film_size=32",
    "pretrain-ehr.epochs=2",
    "pretrain-ehr.hidden=8",
    "fuse.epochs=2",
    "evaluate.resamples=20",
    "robustness.resamples=10",
)


def write_tree(root: Path) -> Path:
    """Raw folders of a few synthetic stays."""
    from fusionctl.data import synth

    synth.write_tree(root, stays=STAYS, layout="v2", seed=2)
    return root


def run_all(tree: Path, work: Path, launch: Callable[..., Running]) -> Done:
    """Every stage, once; `launch` starts a command."""
    settings = [part for text in TINY for part in ("--set", text)]
    roots = ("--mimic-root", tree / "mimic-iv", "--cxr-root", tree / "mimic-cxr-jpg")
    options = ("--preset", "demo", "--noise", "0.3", "--jobs", 1, "--models", ",".join(MODELS))
    done = launch("run", *roots, "--work-dir", work, *options, *settings).wait(300)
    assert done.code == 0, done.text
    films = ("--task", "radiology", "--epochs", 2, "--input-size", 32)
    more = launch("pretrain-cxr", "--work-dir", work, "--preset", "demo", "--jobs", 1, *films).wait(300)
    assert more.code == 0, more.text
    return Done(0, done.out + more.out, done.err + more.err, done.steps + more.steps)


class Copy:
    """A copy of the undisturbed work directory, cheap: its files are the same on disk until they are replaced."""

    def __init__(self, source: Path, root: Path) -> None:
        self.source, self.work = Work(source), Work(root)
        if not root.exists():
            shutil.copytree(source, root, copy_function=os.link)

    def made(self, stage: str) -> Artifact:
        """The undisturbed artifact of a stage; of fuse, the network's."""
        return next(a for a in self.source.artifacts(stage) if a.setting("fusion") in (None, MODELS[0]))

    def command(self, stage: str, *more: Any) -> list[str]:
        """The command that the artifact's manifest tells."""
        words = shlex.split(self.made(stage).manifest["command"])
        return [*words[1:], "--work-dir", str(self.work.root), "--jobs", "1", *map(str, more)]

    def without(self, stage: str) -> Copy:
        """This copy as it was just before a stage ran."""
        folder = self.work.root / stage
        shutil.rmtree(folder if stage != "fuse" else folder / self.made(stage).id)
        return self

    def own(self, stage: str, name: str) -> Path:
        """One of an artifact's files, which is this copy's alone from now on."""
        path = self.work.path(stage, self.made(stage).id) / name
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        return path

    def listed(self) -> dict[str, set[str]]:
        """What is published, every file of it verified."""
        return {name: {a.verify().id for a in self.work.artifacts(name)} for name in STAGES}

    def check_whole(self, stage: str) -> None:
        """The stage's artifact has the bytes of the undisturbed one, and nothing else is left of the stage."""
        made = self.made(stage)
        again = self.work.get(stage, made.id)
        assert again is not None, f"{stage}/{made.id} is not published"
        assert again.verify().manifest["files"] == made.manifest["files"], f"{stage}: other bytes"
        names = {path.name for path in (self.work.root / stage).iterdir()}
        assert names == {a.id for a in self.work.artifacts(stage)}, f"left over: {sorted(names)}"
