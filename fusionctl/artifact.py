"""An artifact: what a stage has published, or is writing, and the digests that tell whether it is intact."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusionctl.errors import InputError

MANIFEST = "manifest.json"
ID_DIGITS = 12
DIGEST = "digest"  # of the manifest itself: its SHA-256 without this entry
QUICK_BYTES = 16 << 20  # what is hashed of an artifact that is only asked whether it is there: a fraction of a second


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

    def verify(self, *, largest: int | None = None) -> Artifact:
        """Compare every file with the manifest's size and SHA-256.

        Args:
            largest: of files of more bytes the size alone is compared; None: all are read.

        Raises:
            InputError: naming the file that is missing or differs, with the command that makes the artifact again.
        """
        for name, expected in self.manifest["files"].items():
            path, hashed = self.file(name), largest is None or expected["size"] <= largest
            try:
                same = path.stat().st_size == expected["size"]
                intact = same and (not hashed or sha256(path) == expected["sha256"])
            except OSError as error:
                raise self._damaged(f"{path}: {error.strerror}") from error
            if not intact:
                raise self._damaged(f"{path}: differs from the manifest ({'SHA-256' if same else 'size'})")
        return self

    def _damaged(self, what: str) -> InputError:
        command = self.manifest.get("command", f"fusionctl {self.stage}")
        where = shlex.quote(str(self.path.parents[1]))
        hint = f"rebuild it: {command} --force --work-dir {where}"
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


def artifact_id(identity: Mapping[str, Any]) -> str:
    """Id of what `identity` determines: the first digits of the SHA-256 of its canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content, without the entry that holds it."""
    content = {name: value for name, value in manifest.items() if name != DIGEST}
    return hashlib.sha256(to_json(json.loads(json.dumps(content))).encode()).hexdigest()


def to_json(content: Any) -> str:
    """JSON with sorted keys and one value per line."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode() + "\n"  # a path that is no text stays valid JSON


def sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_gone(path: Path) -> bool:
    """Whether a file has been removed already: NFS keeps one that is still open under such a name, until it is not."""
    return path.name.startswith(".nfs")


def inventory(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below a folder but the manifest."""
    files = sorted(p for p in folder.rglob("*") if p.name != MANIFEST and not is_gone(p) and p.is_file())
    return {p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": sha256(p)} for p in files}
