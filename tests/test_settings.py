"""What the settings take from the place where a process runs."""

import pytest

from fusionctl import settings


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 8),
        ({"SLURM_CPUS_PER_TASK": "3"}, 3),  # a cluster that binds no task to its processors
        ({"SLURM_CPUS_PER_TASK": "64"}, 8),
        ({"SLURM_CPUS_PER_TASK": "0"}, 1),
        ({"LOCAL_WORLD_SIZE": "4"}, 2),
        ({"SLURM_CPUS_PER_TASK": "4", "LOCAL_WORLD_SIZE": "4"}, 1),
        ({"SLURM_CPUS_PER_TASK": "many", "LOCAL_WORLD_SIZE": "many"}, 8),
    ],
)
def test_a_process_uses_the_processors_of_its_share(monkeypatch, variables, expected):
    for name in ("SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings.os, "sched_getaffinity", lambda pid: range(8), raising=False)
    assert settings.default_jobs() == expected
