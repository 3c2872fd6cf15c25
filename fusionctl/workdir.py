"""The work directory: the only owner of paths, ids, manifests, locks and atomic writes.

    work/<stage>/<id>/            a published artifact; manifest.json is written last, then the folder is renamed here
    work/<stage>/<id>.partial/    being written, or left by a killed run; never listed, replaced or resumed by a rerun
    work/<stage>/<id>.lock        held by the run that writes it (exclusive creation: works on NFS, unlike flock)

An id is a hash of what determines the content: stage, schema version, settings, seed where it matters, and the
identities of the inputs, taken before the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusionctl.durable import replace, sync
from fusionctl.errors import FusionctlError, InputError, LockedError

MANIFEST = "manifest.json"
ID_DIGITS = 12


@dataclass(frozen=True)
class Artifact:
    """A published result of a stage; its files never change."""

    stage: str
    id: str
    path: Path
    manifest: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """Path of one of the artifact's files."""
        return self.path / name

    def json(self, name: str) -> Any:
        """Parsed content of one of the artifact's JSON files."""
        return json.loads(self.file(name).read_text(encoding="utf-8"))

    def setting(self, name: str) -> Any:
        """Value of a setting that the artifact was made with, or None."""
        return self.manifest["settings"].get(name, {}).get("value")

    def verify(self) -> Artifact:
        """Compare every file with the manifest's size and SHA-256.

        Raises:
            InputError: naming the file that is missing or differs.
        """
        for name, expected in self.manifest["files"].items():
            path = self.file(name)
            try:
                intact = path.stat().st_size == expected["size"] and sha256(path) == expected["sha256"]
            except OSError as error:
                raise self._damaged(f"{path}: {error.strerror}") from error
            if not intact:
                raise self._damaged(f"{path}: differs from the manifest (size or SHA-256)")
        return self

    def _damaged(self, what: str) -> InputError:
        hint = f"rebuild it: fusionctl {self.stage} --force, with the settings listed by: fusionctl status"
        return InputError(f"artifact {self.stage}/{self.id} is damaged: {what}", hint=hint)


@dataclass
class Draft:
    """An artifact being written. Stages put files into `path`, row counts into `rows`, other facts into `facts`."""

    path: Path
    rows: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """Path at which to write a file of the artifact."""
        return self.path / name

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file with sorted keys (same content, same bytes)."""
        self.file(name).write_text(to_json(content), encoding="utf-8")


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
            manifest["files"], manifest["settings"], manifest["created"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = f"remove the folder {path} and rerun: fusionctl {stage}"
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
        """Hold the lock of one artifact. A lock whose holder on this host is dead is freed.

        Raises:
            LockedError: another run holds it.
        """
        import filelock

        folder = self.root / stage
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = filelock.SoftFileLock(folder / f"{artifact_id}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            holder = " ".join((folder / f"{artifact_id}.lock").read_text(encoding="utf-8").split()[:2]) or "unknown"
            raise LockedError(
                f"{stage}/{artifact_id} is being written by another run (process and host: {holder})",
                hint=f"wait for it, or, if that host is gone, remove {folder / (artifact_id + '.lock')}",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def check_no_shard(self, stage: str, artifact_id: str) -> None:
        """Check that no job is at work on a share of an artifact.

        Raises:
            LockedError: one is.
        """
        for path in sorted((self.root / stage).glob(f"{artifact_id}.shard-*.lock")):
            with self.lock(stage, path.name.removesuffix(".lock")):
                pass

    def draft(self, stage: str, artifact_id: str, *, resume: bool) -> Draft:
        """An empty folder to write into; with `resume`, what a stopped run left there is kept."""
        path = self.root / stage / f"{artifact_id}.partial"
        if not resume:
            shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Draft(path)

    def publish(self, draft: Draft, manifest: dict[str, Any]) -> Artifact:
        """Write the manifest last, force everything to disk, and rename the folder to its final name."""
        stage, artifact_id = manifest["stage"], manifest["id"]
        manifest = {**manifest, "rows": draft.rows, **draft.facts, "files": _inventory(draft.path)}
        draft.write_json(MANIFEST, manifest)
        for path in draft.path.rglob("*"):
            sync(path)
        final = self.path(stage, artifact_id)
        replaced = final.with_name(f"{artifact_id}.replaced")
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            os.replace(final, replaced)
        replace(draft.path, final)
        shutil.rmtree(replaced, ignore_errors=True)
        return Artifact(stage, artifact_id, final, manifest)

    def leftovers(self) -> list[Path]:
        """Folders of killed runs, which nothing lists or reads."""
        return sorted(p for p in self.root.glob("*/*") if p.suffix in (".partial", ".replaced"))


def artifact_id(identity: Mapping[str, Any]) -> str:
    """Id of what `identity` determines: the first digits of the SHA-256 of its canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def to_json(content: Any) -> str:
    """JSON with sorted keys and one value per line."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inventory(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": sha256(p)} for p in files}


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
