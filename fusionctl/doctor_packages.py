"""What is installed: Python, the packages that fusionctl requires, and its optional and compiled parts."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata

# Distributions whose module has another name.
_MODULES = {
    "opencv-python-headless": "cv2",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}
_OPTIONAL = {"pydicom": "reads films that are DICOM files", "isal": "inflates .csv.gz four times as fast"}
# Modules that are C where there was a compiler at installation, and what they speed up.
COMPILED = {"fusionctl.data._scan": "reading raw tables", "fusionctl._boot": "bootstrap intervals"}


@dataclass(frozen=True, kw_only=True)
class Package:
    """A requirement and what is installed of it.

    Attributes:
        name: of the distribution.
        requirement: as pip takes it.
        version: what is installed; empty: none.
        problem: why it does not do; empty: it does.
        use: what an optional one is for.
    """

    name: str
    requirement: str
    version: str = ""
    problem: str = ""
    use: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What `look` found."""

    python: str
    torch: str
    needed: list[Package]
    optional: list[Package]
    compiled: Mapping[str, str] = field(default_factory=lambda: COMPILED)
    compiled_there: frozenset[str] = frozenset()


def look() -> Facts:
    """Look at this interpreter's packages; imports every one of them, as a broken one breaks a stage later."""
    found = [_package(text) for text in requirements()]
    there = frozenset(name for name in COMPILED if importlib.util.find_spec(name))
    return Facts(
        python=f"{platform.python_version()} ({sys.executable})",
        torch=_torch(),
        needed=[package for package in found if not package.use],
        optional=[package for package in found if package.use],
        compiled_there=there,
    )


def requirements() -> list[str]:
    """What this installation of fusionctl requires, and the optional parts, as pip takes them."""
    try:
        listed = metadata.requires("fusionctl") or []
    except metadata.PackageNotFoundError:  # run from its sources
        listed = []
    parts = [text.partition(";") for text in listed]
    wanted = [need.strip() for need, _, marker in parts if 'extra == "dev"' not in marker]
    return list(dict.fromkeys(wanted))


def _package(requirement: str) -> Package:
    name = (re.match(r"[A-Za-z0-9._-]+", requirement) or [""])[0]
    use = _OPTIONAL.get(name, "")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Package(name=name, requirement=requirement, problem="not installed", use=use)
    least = re.search(r">=\s*([0-9.]+)", requirement)
    problem = ""
    if least and numbers(version) < numbers(least[1]):
        problem = f"{version} is older than {least[1]}"
    elif error := _broken(_MODULES.get(name, name.replace("-", "_"))):
        problem = f"{version} is installed but cannot be imported: {error}"
    return Package(name=name, requirement=requirement, version=version, problem=problem, use=use)


def numbers(version: str) -> tuple[int, ...]:
    """The numbers at the start of a version: (2, 10, 0) of "2.10.0+cpu"."""
    return tuple(int(part) for part in re.findall(r"\d+", (re.match(r"[\d.]+", version) or [""])[0]))


def _broken(module: str) -> str:
    try:
        importlib.import_module(module)
    except Exception as error:  # a library of another version fails with whatever it likes
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return ""


def _torch() -> str:
    try:
        import torch
    except Exception as error:
        return f"cannot be imported: {type(error).__name__}"
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs"
    return f"{torch.__version__}, built {built}"
