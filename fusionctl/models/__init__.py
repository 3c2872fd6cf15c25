"""The encoders, one per modality: plain modules with `dim`, `features` and `head`."""
