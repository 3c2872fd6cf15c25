"""For all tests: one thread, and no settings from outside."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# A busy machine is no failure of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """A developer's own FUSIONCTL_* variables must not reach the tests."""
    for name in [n for n in os.environ if n.startswith("FUSIONCTL_")]:
        monkeypatch.delenv(name)
