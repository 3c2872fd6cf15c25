"""Artifacts: published whole or not at all, found again, checked on open."""

import json
import os
import subprocess
import sys

import pytest

from fusionctl.errors import InputError, LockedError
from fusionctl.workdir import Work, artifact_id


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "odd 'work\" dir")


def publish(work, stage="extract", id="0123456789ab", content=b"abc", **manifest):
    draft = work.draft(stage, id, resume=False)
    draft.file("data.bin").write_bytes(content)
    draft.rows["data"] = 3
    base = {"stage": stage, "id": id, "created": "2026-01-01T00:00:00+00:00", "settings": {}, "inputs": {}, "raw": {}}
    return work.publish(draft, {**base, "schema_version": 1, "seed": None, "sensitivity": "synthetic", **manifest})


def test_a_draft_is_invisible_until_it_is_published(work):
    draft = work.draft("extract", "0123456789ab", resume=False)
    draft.file("data.bin").write_bytes(b"abc")
    assert work.artifacts("extract") == []
    assert work.get("extract", "0123456789ab") is None
    assert work.leftovers() == [draft.path]


def test_a_published_artifact_has_its_manifest_and_no_partial_folder(work):
    artifact = publish(work)
    assert [a.id for a in work.artifacts("extract")] == [artifact.id]
    assert work.leftovers() == []
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    assert manifest["files"]["data.bin"]["size"] == 3
    assert manifest["rows"] == {"data": 3}
    assert artifact.verify() is artifact


def test_publishing_again_replaces_the_artifact(work):
    publish(work, content=b"old")
    artifact = publish(work, content=b"new")
    assert artifact.file("data.bin").read_bytes() == b"new"
    assert [p.name for p in artifact.path.parent.iterdir()] == [artifact.id]


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damage_to_a_file_is_named(work, damage):
    artifact = publish(work)
    path = artifact.file("data.bin")
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(b"abd" if damage == "flip" else b"ab")
    with pytest.raises(InputError, match=r"extract/0123456789ab is damaged: .*data\.bin") as caught:
        artifact.verify()
    assert "fusionctl extract --force --work-dir " in caught.value.hint


def test_a_truncated_manifest_is_named(work):
    artifact = publish(work)
    (artifact.path / "manifest.json").write_text('{"id": "01')
    with pytest.raises(InputError, match="manifest.json is unreadable"):
        work.artifacts("extract")


def test_find_takes_the_first_digits_and_refuses_to_guess(work):
    publish(work, id="0123456789ab")
    publish(work, id="0123ffffffff")
    assert work.find("extract", "01234").id == "0123456789ab"
    with pytest.raises(InputError, match="2 artifacts match"):
        work.find("extract", "0123")
    with pytest.raises(InputError, match="0 artifacts match"):
        work.find("extract", "9")


def test_the_same_artifact_is_not_written_twice_at_once(work):
    again = Work(work.root).lock("extract", "0123456789ab")
    with work.lock("extract", "0123456789ab"), pytest.raises(LockedError, match=str(os.getpid())) as caught, again:
        pass
    assert caught.value.exit_code == 5
    with work.lock("extract", "0123456789ab"):
        pass


def test_the_lock_of_a_dead_run_is_freed(work):
    code = (
        "import os, sys; from pathlib import Path; from fusionctl.workdir import Work\n"
        "with Work(Path(sys.argv[1])).lock('extract', '0123456789ab'): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(work.root)], check=False).returncode == 9
    assert (work.root / "extract" / "0123456789ab.lock").exists()
    with work.lock("extract", "0123456789ab"):
        pass


def test_a_resumed_draft_keeps_what_the_stopped_run_left(work):
    work.draft("fuse", "0123456789ab", resume=False).file("checkpoint").write_text("x")
    assert work.draft("fuse", "0123456789ab", resume=True).file("checkpoint").read_text() == "x"
    assert not work.draft("fuse", "0123456789ab", resume=False).file("checkpoint").exists()


def test_an_id_depends_on_content_and_not_on_order():
    assert artifact_id({"a": 1, "b": [2]}) == artifact_id({"b": [2], "a": 1})
    assert artifact_id({"a": 1}) != artifact_id({"a": 2})
    assert len(artifact_id({})) == 12


def test_a_changed_manifest_is_not_believed(work):
    path = publish(work).path / "manifest.json"
    path.write_text(path.read_text().replace('"data": 3', '"data": 4'))
    with pytest.raises(InputError, match="its content is not what was written"):
        work.artifacts("extract")


def test_of_large_files_the_size_alone_is_looked_at_where_that_is_enough(work):
    artifact = publish(work)
    artifact.file("data.bin").write_bytes(b"abd")
    assert artifact.verify(largest=2) is artifact
    with pytest.raises(InputError, match="differs from the manifest .SHA-256"):
        artifact.verify(largest=3)
    artifact.file("data.bin").write_bytes(b"ab")
    with pytest.raises(InputError, match="differs from the manifest .size"):
        artifact.verify(largest=2)


def test_an_artifact_that_cannot_be_replaced_stays(work, monkeypatch):
    publish(work, content=b"old")

    def fail(written, final):
        raise OSError(28, "No space left on device", str(final))

    monkeypatch.setattr("fusionctl.workdir.replace", fail)
    with pytest.raises(OSError, match="No space"):
        publish(work, content=b"new")
    assert work.get("extract", "0123456789ab").verify().file("data.bin").read_bytes() == b"old"


def test_an_artifact_that_a_killed_run_was_replacing_is_there_again(work):
    artifact = publish(work, content=b"old")
    artifact.path.rename(artifact.path.with_name(f"{artifact.id}.replaced"))
    assert work.artifacts("extract") == [] and len(work.leftovers()) == 1
    with work.lock("extract", artifact.id):
        assert work.get("extract", artifact.id).verify()
    assert work.leftovers() == []


def test_what_a_run_or_a_share_is_writing_is_not_left_over(work):
    draft = work.draft("films", "0123456789ab", resume=False)
    for name in ("0123456789ab", "0123456789ab.shard-1-of-2"):
        with work.lock("films", name):
            assert work.leftovers() == []
        assert work.leftovers() == [draft.path]


def test_what_is_not_of_a_run_is_no_leftover(work):
    """Whatever lies beside the stages, in a folder that holds more than a work directory."""
    for name in ("Downloads/thesis.partial", "extract/0123.partial", "extract/0123456789ab.shard.partial"):
        (work.root / name).mkdir(parents=True)
    (work.root / "extract/0123456789ab.partial").write_text("a file")
    (work.root / "extract/0123456789ac.partial").symlink_to(work.root)
    assert work.leftovers() == []


def test_what_is_at_work_is_not_removed(work):
    """Not even where it began after the list was made."""
    draft, artifact = work.draft("films", "0123456789ab", resume=False), publish(work, "films", "0123456789ac")
    for path in (draft.path, artifact.path):
        for name in (path.stem, f"{path.stem}.shard-1-of-2"):
            with work.lock("films", name):
                assert not work.remove(path) and path.exists()
        assert work.remove(path) and not path.exists()
    assert work.remove(draft.path), "a run that has ended since has published it"
    assert list((work.root / "films").iterdir()) == []


def test_a_full_disk_can_be_cleaned(work, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    draft = work.draft("films", "0123456789ab", resume=False)
    with work.lock("films", "0123456789ab"), monkeypatch.context() as patched:
        patched.setattr("fusionctl.lock._write", full)
        assert not work.remove(draft.path)
    monkeypatch.setattr("fusionctl.lock._write", full)
    assert work.remove(draft.path) and not draft.path.exists()


def test_a_file_that_nfs_keeps_for_a_reader_is_no_part_of_the_artifact(work, monkeypatch):
    def sync_or_fail(path):
        assert not path.name.startswith(".nfs"), "it may be gone by now"

    monkeypatch.setattr("fusionctl.workdir.sync", sync_or_fail)
    draft = work.draft("extract", "0123456789ab", resume=False)
    (draft.path / "sub").mkdir()
    for name in ("sub/.nfs000000000002c0de0000002b", "sub/data.bin"):
        draft.file(name).write_bytes(b"abc")
    facts = {"stage": "extract", "id": "0123456789ab", "created": "2026-01-01T00:00:00+00:00", "settings": {}}
    artifact = work.publish(draft, facts)
    assert list(artifact.manifest["files"]) == ["sub/data.bin"]
    artifact.file("sub/.nfs000000000002c0de0000002b").unlink()
    artifact.verify()


def test_a_draft_that_cannot_be_emptied_is_not_written_into(work, monkeypatch):
    work.draft("extract", "0123456789ab", resume=False).file("old").write_text("x")

    def busy(path):
        raise OSError(39, "Directory not empty", str(path))

    monkeypatch.setattr("fusionctl.workdir.shutil.rmtree", busy)
    with pytest.raises(OSError, match="not empty"):
        work.draft("extract", "0123456789ab", resume=False)
