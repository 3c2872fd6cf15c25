"""Commands that run inside the tests set up logging for a terminal; the tests after them want it as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _logging_as_before() -> Iterator[None]:
    log = logging.getLogger("fusionctl")
    before = log.handlers[:], log.propagate, log.level
    yield
    log.handlers[:], log.propagate = before[:2]
    log.setLevel(before[2])
