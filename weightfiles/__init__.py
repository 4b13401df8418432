"""Weights files shared by the models: reading, storing, and fitting into a module, with errors for people."""

from weightfiles.assemble import assemble, check_fit, places, put
from weightfiles.errors import WeightsError, first_line
from weightfiles.fingerprint import fingerprint, fingerprint_files
from weightfiles.quantise import dequantise, dequantised_specs, is_quantised, quantise
from weightfiles.safetensors_file import (
    TensorSpec,
    read_metadata,
    read_specs,
    read_state,
    read_tensors,
    write_state,
)

__all__ = [
    "TensorSpec",
    "WeightsError",
    "assemble",
    "check_fit",
    "dequantise",
    "dequantised_specs",
    "fingerprint",
    "fingerprint_files",
    "first_line",
    "is_quantised",
    "places",
    "put",
    "quantise",
    "read_metadata",
    "read_specs",
    "read_state",
    "read_tensors",
    "write_state",
]
