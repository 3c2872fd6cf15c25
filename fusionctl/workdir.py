"""The work directory: the only owner of paths, ids, manifests, locks and atomic writes.

    work/<stage>/<id>/            a published artifact; manifest.json is written last, then the folder is renamed here
    work/<stage>/<id>.partial/    being written, or left by a killed run; never listed, replaced or resumed by a rerun
    work/<stage>/<id>.replaced/   the artifact that a forced run is replacing at this moment
    work/<stage>/<id>.lock        held by the run that writes it (see lock.py)

An id is a hash of what determines the content: stage, schema version, settings, seed where it matters, and the
identities of the inputs, taken before the run.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fusionctl import lock
from fusionctl.artifact import (
    DIGEST,
    ID_DIGITS,
    MANIFEST,
    QUICK_BYTES,
    Artifact,
    Draft,
    artifact_id,
    digest,
    inventory,
    is_gone,
    to_json,
)
from fusionctl.durable import replace, sync
from fusionctl.errors import FusionctlError, InputError, LockedError

__all__ = ["MANIFEST", "QUICK_BYTES", "Artifact", "Draft", "Work", "artifact_id", "to_json", "writable"]

_LEFTOVER = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}\.(partial|replaced)")


class Work:
    """A work directory. Creating the object creates nothing on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, stage: str, artifact_id: str) -> Path:
        """Where an artifact is, or will be, published."""
        return self.root / stage / artifact_id

    def artifacts(self, stage: str) -> list[Artifact]:
        """All published artifacts of a stage, oldest first.

        Raises:
            InputError: a published folder has no readable manifest.
        """
        folder = self.root / stage
        try:
            names = [p.name for p in folder.iterdir() if p.is_dir() and "." not in p.name]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"{folder}: {error.strerror}", hint="check the permissions of --work-dir") from error
        found = [self.get(stage, name) for name in names]
        return sorted((a for a in found if a), key=lambda a: (a.manifest["created"], a.id))

    def get(self, stage: str, artifact_id: str) -> Artifact | None:
        """The published artifact with this id, or None."""
        path = self.path(stage, artifact_id)
        if not path.is_dir():
            return None
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            if manifest["id"] != artifact_id or manifest["stage"] != stage:
                raise ValueError(f"it is the manifest of {manifest['stage']}/{manifest['id']}")
            if manifest.get(DIGEST, digest(manifest)) != digest(manifest):
                raise ValueError("its content is not what was written")
            manifest["files"], manifest["settings"], manifest["created"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if not path.is_dir():
                return None  # a forced run has replaced it, or somebody removed it, between the two looks
            hint = f"remove the folder {path}, then run the command again that made it: fusionctl {stage} ..."
            raise InputError(f"artifact {stage}/{artifact_id}: {MANIFEST} is unreadable: {error}", hint=hint) from error
        return Artifact(stage, artifact_id, path, manifest)

    def find(self, stage: str, prefix: str) -> Artifact:
        """The one artifact of a stage whose id starts with `prefix`.

        Raises:
            InputError: there is none, or more than one.
        """
        matches = [a for a in self.artifacts(stage) if a.id.startswith(prefix)]
        if len(matches) == 1:
            return matches[0]
        known = ", ".join(a.id for a in self.artifacts(stage)) or "none"
        raise InputError(
            f"--{stage} {prefix}: {len(matches)} artifacts match; there are: {known}",
            hint="fusionctl status lists them",
        )

    @contextmanager
    def lock(self, stage: str, artifact_id: str) -> Iterator[None]:
        """Hold the lock of one artifact, or of one share of it.

        Raises:
            LockedError: another run holds it.
        """
        folder = self.root / stage
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with lock.held(self._lock(stage, artifact_id), f"{stage}/{artifact_id}"):
            self._put_back(stage, artifact_id)
            yield

    def check_free(self, stage: str, artifact_id: str) -> None:
        """Check that no run is at work on an artifact, without standing in the way of others that ask.

        Raises:
            LockedError: one is.
        """
        lock.check_free(self._lock(stage, artifact_id), f"{stage}/{artifact_id}")

    def sweep_lock(self, stage: str, artifact_id: str) -> None:
        """Remove the lock of a run that was killed just after it had published."""
        lock.sweep(self._lock(stage, artifact_id))

    def check_no_shard(self, stage: str, artifact_id: str) -> None:
        """Check that no job is at work on a share of an artifact.

        Raises:
            LockedError: one is.
        """
        for path in sorted((self.root / stage).glob(f"{artifact_id}.shard-*.lock")):
            self.check_free(stage, path.name.removesuffix(".lock"))

    def _lock(self, stage: str, artifact_id: str) -> Path:
        return self.root / stage / f"{artifact_id}.lock"

    def _put_back(self, stage: str, artifact_id: str) -> None:
        """Publish the old artifact again where a run was killed just when it was replacing it."""
        final = self.path(stage, artifact_id)
        replaced = _replaced(final)
        if replaced.exists() and not final.exists():
            os.replace(replaced, final)

    def draft(self, stage: str, artifact_id: str, *, resume: bool) -> Draft:
        """An empty folder to write into; with `resume`, what a stopped run left there is kept."""
        path = self.root / stage / f"{artifact_id}.partial"
        if path.exists() and not resume:
            shutil.rmtree(path)  # what cannot be removed must not be published
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Draft(path)

    def publish(self, draft: Draft, manifest: dict[str, Any]) -> Artifact:
        """Write the manifest last, force everything to disk, and rename the folder to its final name."""
        stage, artifact_id = manifest["stage"], manifest["id"]
        manifest = {**manifest, "rows": draft.rows, **draft.facts, "files": inventory(draft.path)}
        manifest[DIGEST] = digest(manifest)
        draft.write_json(MANIFEST, manifest)
        for path in draft.path.rglob("*"):
            if not is_gone(path):
                sync(path)
        final = self.path(stage, artifact_id)
        replaced = _replaced(final)
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            os.replace(final, replaced)
        try:
            replace(draft.path, final)
        except BaseException:
            self._put_back(stage, artifact_id)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
        return Artifact(stage, artifact_id, final, manifest)

    def leftovers(self) -> list[Path]:
        """Folders of killed runs, which nothing lists or reads; not those that a run or a share is writing now."""
        found = [p for p in self.root.glob("*/*") if _LEFTOVER.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]
        return sorted(p for p in found if all(map(lock.is_free, p.parent.glob(f"{p.stem}.*lock"))))

    def remove(self, path: Path) -> bool:
        """Remove an artifact or a leftover, unless a run or a share is at work on it; says whether it is gone."""
        stage, artifact_id = path.parent.name, path.stem
        with ExitStack() as alone:
            try:
                self.check_free(stage, artifact_id)
                with _full_disk_allowed():
                    alone.enter_context(lock.held(self._lock(stage, artifact_id), f"{stage}/{artifact_id}"))
                self.check_no_shard(stage, artifact_id)
            except LockedError:
                return False
            if path.exists():  # a run that has ended since may have published it
                shutil.rmtree(path)
        return True


def _replaced(final: Path) -> Path:
    return final.with_name(f"{final.name}.replaced")


@contextmanager
def _full_disk_allowed() -> Iterator[None]:
    """Go on without a lock that a full disk has no room for: no run can begin there, and removing mends it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def writable(root: Path) -> None:
    """Create the work directory and prove that files can be written there.

    Raises:
        FusionctlError: it is read-only, full, or not a directory.
    """
    probe = root / f".write-test-{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        probe.unlink(missing_ok=True) if root.is_dir() and os.access(root, os.W_OK) else None
        raise FusionctlError(f"--work-dir {root}: {error.strerror}", hint="choose a folder you can write to") from error
