"""Text features of prompts: read once, kept for other runs, and the text encoder in memory only meanwhile.

T5-XXL takes 18 GiB and longer to load than to read a list of prompts. So it comes before all other networks,
to the GPU where it fits, and what it says is kept in files: another seed, a run that goes on, or another
process finds it there.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from magi1.config import MagiConfig
from magi1.files.blame import check_finite
from magi1.files.folders import Place, find_t5
from magi1.text.encoder import (
    TextFeatures,
    check_text_encoder,
    encoder_bytes,
    load_text_encoder,
    text_reader,
)
from magi1.text.reader import PromptReader
from wmfiles import alone
from wmweights import WeightsError, fingerprint_files, read_metadata, read_state, write_state

log = logging.getLogger(__name__)

FOLDER = ".text_features"
"""Beside the outputs."""
LEAST_BYTES = 2**28
"""Features of a smaller encoder are not kept in files: it reads a prompt in a moment."""
SPARE_BYTES = 2**31
"""Memory of the GPU that is to be left beside the encoder's weights, for what it computes."""
_FORMAT = 1


class PromptFeatures:
    """What the text encoder says of prompts, in float32; the same whichever prompts are read together.

    Args:
        config: Names the encoder.
        device: Where it works if it fits there; else on the CPU.
        folder: Where features are kept for others; None: only in memory.
    """

    def __init__(
        self, config: MagiConfig, device: torch.device | str = "cpu", folder: Path | None = None
    ) -> None:
        self.config, self.device = config, torch.device(device)
        self._given, self._memory = folder, dict[str, Tensor]()

    @cached_property
    def reader(self) -> PromptReader:
        """How the encoder takes prompts."""
        return text_reader(self._place.folder, self._length)

    def check(self, prompts: Sequence[str]) -> PromptReader:
        """Look at the encoder's files where it will be needed, which it is not for known features.

        Raises:
            MagiError, WeightsError: something is missing, damaged, or of another model.
        """
        if self._missing(prompts):
            check_text_encoder(self._place.folder, self._length)
        return self.reader

    def read(self, prompts: Sequence[str], *, wait: bool = True) -> None:
        """Have the features of all prompts known; the encoder is loaded if any is new, and leaves again.

        Of several processes with the same folder one does it. The others wait until it is done, or with
        ``wait=False`` return and have to call this again.

        Raises:
            MagiError, WeightsError: what is wrong with the encoder.
        """
        if not self._missing(prompts):
            return
        with self._alone(wait) as mine:
            if mine and (missing := self._missing(prompts)):
                self._encode(missing)

    def features(self, prompts: Sequence[str]) -> TextFeatures:
        """Of each prompt, ``[B, max_length, width]`` on the CPU; zeros at padding. See :meth:`read`."""
        self.read(prompts)
        for prompt in filter(self.reader.loses, prompts):
            log.warning(
                "nothing is left of the prompt %r after cleaning, so the video is generated without "
                "text: MAGI-1 reads no Chinese, addresses or codes; describe the video in English",
                prompt,
            )
        _, mask = self.reader.tokens(prompts)
        rows = []
        for prompt in prompts:
            found = self._find(self._key(prompt))
            if found is None:  # the file was whole a moment ago
                raise WeightsError(f"{self._folder}: features were removed while they were read")
            rows.append(F.pad(found, (0, 0, 0, self._length - len(found))))
        return TextFeatures(torch.stack(rows), mask)

    # --- where they are kept ----------------------------------------------------------------------------

    @cached_property
    def _place(self) -> Place:
        return find_t5(self.config)

    @property
    def _length(self) -> int:
        return self.config.model_config.caption_max_length

    @cached_property
    def _weights(self) -> str:
        return fingerprint_files(self._place.files)

    @cached_property
    def _folder(self) -> Path | None:
        size = sum(file.stat().st_size for file in self._place.files)
        return None if size < LEAST_BYTES else self._given

    def _key(self, prompt: str) -> str:
        """Of all that decides the features: what the encoder sees of the prompt, and which one it is."""
        ids, mask = self.reader.tokens([prompt])
        decisive = [_FORMAT, self._weights, "float32", self._length, ids[mask.bool()].tolist()]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:32]

    def _missing(self, prompts: Sequence[str]) -> list[str]:
        return [p for p in dict.fromkeys(prompts) if self._find(self._key(p)) is None]

    def _find(self, key: str) -> Tensor | None:
        """Features ``[n, width]`` of a prompt's tokens, if they are known and whole."""
        if key in self._memory or self._folder is None:
            return self._memory.get(key)
        file = self._file(key)
        try:
            features, facts = read_state(file)["features"], read_metadata(file)
        except (WeightsError, KeyError):  # not there, or damaged
            return None
        return features if facts.get("sha256") == _sha256(features) else None

    def _file(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.safetensors"

    def _keep(self, key: str, features: Tensor, made_on: str) -> None:
        self._memory[key] = features
        if self._folder is None:
            return
        facts = {"sha256": _sha256(features), "made_on": made_on}
        with suppress(OSError):  # then it is read again another time
            write_state({"features": features}, self._file(key), facts)

    def _alone(self, wait: bool) -> AbstractContextManager[bool]:
        return (
            nullcontext(True) if self._folder is None else alone(self._folder / ".lock", wait=wait)
        )

    # --- the encoder ------------------------------------------------------------------------------------

    @torch.no_grad()
    def _encode(self, prompts: Sequence[str]) -> None:
        device = self._roomy_device()
        encoder = load_text_encoder(self._place.folder, device=device, max_length=self._length)
        on_gpu = device.type == "cuda"
        made_on = torch.cuda.get_device_name(device) if on_gpu else device.type
        for prompt in prompts:  # one by one: a batch rounds otherwise
            features, mask = encoder.encode([prompt])
            check_finite(features, "features of the text", "text encoder", encoder.model)
            own = features[0, mask[0].bool()].float().cpu().contiguous()
            self._keep(self._key(prompt), own, made_on)
        del encoder, features, mask
        if on_gpu:
            torch.cuda.empty_cache()

    def _roomy_device(self) -> torch.device:
        if self.device.type != "cuda":
            return self.device
        free, _ = torch.cuda.mem_get_info(self.device)
        needed = encoder_bytes(self._place.folder) + SPARE_BYTES
        return self.device if needed <= free else torch.device("cpu")


def _sha256(features: Tensor) -> str:
    return hashlib.sha256(features.contiguous().numpy().tobytes()).hexdigest()
