"""The few ways in which fusionctl fails on purpose, one exit code each.

Everything that a user can cause or mend is a `FusionctlError`; the command line prints its message and hint on
standard error and exits with its code. Any other exception is a bug.
"""

from __future__ import annotations


class FusionctlError(Exception):
    """A failure that the user can understand and act on.

    Args:
        message: what is wrong: file, column, line, rule and received value, as far as known. Never a patient's id.
        hint: what to do next, as a sentence or a command.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class UsageError(FusionctlError):
    """An option has a value that its rule excludes, or options contradict each other."""

    exit_code = 2


class InputError(FusionctlError):
    """Input data, raw or an upstream artifact, is missing, unreadable or invalid."""

    exit_code = 3


class LeakError(InputError):
    """Information from the future or from another split would reach a model. The run stops."""


class StaleError(FusionctlError):
    """`status --check` found an artifact that a rerun would replace."""

    exit_code = 4


class LockedError(FusionctlError):
    """Another run is writing the same artifact."""

    exit_code = 5


class Interrupted(FusionctlError):
    """A signal stopped training; a checkpoint is saved and the same command resumes it."""

    exit_code = 75
