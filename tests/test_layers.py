"""Code depends downwards only, and the command line stays light."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "fusionctl"

# Lower layers first; a module may import only from its own layer's unit or from layers below it.
LAYERS = (
    ("errors", "durable", "lock", "stopping", "parquet"),
    ("settings", "presets", "artifact", "workdir", "model_name", "fingerprint", "checkpoint", "distributed", "staging"),
    (
        "data",
        "tasks",
        "fusion",
        "models",
        "losses",
        "loop",
        "noise",
        "corruption",
        "corruptions",
        "metrics",
        "ranking",
        "_boot",
        "resampling",
        "intervals",
        "comparisons",
        "calibration",
        "decision",
        "evaluation",
        "subgroups",
        "taskwise",
        "terminal",
        "curves",
        "disclosure",
        "tabular",
        "report",
    ),
    ("stages",),
    (
        "config",
        "common_checks",
        "resolve",
        "plan",
        "manifest",
        "pipeline",
        "failures",
        "inventory",
        "sweep",
        "session",
        "console",
        "options",
        "catalogue",
        "doctor",
        "export_slurm",
    ),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def unit(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rank(name: str) -> int:
    known = [n for n in RANK if name == n or name.startswith(f"{n}_")]
    assert known, f"{name} has no place in the layers"
    return RANK[max(known, key=len)]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "fusionctl":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("fusionctl.")}
    return found - {"__version__"}


def test_imports_point_downwards():
    for path in PACKAGE.rglob("*.py"):
        if unit(path) in ("__init__", "__main__"):
            continue
        above = [name for name in imports(path) if rank(name) > rank(unit(path))]
        assert not above, f"{path.relative_to(PACKAGE)} imports {above} from a layer above it"


def test_a_stage_never_imports_another_stage():
    for path in (PACKAGE / "stages").glob("*.py"):
        assert path.name == "__init__.py" or "stages" not in imports(path), path.name


def test_help_imports_nothing_heavy():
    heavy = "torch torchvision pandas polars sklearn matplotlib cv2 numpy"
    code = f"import sys, fusionctl.cli; print([m for m in {heavy.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_pickled_and_nothing_reaches_the_network():
    for path in PACKAGE.rglob("*.py"):
        names = {
            n.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import) for n in node.names
        }
        assert not names & {"pickle", "dill", "socket", "urllib", "requests", "http"}, path.name
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text and "torch.save(" not in text, path.name


def test_polars_takes_no_path_for_a_pattern():
    """A work directory may be called `w[1]`."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            in_memory = path.name == "tables.py"  # text, no path
            if re.fullmatch("(read|scan)_(parquet|csv|ipc|ndjson)", name) and not in_memory:
                told = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert told.get("glob") == "False", f"{path.relative_to(PACKAGE)}: {name} without glob=False"


def test_every_dependency_is_pinned_by_digest():
    """And by nothing that names where packages come from: that is for whoever installs to say."""
    root = PACKAGE.parent
    text = (root / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-z0-9-]+)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^\S", text, re.MULTILINE)) > 0
    assert "://" not in text and "--index" not in text and "--find-links" not in text
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dicom"]]
    assert {re.match(r"[A-Za-z0-9-]+", entry)[0].lower() for entry in wanted} <= set(pinned)
