"""Protocol `legacy` against the samples and tensors that the reference's own code makes of the open MIMIC-IV demo."""

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fusionctl.cli import app

ROOT = Path(__file__).parents[1]
DEMO = ROOT.parent / "shared" / "data" / "mimic-iv-demo"

pytestmark = pytest.mark.skipif(not DEMO.is_dir(), reason="the MIMIC-IV demo is not here")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_legacy", ROOT / "examples" / "compare_legacy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(stage, work, *options):
    """A stage in protocol legacy, in this process: the folder of its artifact."""
    arguments = [stage, "--protocol", "legacy", "--work-dir", work, "--quiet", *options]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return Path(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legacy")
    call("extract", folder, "--mimic-root", DEMO / "mimic-iv")
    return folder


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("task", ["in-hospital-mortality", "phenotyping"])
def test_the_same_samples_and_at_least_999_of_1000_cells(script, work, task, step):
    folder = call("preprocess", work, "--task", script.TASKS[task], "--timestep", step)
    found = script.compare(folder, DEMO / "truth", task, step)
    assert found["stays"] == len((DEMO / "truth" / f"{task}_samples.csv").read_text().splitlines()) - 1 > 20
    assert found["labels differing"] == 0
    assert found["largest difference of periods, h"] <= script.PERIOD_HOURS
    assert found["cells"] > 40_000
    assert found["cells differing"] / found["cells"] <= 1 - script.TARGET, found


def test_the_other_protocol_is_not_what_the_reference_does(script, work, tmp_path):
    """So the comparison can fail: grids of protocol paper differ in far more cells."""
    paper = tmp_path / "paper"
    for stage, options in (("extract", ("--mimic-root", DEMO / "mimic-iv")), ("preprocess", ("--timestep", 1))):
        result = CliRunner().invoke(app, [str(a) for a in (stage, "--work-dir", paper, "--quiet", *options)])
        assert result.exit_code == 0, result.output
    found = script.compare(Path(result.stdout.splitlines()[-1]), DEMO / "truth", "in-hospital-mortality", 1)
    assert found["labels differing"] == 0 and found["cells differing"] / found["cells"] > 1 - script.TARGET
