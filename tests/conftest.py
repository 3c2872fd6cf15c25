"""Fixtures for all tests: one thread, one tiny synthetic tree a session."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """A developer's own FUSIONCTL_* variables must not reach the tests."""
    for name in [n for n in os.environ if n.startswith("FUSIONCTL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """A tiny synthetic tree: `mimic-iv/` and `mimic-cxr-jpg/`. Read only."""
    from fusionctl.data import synth

    root = tmp_path_factory.mktemp("odd 'path") / "raw"
    synth.write_tree(root, stays=60, layout="v2", seed=1)
    return root
