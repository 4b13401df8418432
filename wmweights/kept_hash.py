"""The hash of large weights files, kept beside them: to compute it takes longer than to read them.

A kept hash is that of its files as long as all of them have the same size and time of change. Whoever wants
to be sure computes it again (:func:`wmweights.fingerprint`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from wmfiles import read_json, user_cache, write_whole
from wmweights.errors import WeightsError, refused

log = logging.getLogger(__name__)

LEAST_BYTES = 2**28
"""Hashes of smaller files are not kept: they are computed in a moment."""


class KeptHash:
    """A hash of what is read from some files.

    Args:
        files: All of them; the hash lies beside the first one. If one is not there, no hash is known.
        what: What of them is hashed, as one file may hold several things.
    """

    def __init__(self, files: Sequence[Path], what: str) -> None:
        self.files, self.what = list(files), what
        self._stamps = self._now()

    def known(self) -> str | None:
        """The hash, if it was kept and the files are as they were."""
        for place in self._places() if self._stamps else ():
            found = _read(place).get(self.what)
            if not isinstance(found, dict) or found.get("files") != self._stamps:
                continue
            if isinstance(sha256 := found.get("sha256"), str):
                return sha256
        return None

    def keep(self, sha256: str) -> None:
        """Keep the hash of the files as they were when this object was made.

        Where their folder cannot be written, it goes to the user's cache. Nothing is kept of small files,
        nor of files that have changed since then; and where nothing can be written, nothing is.
        """
        if sum(size for _, size, _ in self._stamps) < LEAST_BYTES or self._stamps != self._now():
            return
        entry = {"files": self._stamps, "sha256": sha256}
        for place in self._places():
            with suppress(OSError), write_whole(place) as temporary:
                text = json.dumps({**_read(place), self.what: entry}, indent=1)
                temporary.write_text(text + "\n", encoding="utf-8")
                return
        log.info("the hash of %s is computed again each time: nothing can be written", self.files)

    def _places(self) -> list[Path]:
        first = self.files[0].absolute()
        name = hashlib.sha256(str(first).encode(errors="surrogateescape")).hexdigest()[:32]
        beside = first.with_name(f"{first.name}.hashes.json")
        return [beside, user_cache("hashes", f"{name}.json")]

    def _now(self) -> list[list[Any]]:
        """Name, size and time of change of each; empty if one cannot be looked at."""
        try:
            facts = [(file.name, file.stat()) for file in self.files]
        except OSError:
            return []
        return [[name, found.st_size, found.st_mtime_ns] for name, found in facts]


def _read(place: Path) -> dict[str, Any]:
    try:
        found = read_json(place, refuse=refused)
    except WeightsError:  # not there, or damaged
        return {}
    return found if isinstance(found, dict) else {}
