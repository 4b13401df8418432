"""A vision-language model is asked about a video: log p(yes) − log p(no) of the first word of its answer.

It sees what surprise is blind to: whether the video shows what the prompt says. It judges finished videos;
processors of pictures pass no gradient.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wmfiles import short
from wmreward.errors import UsageError, WMRewardError, named
from wmreward.protocols import RewardScores, VideoFacts
from wmreward.rewards.hub import check_transformers, frozen, model_fingerprint, model_folder
from wmreward.surprise.scorer import even_chunks
from wmweights import first_line

PHYSICS = "Does everything in this video move and change as the laws of physics allow?"
"""What is asked unless a user asks something else."""
ADHERENCE = "Does this video show the following? {prompt}"
"""What the reward ``adherence`` asks."""
ANSWER = "Answer with yes or no."
"""Is added to every question."""
PROMPT = "{prompt}"
"""Stands for the prompt of the video in a question."""

FPS = 4.0
"""Frames per second that are shown, unless a user says another rate."""
UNTIMED = 24.0
"""Frames per second of a video without a clock."""

_FLAG = "vlm"


class VLM:
    """An image-text-to-text or video-text-to-text model of `transformers`, with its processor.

    Args:
        model: Frozen.
        processor: With a tokenizer and a chat template. Where it knows videos, a video is handed over as one;
            else as its frames in their order.
        batch_size: Videos at once.

    Attributes:
        yes, no: Tokens that count for an answer: every spelling that is a single token.

    Raises:
        WMRewardError: no chat template, or no such token.
    """

    def __init__(self, model: nn.Module, processor: Any, batch_size: int = 4) -> None:
        self.model, self.processor, self.batch_size = model, processor, batch_size
        tokenizer = getattr(processor, "tokenizer", None)
        if tokenizer is None or not getattr(processor, "chat_template", None):
            raise WMRewardError(f"--{_FLAG}: a {type(processor).__name__} without a chat template")
        tokenizer.padding_side = "left"  # the answer follows the last token of every row
        self.yes, self.no = _spellings(tokenizer, "yes"), _spellings(tokenizer, "no")
        self.sees_videos = getattr(processor, "video_processor", None) is not None

    @torch.no_grad()
    def answers(self, videos: Sequence[Tensor], question: str, fps: float) -> tuple[Tensor, Tensor]:
        """Logarithms of p(yes) and p(no) as the first token of the answer, ``[B]`` each, float32.

        Args:
            videos: Frames that are shown, uint8 ``[T, H, W, 3]`` each.
            question: What is asked of all of them.
            fps: Their frames per second.
        """
        parts = [
            self._first_token(part, question, fps) for part in even_chunks(videos, self.batch_size)
        ]
        likely = torch.cat(parts)
        return likely[:, self.yes].logsumexp(dim=1), likely[:, self.no].logsumexp(dim=1)

    def inputs(self, videos: Sequence[Tensor], question: str, fps: float) -> Any:
        """What the model is given of videos, in its chat template."""
        asked = {"type": "text", "text": question}
        if self.sees_videos:
            shown: list[list[dict[str, str]]] = [[{"type": "video"}] for _ in videos]
            media = {
                "videos": [video.movedim(-1, 1) for video in videos],
                "video_metadata": [_metadata(len(video), fps) for video in videos],
                "do_sample_frames": False,  # they are sampled
            }
        else:
            shown = [[{"type": "image"}] * len(video) for video in videos]
            media = {"images": [list(_pictures(video)) for video in videos]}
        texts = [
            self.processor.apply_chat_template(
                [{"role": "user", "content": [*frames, asked]}], add_generation_prompt=True
            )
            for frames in shown
        ]
        start = self.processor.tokenizer.bos_token
        return self.processor(
            text=texts,
            **media,
            return_tensors="pt",
            padding=True,
            add_special_tokens=start is None or not texts[0].startswith(start),
        )

    def _first_token(self, videos: Sequence[Tensor], question: str, fps: float) -> Tensor:
        """Log-probabilities ``[B, vocabulary]`` of what comes after the question."""
        weight = next(self.model.parameters())
        given = self.inputs(videos, question, fps).to(weight.device, dtype=weight.dtype)
        last: dict[str, int] = {}
        if "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            last["logits_to_keep"] = 1  # those of all tokens would take gigabytes
        logits: Tensor = self.model(**given, **last).logits
        return logits[:, -1].float().log_softmax(dim=-1)


class VLMReward:
    """log p(yes) − log p(no) of an answer about a finished video.

    Args:
        name: ``vlm`` or ``adherence``.
        vlm: Who is asked.
        question: What; ``{prompt}`` stands for the prompt of the video.
        fps: Frames per second that it is shown.

    The parts are p(yes) and p(no): where both are small, the model answers something else.
    """

    differentiable = False

    def __init__(self, name: str, vlm: VLM, question: str, fps: float = FPS) -> None:
        self.name, self.vlm, self.question, self.fps = name, vlm, question, fps

    @property
    def network(self) -> object:
        """Who is asked."""
        return self.vlm.model

    def told(self, videos: Tensor, facts: VideoFacts) -> RewardScores:
        """Score ``[B, 3, T, H, W]`` in [−1, 1] of one frame rate and one prompt.

        Raises:
            UsageError: the question asks about a prompt, and there is none.
        """
        if PROMPT in self.question and not facts.prompt:
            raise UsageError(
                f"reward {self.name!r} asks about the prompt of the video, which has none"
            )
        asked = f"{self.question.replace(PROMPT, facts.prompt or '').strip()} {ANSWER}"
        own = facts.fps or UNTIMED
        which = shown_frames(videos.shape[2], own, self.fps)
        frames = ((videos[:, :, which] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        frames = frames.movedim(1, -1).cpu()
        yes, no = self.vlm.answers(list(frames), asked, min(own, self.fps))
        parts = {"yes": yes.exp(), "no": no.exp()}
        return RewardScores(yes - no, parts)


def shown_frames(count: int, own: float, wanted: float) -> list[int]:
    """Which of ``count`` frames at ``own`` frames per second are shown at the ``wanted`` rate.

    The first, and from there the nearest to each moment; all of them where there are no more.
    """
    step = max(1.0, own / wanted)
    return sorted({int(k * step + 0.5) for k in range(count) if k * step + 0.5 < count})


@dataclass(frozen=True, kw_only=True)
class VLMChoice:
    """A vision-language model by name.

    Attributes:
        name: A folder, or a name on the Hub.
        question: What the reward ``vlm`` asks.
        fps: Frames per second that are shown.
    """

    name: str
    question: str = PHYSICS
    fps: float = FPS

    def check(self) -> None:
        """What can be known without weights; raises ``UsageError``."""
        check_transformers(_FLAG)
        if not self.question.strip():
            raise UsageError(f"{named('question')} is empty")

    def questions(self) -> dict[str, str]:
        """By reward."""
        return {"vlm": self.question, "adherence": ADHERENCE}

    def settings(self, reward: str) -> dict[str, Any]:
        """What decides an answer; finds the weights, and downloads them where they are on the Hub."""
        return {
            "vlm": self.name,
            "vlm_weights": model_fingerprint(model_folder(self.name, _FLAG)),
            "vlm_fps": self.fps,
            **({"question": self.question} if reward == "vlm" else {}),
        }

    def load(self, device: torch.device) -> VLM:
        """Model and processor.

        Raises:
            WMRewardError: files that are damaged, incomplete or of another kind.
        """
        folder = model_folder(self.name, _FLAG)
        model = frozen("AutoModelForImageTextToText", folder, device, _FLAG)
        try:
            processor = check_transformers(_FLAG).AutoProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, ImportError) as error:
            raise WMRewardError(
                f"--{_FLAG} {short(self.name)}: its processor cannot be loaded: {first_line(error)}"
            ) from error
        return VLM(model, processor)


def _spellings(tokenizer: Any, word: str) -> list[int]:
    """Every single token that says the word, however it is capitalised, after a space or not."""
    cases = (word, word.capitalize(), word.upper())
    found = [
        tokenizer.encode(before + spelled, add_special_tokens=False)
        for before in ("", " ")
        for spelled in cases
    ]
    unknown = tokenizer.unk_token_id
    single = {ids[0] for ids in found if len(ids) == 1 and ids[0] != unknown}
    if not single:
        raise WMRewardError(f"--{_FLAG}: its tokenizer has no token for {word!r}")
    return sorted(single)


def _metadata(frames: int, fps: float) -> dict[str, Any]:
    return {"total_num_frames": frames, "fps": fps, "frames_indices": list(range(frames))}


def _pictures(video: Tensor) -> Iterator[Any]:
    from PIL import Image

    for frame in video.numpy():
        yield Image.fromarray(frame)
