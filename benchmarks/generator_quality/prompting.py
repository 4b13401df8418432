"""Do generators do what prompts ask, from text alone and from an image? With what chance would give."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.generator_quality.obedience import (
    Request,
    all_requests,
    contradicted,
    obeyed,
    steering_requests,
    true_requests,
)
from benchmarks.shared.bootstrap import Values, means
from benchmarks.shared.generators import Generator, checked, over_seeds
from benchmarks.shared.held_out import FRAMES, HeldOut
from benchmarks.shared.object_detector import Detections, detect


class Prompting:
    """Prompts with the true clips that show how well their detector works.

    Args:
        clips: Scenes to choose from: those that simple prompts describe.
        count: How many of them to use at most.
        size: Of the videos.
        device: Where videos are rendered and judged.
    """

    def __init__(self, clips: HeldOut, count: int, size: int, device: torch.device) -> None:
        self.device, self.shape = device, (3, FRAMES, size, size)
        rows, asked = true_requests(clips)
        self.true_requests = asked[:count]
        self.true_videos = clips[rows[:count]].videos(device, size=size)
        rows, asked, opposite = steering_requests(clips)
        self.images_of = clips[rows[:count]].videos(device, size=size)
        self.ahead, self.opposite = asked[:count], opposite[:count]

    def from_text(self, generators: dict[str, Generator], seeds: int, batch: int) -> dict[str, Any]:
        """Share of prompts obeyed, by true clips of such prompts and by clips generated from them.

        Rows of "wrong words" say how often the same clips obey the opposite of each word.
        """
        record = _record("true clips", _verdicts(detect(self.true_videos), self.true_requests))
        requests = all_requests()
        for name, generator in generators.items():

            def mark(rows: slice, numbers: list[int], generator: Generator = generator) -> Values:
                texts = [request.text for request in requests[rows]]
                made = generator.from_text(texts, FRAMES, numbers)
                made = checked(made, (len(texts), *self.shape), self.device)
                return _verdicts(detect(made), requests[rows])

            record |= _record(name, over_seeds(mark, len(requests), seeds, batch, "prompts"))
        return record

    def from_image(
        self, generators: dict[str, Generator], seeds: int, batch: int
    ) -> dict[str, Any]:
        """Does what lies in an image go where the prompt says: as in the true clip, or the other way?"""
        record = {"true clips": means(_steered(detect(self.images_of), self.ahead))}
        for name, generator in generators.items():
            for way, requests in (("true way", self.ahead), ("other way", self.opposite)):

                def mark(
                    rows: slice,
                    numbers: list[int],
                    generator: Generator = generator,
                    requests: list[Request] = requests,
                ) -> Values:
                    images = self.images_of[rows][:, :, 0]
                    texts = [request.text for request in requests[rows]]
                    made = generator.from_image(images, FRAMES, texts, numbers)
                    made = checked(made, (len(texts), *self.shape), self.device)
                    return _steered(detect(made), requests[rows])

                values = over_seeds(mark, len(requests), seeds, batch, f"prompts, {way}")
                record[f"{name}, {way} asked"] = means(values)
        return record


_WRONG = "wrong "


def _verdicts(found: Detections, requests: list[Request]) -> Values:
    wrong = contradicted(found, requests)
    return obeyed(found, requests) | {_WRONG + word: value for word, value in wrong.items()}


def _steered(found: Detections, requests: list[Request]) -> Values:
    verdicts = obeyed(found, requests)
    return {word: verdicts[word] for word in ("color", "move")}  # the image has decided on the side


def _record(name: str, values: Values) -> dict[str, Any]:
    """Two rows: what is obeyed, and what the opposite of each word would have scored."""
    wrong = {word: value for word, value in values.items() if word.startswith(_WRONG)}
    right = {word: value for word, value in values.items() if word not in wrong}
    return {
        name: means(right),
        f"{name}, wrong words": means(
            {word.removeprefix(_WRONG): value for word, value in wrong.items()}
        ),
    }
