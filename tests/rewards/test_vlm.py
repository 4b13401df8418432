"""Models that are asked, tiny random ones: frames, tokens, equality with plain forward passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wmreward.errors import UsageError, WMRewardError
from wmreward.protocols import VideoFacts
from wmreward.rewards.mix import RewardMix
from wmreward.rewards.vlm import (
    ADHERENCE,
    ANSWER,
    PHYSICS,
    VLM,
    VLMChoice,
    VLMReward,
    shown_frames,
)

transformers = pytest.importorskip("transformers", reason="needs the extra 'judges' (transformers)")

WORDS = (
    "yes",
    "Yes",
    "NO",
    "no",
    "user",
    "assistant",
    ":",
    "ball",
    "Does",
    "this",
    "video",
    ".",
    "?",
)
MARKS = (
    "<pad>",
    "<unk>",
    "<s>",
    "<image>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
)
YES, NO = ("yes", "Yes"), ("NO", "no")

LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)
QWEN_TEMPLATE = LLAVA_TEMPLATE.replace("'image'", "'video'").replace(
    "<image> ", "<|vision_start|><|video_pad|><|vision_end|>"
)


def tokenizer_of(template: str) -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    vocabulary = {word: i for i, word in enumerate((*MARKS, *WORDS))}
    model = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        additional_special_tokens=list(MARKS[3:]),
        chat_template=template,
    )


def text_config(**more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return {**sizes, **heads, "vocab_size": len(MARKS) + len(WORDS), **more}


def llava_in(folder: Path) -> Path:
    """Sees pictures: 28 × 28 pixels, four patches."""
    vision = transformers.CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    config = transformers.LlavaConfig(
        vision_config=vision,
        text_config=transformers.LlamaConfig(**text_config(pad_token_id=0, bos_token_id=2)),
        image_token_index=MARKS.index("<image>"),
        image_token_id=MARKS.index("<image>"),
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    pictures = transformers.CLIPImageProcessor(
        size={"height": 28, "width": 28}, crop_size={"height": 28, "width": 28}
    )
    tokenizer = tokenizer_of(LLAVA_TEMPLATE)
    transformers.LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llava_in(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def vlm(folder: Path) -> VLM:
    return VLMChoice(name=str(folder)).load(torch.device("cpu"))


def video_of(frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, frames, 28, 28, generator=generator) * 2 - 1


def bytes_of(video: Tensor) -> Tensor:
    return ((video + 1) * 127.5).round().to(torch.uint8).movedim(0, -1)


def plain_pass(vlm: VLM, video: Tensor, question: str) -> tuple[float, float]:
    """The same by hand: log p of every spelling of yes and no after the whole chat."""
    from PIL import Image

    frames = [Image.fromarray(frame.numpy()) for frame in bytes_of(video)]
    text = f"user : {'<image> ' * len(frames)}{question} assistant :"
    given = vlm.processor(text=text, images=frames, return_tensors="pt")
    with torch.no_grad():
        likely = vlm.model(**given).logits[0, -1].log_softmax(-1)
    words = (*MARKS, *WORDS)
    yes, no = (likely[[words.index(word) for word in side]].logsumexp(0) for side in (YES, NO))
    return yes.item(), no.item()


def test_the_answer_is_that_of_a_plain_forward_pass(vlm: VLM) -> None:
    video = video_of(3)
    reward = VLMReward("vlm", vlm, "Does this video ball ?", fps=8)
    judged = reward.told(video[None], VideoFacts(fps=8))
    yes, no = plain_pass(vlm, video, f"Does this video ball ? {ANSWER}")
    assert judged.scores.item() == pytest.approx(yes - no, abs=1e-5)
    assert judged.parts["yes"].item() == pytest.approx(torch.tensor(yes).exp().item(), abs=1e-6)
    assert judged.parts["no"].item() == pytest.approx(torch.tensor(no).exp().item(), abs=1e-6)


def test_tokens_that_are_asked_for(vlm: VLM) -> None:
    words = (*MARKS, *WORDS)
    assert [words[i] for i in vlm.yes] == list(YES)
    assert [words[i] for i in vlm.no] == list(NO)


def test_frames_are_shown_in_their_order(vlm: VLM) -> None:
    video = bytes_of(video_of(3))
    given = vlm.inputs([video], "Does this video ball ?", 8.0)
    assert (given["input_ids"] == MARKS.index("<image>")).sum() == 3 * 4
    shown = given["pixel_values"]
    apart = torch.cat([vlm.inputs([frame[None]], "ball", 8.0)["pixel_values"] for frame in video])
    torch.testing.assert_close(shown, apart)
    answers = [
        vlm.answers([one], "Does this video ball ?", 8.0)[0].item()
        for one in (video, video.flip(0))
    ]
    assert answers[0] != pytest.approx(answers[1], abs=1e-6)


def test_a_batch_says_what_each_video_says_alone(vlm: VLM) -> None:
    videos = torch.stack([video_of(4, seed) for seed in range(5)])
    reward = VLMReward("vlm", vlm, "ball ?", fps=4)
    together = reward.told(videos, VideoFacts(fps=8)).scores
    assert vlm.batch_size < len(videos)
    alone = [reward.told(one[None], VideoFacts(fps=8)).scores.item() for one in videos]
    assert together.tolist() == pytest.approx(alone, abs=1e-5) and len(set(alone)) == 5


def test_videos_of_different_lengths_in_one_batch(vlm: VLM) -> None:
    """The answer follows the last token of each, not the padding."""
    videos = [bytes_of(video_of(count, count)) for count in (4, 1, 2)]
    yes, no = vlm.answers(videos, "ball ?", 4.0)
    alone = [vlm.answers([video], "ball ?", 4.0) for video in videos]
    assert yes.tolist() == pytest.approx([a[0].item() for a in alone], abs=1e-5)
    assert no.tolist() == pytest.approx([a[1].item() for a in alone], abs=1e-5)


def test_frames_at_a_stated_rate(vlm: VLM) -> None:
    assert shown_frames(48, 24, 4) == [0, 6, 12, 18, 24, 30, 36, 42]
    assert shown_frames(5, 4, 8) == [0, 1, 2, 3, 4]  # none is shown twice
    assert shown_frames(10, 10, 4) == [0, 3, 5, 8]
    assert shown_frames(1, 24, 4) == [0]
    video = video_of(12)
    reward = VLMReward("vlm", vlm, "ball ?", fps=4)
    score = reward.told(video[None], VideoFacts(fps=12)).scores
    seen = reward.told(video[None, :, ::3], VideoFacts(fps=4)).scores
    torch.testing.assert_close(score, seen)


def test_a_question_about_the_prompt(vlm: VLM) -> None:
    video = video_of(2)
    reward = VLMReward("adherence", vlm, ADHERENCE)
    said = {
        p: reward.told(video[None], VideoFacts(fps=4, prompt=p)).scores.item()
        for p in ("ball", "video")
    }
    for prompt, score in said.items():
        yes, no = plain_pass(vlm, video, f"{ADHERENCE.replace('{prompt}', prompt)} {ANSWER}")
        assert score == pytest.approx(yes - no, abs=1e-5)
    assert said["ball"] != said["video"]
    with pytest.raises(UsageError, match="asks about the prompt"):
        reward.told(video[None], VideoFacts(fps=4))


def test_it_judges_finished_videos_only(vlm: VLM) -> None:
    mix = RewardMix({"vlm": VLMReward("vlm", vlm, PHYSICS)}, {"vlm": 1.0})
    judged = mix.judge(video_of(4), VideoFacts(fps=24))
    assert judged.scores.keys() == {"vlm"} and judged.parts.keys() == {"vlm.yes", "vlm.no"}
    assert not mix.differentiable and mix.networks == [vlm.model]
    for able in (mix.guiding, mix.judging):
        with pytest.raises(UsageError, match="none of the rewards vlm can"):
            able()


def test_models_that_cannot_be_asked(folder: Path, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(UsageError, match="no such folder"):
        VLMChoice(name="nowhere").load(cpu)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no config\.json"):
        VLMChoice(name=str(tmp_path / "empty")).load(cpu)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(WMRewardError, match="--vlm: cannot load"):
        VLMChoice(name=str(broken)).load(cpu)
    other = tmp_path / "other"
    transformers.Dinov2Model(
        transformers.Dinov2Config(hidden_size=24, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(other)
    with pytest.raises(WMRewardError, match="it is no network that AutoModelForImageTextToText"):
        VLMChoice(name=str(other)).load(cpu)
    (broken / "model.safetensors").unlink()
    with pytest.raises(WMRewardError, match=r"no \*\.safetensors weights"):
        VLMChoice(name=str(broken)).load(cpu)
    silent = VLMChoice(name=str(folder)).load(cpu).processor
    silent.chat_template = None
    with pytest.raises(WMRewardError, match="without a chat template"):
        VLM(torch.nn.Identity(), silent)


def test_a_model_of_videos_is_given_a_video(tmp_path: Path) -> None:
    """Qwen2.5-VL: with its clock, as its processor and a plain pass have it."""
    pytest.importorskip("torchvision", reason="needs the extra 'judges' (torchvision)")
    vision = {
        "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "depth": 2, "num_heads": 2,
        "patch_size": 14, "spatial_merge_size": 2, "window_size": 56, "fullatt_block_indexes": [1],
    }  # fmt: skip
    marks = {name: MARKS.index(f"<|{mark}|>") for name, mark in (
        ("image_token_id", "image_pad"), ("video_token_id", "video_pad"),
        ("vision_start_token_id", "vision_start"), ("vision_end_token_id", "vision_end"),
    )}  # fmt: skip
    rope = {
        "type": "default",
        "mrope_section": [1, 1, 2],
        "rope_type": "default",
        "rope_theta": 1e4,
    }
    text = text_config(rope_scaling=rope, rope_parameters=rope)
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **marks)
    torch.manual_seed(0)
    transformers.Qwen2_5_VLForConditionalGeneration(config).save_pretrained(tmp_path)
    sizes = {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
    transformers.Qwen2_5_VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(**sizes),
        video_processor=transformers.Qwen2VLVideoProcessor(**sizes),
        tokenizer=tokenizer_of(QWEN_TEMPLATE),
        chat_template=QWEN_TEMPLATE,
    ).save_pretrained(tmp_path)
    vlm = VLMChoice(name=str(tmp_path)).load(torch.device("cpu"))
    assert vlm.sees_videos
    frames = torch.rand(1, 3, 8, 56, 56) * 2 - 1
    reward = VLMReward("vlm", vlm, "ball ?", fps=4)
    score = reward.told(frames, VideoFacts(fps=8)).scores.item()
    video = bytes_of(frames[0])[::2]
    given = vlm.inputs([video], f"ball ? {ANSWER}", 4.0)
    assert given["video_grid_thw"].tolist() == [[2, 4, 4]]  # two frames a step, none left out
    assert [float(s) for s in given["second_per_grid_ts"]] == [0.5]
    with torch.no_grad():
        likely = vlm.model(**given).logits[0, -1].log_softmax(-1)
    expected = likely[vlm.yes].logsumexp(0) - likely[vlm.no].logsumexp(0)
    assert score == pytest.approx(expected.item(), abs=1e-5)
    backwards = reward.told(frames.flip(2), VideoFacts(fps=8)).scores.item()
    assert score != pytest.approx(backwards, abs=1e-7)
