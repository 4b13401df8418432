"""Weights files shared by the models: reading, storing, and fitting into a module, with errors for people."""

from wmweights.blank import blank
from wmweights.compiled import keep_compiled
from wmweights.errors import WeightsError, first_line, refused
from wmweights.fingerprints import fingerprint, fingerprint_files
from wmweights.finite import first_not_finite
from wmweights.fit import assemble, check_fit, places, put
from wmweights.int8_rows import dequantise, dequantised_specs, is_quantised, quantise
from wmweights.kept_hash import KeptHash
from wmweights.safetensors_file import (
    TensorSpec,
    read_metadata,
    read_specs,
    read_state,
    read_tensors,
    write_state,
)

__all__ = [
    "KeptHash",
    "TensorSpec",
    "WeightsError",
    "assemble",
    "blank",
    "check_fit",
    "dequantise",
    "dequantised_specs",
    "fingerprint",
    "fingerprint_files",
    "first_line",
    "first_not_finite",
    "is_quantised",
    "keep_compiled",
    "places",
    "put",
    "quantise",
    "read_metadata",
    "read_specs",
    "read_state",
    "read_tensors",
    "refused",
    "write_state",
]
