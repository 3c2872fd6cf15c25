"""A flipped byte, a lost file, a cut manifest: found on opening and named, with the command that mends it."""

import re
import shlex

import pytest

from faults.tiny import SHOWN
from fusionctl.workdir import MANIFEST

# Who opens the artifacts of a stage; the report is opened by nobody but the user, who asks for it again.
READERS = {
    "extract": "preprocess",
    "films": "preprocess",
    "preprocess": "pretrain-ehr",
    "pretrain-ehr": "fuse",
    "pretrain-cxr": "",
    "fuse": "evaluate",
    "evaluate": "report",
    "robustness": "report",
    "report": "report",
}
HINT = re.compile(r"-> rebuild it: (fusionctl .* --force --work-dir .*)$", re.MULTILINE)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def reader(copy, stage):
    """A command that opens a stage's artifact."""
    if stage == "pretrain-cxr":  # of the undisturbed run no model reads films
        return ["fuse", "--fusion", "cxr", "--work-dir", str(copy.work.root), "--pretrain-cxr", copy.made(stage).id]
    return copy.command(READERS[stage], *(["--force"] if READERS[stage] != stage else []))


@pytest.mark.parametrize("stage", SHOWN)
def test_every_file_is_checked_when_it_is_opened(copy, call, stage):
    """Each of a stage's files in turn: one byte is another one, then it is gone."""
    assert set(READERS) == set(SHOWN)
    before = copy.listed()
    words = reader(copy, stage)
    for name in copy.made(stage).manifest["files"]:
        path = copy.own(stage, name)
        whole = path.read_bytes()
        for damage, what in ((flip, r"differs from the manifest \(SHA-256\)"), (type(path).unlink, "No such file")):
            damage(path)
            result = call(*words)
            assert result.exit_code == 3, f"{name}: {result.output}"
            assert re.search(rf"artifact {stage}/\w+ is damaged: {re.escape(str(path))}: {what}", result.stderr)
            assert HINT.search(result.stderr)
        result = call(*copy.command(stage))  # "up to date" it is not
        assert result.exit_code == 3 and str(path) in result.stderr
        path.write_bytes(whole)
    assert copy.listed() == before


def test_a_damaged_cell_is_found_by_the_sweep_that_merges_it(copy, call, launch):
    again = copy.without("robustness").command("robustness")
    flip(copy.own("cell", "probabilities.npy"))
    result = call(*again)
    assert result.exit_code == 3 and "artifact cell/" in result.stderr and "SHA-256" in result.stderr
    done = launch(*shlex.split(HINT.search(result.stderr)[1])[1:], "--jobs", 1).wait()
    assert done.code == 0, done.text
    assert call(*again).exit_code == 0
    copy.made("robustness").verify()


@pytest.mark.parametrize("stage", ["extract", "preprocess", "evaluate"])
def test_the_command_of_the_error_mends_the_artifact(copy, call, launch, stage):
    flip(copy.own(stage, "tables.json" if stage == "evaluate" else "attrition.json"))
    command = HINT.search(call(*reader(copy, stage)).stderr)[1]
    assert str(copy.work.root) in command
    done = launch(*shlex.split(command)[1:]).wait()
    assert done.code == 0, done.text
    copy.check_whole(stage)


@pytest.mark.parametrize("stage", SHOWN)
@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "of another artifact"])
def test_a_damaged_manifest_is_named(copy, call, stage, damage):
    path = copy.own(stage, MANIFEST)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "changed":
        path.write_text(path.read_text().replace('"seed": ', '"seed": 1'))
    elif damage == "gone":
        path.unlink()
    else:
        path.write_text(path.read_text().replace(copy.made(stage).id, "0123456789ab"))
    for words in (["status", "--work-dir", copy.work.root], copy.command(stage)):
        result = call(*words)
        assert result.exit_code == 3, result.output
        assert f"artifact {stage}/{copy.made(stage).id}: manifest.json is unreadable: " in result.stderr
        assert f"remove the folder {path.parent}, then run the command again that made it" in result.stderr


def test_a_result_that_is_shown_again_is_checked_first(copy, call):
    copy.own("evaluate", "tables.json").write_text("[")
    result = call(*copy.command("evaluate"))
    assert result.exit_code == 3 and "tables.json: differs from the manifest (size)" in result.stderr


def test_a_copied_file_with_other_names_in_its_manifest_reaches_nothing_outside(copy, call):
    """Names in a manifest are no way out of the folder: what they lead to is compared, never shown or changed."""
    path = copy.own("evaluate", MANIFEST)
    path.write_text(path.read_text().replace('"tables.json"', '"../../../../../../etc/passwd"'))
    result = call(*copy.command("evaluate"))
    assert result.exit_code == 3 and "its content is not what was written" in result.stderr
