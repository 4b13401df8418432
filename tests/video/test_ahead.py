"""Decoding ahead: in order, bounded, and with every error in its place."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from wmreward.errors import VideoError
from wmreward.video import ahead


def test_few_videos_are_decoded_ahead() -> None:
    decoded: list[str] = []
    taken = threading.Semaphore(0)

    def clips(path: Path, plan: str) -> Any:
        decoded.append(path.name)
        taken.release()
        yield plan

    paths = [Path(str(i)) for i in range(8)]
    feeds = ahead.decode_ahead(paths, lambda path: f"plan {path}", clips, 2)
    seen = []
    for count, feed in enumerate(feeds, 1):
        seen.append((feed.plan(), list(feed.clips())))
        expected = min(8, count + 2)
        while len(decoded) < expected:
            assert taken.acquire(timeout=5), "nothing is decoded ahead"
        assert len(decoded) <= expected
    assert seen == [(f"plan {i}", [f"plan {i}"]) for i in range(8)]


def test_a_stream_waits_for_the_scorer() -> None:
    made: list[int] = []

    def clips(path: Path, plan: int) -> Any:
        for number in range(100):
            made.append(number)
            yield number

    feed = ahead.Feed(Path("x"), lambda path: 0, clips)
    feed.plan()
    stream = feed.clips()
    assert [next(stream), next(stream)] == [0, 1]
    feed.close()
    assert len(made) <= 4  # two taken, one in the queue, one in the thread's hands


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (VideoError("x.mp4", "is damaged"), "x.mp4: is damaged"),
        (PermissionError(13, "Permission denied"), "x.mp4: cannot be read (Permission denied)"),
        (ValueError("from deep inside"), "x.mp4: cannot be decoded (ValueError: from deep inside)"),
    ],
)
def test_whatever_a_file_does_is_its_own_error(error: Exception, message: str) -> None:
    def clips(path: Path, plan: int) -> Any:
        yield 1
        raise error

    feed = ahead.Feed(Path("x.mp4"), lambda path: 0, clips)
    feed.plan()
    with pytest.raises(VideoError) as raised:
        list(feed.clips())
    assert str(raised.value) == message


def test_threads_end_before_the_interpreter_does() -> None:
    def clips(path: Path, plan: int) -> Any:
        yield from range(1000)

    feed = ahead.Feed(Path("endless"), lambda path: 0, clips)
    feed.plan()
    name = "decode endless"
    assert name in [thread.name for thread in threading.enumerate()]
    ahead.end_all()
    assert name not in [thread.name for thread in threading.enumerate()]
