"""The encoders' own heads in a fusion: used as they are, or at rest."""

from __future__ import annotations

from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder


def check_outputs(ehr: EhrEncoder, n_outputs: int) -> None:
    """Check that the series' own head, which the model predicts with, is of the same labels.

    Raises:
        ValueError: it has another number of outputs.
    """
    if ehr.head.out_features != n_outputs:
        raise ValueError(f"ehr.head has {ehr.head.out_features} outputs; expected one a label, {n_outputs}")


def rest(*encoders: EhrEncoder | CxrEncoder) -> None:
    """Train heads no further that are part of the model, as in the paper's count, but not of its prediction."""
    for encoder in encoders:
        encoder.head.requires_grad_(False)
