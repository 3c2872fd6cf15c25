"""fusionctl: from raw MIMIC-IV and MIMIC-CXR files to multimodal clinical predictions."""

__version__ = "0.1.0"
