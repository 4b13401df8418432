"""Which video it is, whatever it is called: a hash of its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from wmreward.errors import VideoError
from wmreward.files import open_regular
from wmreward.video.images import images_in


def video_sha256(path: Path) -> str:
    """Hash of a file; of a folder of images, over their names and contents."""
    if not path.is_dir():
        return _file_sha256(path)
    digest = hashlib.sha256()
    for image in images_in(path):
        digest.update(f"{image.name}\0{_file_sha256(image)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path, refuse=VideoError) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
