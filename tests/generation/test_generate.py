"""Generating from end to end with a nano MAGI-1: the pipeline and the command line."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import generate_fixtures
import numpy as np
import pytest
import torch
from generate_fixtures import ROOT, T2V, CommandLine, script
from magi1_fakes import nano_config, write_nano
from torch import Tensor

import magi1.text.features
from magi1.errors import MagiUsageError
from magi1.pipeline import Pipeline, Request, VideoChunk, usable_frames
from magi1.planning.memory import host_of_video
from magi1.sampling.sampler import DenoiseStep, make_noise
from magi1.sampling.schedule import VideoLayout
from magi1.text.chunk_texts import SpecialTokens
from magi1.text.encoder import load_text_encoder
from magi1.transformer.dit import DiT
from wmreward.generation.batch.cli import main as batch
from wmreward.generation.cli import main
from wmreward.generation.flags import build_parser
from wmreward.generation.inputs import given_frames
from wmreward.generation.job import context_of, told_length
from wmreward.generation.search.candidate import _Run
from wmreward.video_io import read_frames, write_png, write_video

command = generate_fixtures.command


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a nano model and its configuration."""
    folder = tmp_path_factory.mktemp("nano")
    write_nano(folder)
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an image and videos."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (40, 24, 32, 3), dtype=np.uint8)
    write_png(folder / "image.png", frames[0])
    write_video(folder / "video.mp4", frames, 24)
    write_video(folder / "short.mp4", frames[:2], 24)
    (folder / "broken.png").write_bytes(b"not an image")
    return folder


def chunks_of(pipeline: Pipeline, request: Request, **options: Any) -> list[VideoChunk]:
    return list(pipeline.sample(pipeline.prepare(request), **options))


def frames_of(chunks: list[VideoChunk]) -> Tensor:
    return torch.cat([chunk.frames for chunk in chunks])


# --- the pipeline -------------------------------------------------------------------------------------


def test_from_text(nano: Path) -> None:
    pipeline = Pipeline(nano_config(nano))
    chunks = chunks_of(pipeline, Request(prompt="a red ball"))
    assert [chunk.frames.shape for chunk in chunks] == [(24, 16, 16, 3)] * 2
    assert all(chunk.frames.dtype == torch.uint8 for chunk in chunks)
    again = chunks_of(Pipeline(nano_config(nano)), Request(prompt="a red ball"))
    assert torch.equal(frames_of(chunks), frames_of(again))
    assert [part.part for part in pipeline.weights] == ["transformer", "VAE"]


@pytest.mark.parametrize(
    "changed",
    [
        {"request": Request(prompt="a blue ball")},
        {"request": Request(prompt="a red ball", negative_prompt="a wall")},
        {"seed": 5},
        {"guide": lambda step: step.velocity * 0.5},
    ],
)
def test_what_changes_the_video(nano: Path, changed: dict[str, Any]) -> None:
    pipeline = Pipeline(nano_config(nano))
    plain = chunks_of(pipeline, Request(prompt="a red ball"))
    options = dict(changed)
    other = chunks_of(pipeline, options.pop("request", Request(prompt="a red ball")), **options)
    assert not torch.equal(plain[1].finished.latents, other[1].finished.latents)


@pytest.mark.parametrize("given", [None, 32])
def test_a_negative_prompt_stands_for_no_text_everywhere(nano: Path, given: int | None) -> None:
    """Finished chunks read features of chunk 0 under the mask of chunk 1: both must be of one text."""
    pipeline = Pipeline(nano_config(nano))
    frames = None if given is None else random_frames(given)
    request = Request(prompt="a red ball", negative_prompt="a wall", given=frames)
    text = pipeline.prepare(request).text
    encoded = pipeline.text.features(["a wall"])
    assert all(torch.equal(row, encoded.features[0]) for row in text.y[1])
    assert all(torch.equal(row, encoded.mask[0].float()) for row in text.mask[1])


def test_a_distilled_model_is_not_guided_away_from_a_text(nano: Path) -> None:
    """It takes no pass without the prompt: the negative one would be context of finished chunks alone."""
    config = nano_config(nano)
    engine = replace(config.engine_config, distill=True)
    runtime = replace(config.runtime_config, cfg_number=1)
    pipeline = Pipeline(replace(config, engine_config=engine, runtime_config=runtime))
    requests = (Request(prompt="a ball", negative_prompt=against) for against in ("", "a wall"))
    plain, other = (pipeline.prepare(request).text for request in requests)
    assert torch.equal(plain.y, other.y) and torch.equal(plain.mask, other.mask)


def test_prompts_chunk_by_chunk(nano: Path) -> None:
    pipeline = Pipeline(nano_config(nano, window_size=1))
    same = chunks_of(pipeline, Request(prompt="a red ball"))
    other = chunks_of(pipeline, Request(prompt=["a red ball", "a blue ball"]))
    assert torch.equal(same[0].finished.latents, other[0].finished.latents)
    assert not torch.equal(same[1].finished.latents, other[1].finished.latents)
    with pytest.raises(MagiUsageError, match="3 prompts for 2 generated chunks"):
        pipeline.prepare(Request(prompt=["a", "b", "c"]))


def test_several_noises_at_once_are_several_videos(nano: Path) -> None:
    pipeline = Pipeline(nano_config(nano))
    prepared = pipeline.prepare(Request(prompt="a red ball"))
    noise = torch.cat([pipeline.noise(prepared.layout, seed) for seed in (1, 2)])
    together = list(pipeline.sample(prepared, noise=noise))
    for i, seed in enumerate((1, 2)):
        alone = list(pipeline.sample(prepared, seed=seed))
        for one, both in zip(alone, together, strict=True):
            torch.testing.assert_close(
                both.finished.latents[i : i + 1], one.finished.latents, atol=1e-4, rtol=1e-4
            )


def random_frames(count: int) -> Tensor:
    return torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8)


def test_the_image_opens_the_video(nano: Path) -> None:
    """Its first frame is the image as the VAE shows it, not what the steps made of it."""
    pipeline = Pipeline(nano_config(nano, num_frames=40))
    image = random_frames(1)
    prepared = pipeline.prepare(Request(prompt="", given=image))
    assert prepared.layout.chunks == 2 and prepared.prefix is not None
    chunks = list(pipeline.sample(prepared))
    assert frames_of(chunks).shape == (48, 16, 16, 3)
    shown = torch.cat([prepared.prefix, chunks[0].finished.latents[:, :, 1:]], dim=2)
    from magi1.pixels import to_uint8
    from magi1.tiling import tiled_decode

    first_unit = to_uint8(tiled_decode(pipeline.vae, shown / 0.5, pipeline.tiling)[0])
    assert torch.equal(chunks[0].frames, first_unit)
    released = list(pipeline.sample(prepared, released=True))
    assert not torch.equal(released[0].frames[:4], chunks[0].frames[:4])
    assert torch.equal(released[1].frames, chunks[1].frames)


def test_a_video_is_continued(nano: Path) -> None:
    pipeline = Pipeline(nano_config(nano, num_frames=24))
    prepared = pipeline.prepare(Request(prompt="", given=random_frames(40)))
    assert prepared.prefix is not None and prepared.prefix.shape[2] == 8  # 32 frames of 40
    frames = frames_of(list(pipeline.sample(prepared)))
    assert len(frames) == 4 * (3 * 6 - 8)  # whole chunks, without what was given
    released = list(pipeline.sample(prepared, released=True))
    assert len(released[0].frames) == 13  # a tile of one latent frame makes one frame, not four
    with pytest.raises(MagiUsageError, match="at least 4 frames, got 3"):
        pipeline.prepare(Request(prompt="", given=random_frames(3)))
    with pytest.raises(MagiUsageError, match=r"\[T, 16, 16, 3\]"):
        pipeline.prepare(Request(prompt="", given=random_frames(8)[:, :8]))


@pytest.mark.parametrize(
    ("asked", "given", "says"),
    [
        (48, None, "48 frames are made, 2.0 s at 24 per second$"),
        (24, 1, "48 frames are made, 2.0 s at 24 per second, not 24: .*the image fills 4 frames$"),
        (24, 32, "40 frames are made, 1.7 s .*, not 24: .*chunks of 24, of which .* fill 32$"),
        (30, None, "48 frames are made, .*, not 30: videos are made in whole chunks of 24$"),
    ],
)
def test_what_will_be_written_is_told(asked: int, given: int | None, says: str) -> None:
    frames = None if given is None else random_frames(given)
    config = nano_config(Path(), num_frames=asked)
    told = told_length(config, frames, asked)
    assert re.match(says, told), told
    assert "not" not in told_length(config, frames, None)  # nothing was asked for


@pytest.mark.parametrize(("frames", "context"), [(1, None), (4, None), (7, None), (8, 8), (32, 8)])
def test_frames_that_open_the_output_are_not_its_context_too(
    nano: Path, frames: int, context: int | None
) -> None:
    """One latent frame is made again, as of an image; rewards would see it twice."""
    given, rewards = random_frames(frames), SimpleNamespace(context_frames=8)
    found = context_of(given, rewards, nano_config(nano))  # type: ignore[arg-type]
    assert (None if found is None else len(found)) == context
    prepared = Pipeline(nano_config(nano)).prepare(Request(prompt="", given=given))
    opens = prepared.layout.emitted(prepared.layout.offset).start == 0
    assert opens == (context is None)


def test_usable_frames() -> None:
    counts = [usable_frames(n, 4) for n in (1, 3, 4, 7, 25, 32, 90)]
    assert counts == [1, 0, 4, 4, 24, 32, 32]


def test_a_guide_can_differentiate_the_decoded_estimate(nano: Path) -> None:
    pipeline = Pipeline(nano_config(nano))
    norms = []

    def guide(step: DenoiseStep) -> Tensor:
        with torch.enable_grad():
            x = step.latents.detach().requires_grad_()
            video = step.decode(step.clean_estimate(x, step.model(x)))
            (grad,) = torch.autograd.grad(video.square().mean(), x)
        norms.append(grad.norm().item())
        return step.velocity

    guided = chunks_of(pipeline, Request(prompt="a red ball"), guide=guide)
    plain = chunks_of(pipeline, Request(prompt="a red ball"))
    assert len(norms) == 10 and min(norms) > 0
    assert torch.equal(frames_of(guided), frames_of(plain))


def test_special_tokens_need_their_file(nano: Path, tmp_path: Path) -> None:
    pipeline = Pipeline(nano_config(nano), special_tokens=tmp_path / "none.npz")
    with pytest.raises(RuntimeError, match=r"none\.npz is missing"):
        pipeline.prepare(Request(prompt="", tokens=SpecialTokens(hq=True)))


# --- the command line ---------------------------------------------------------------------------------


def test_a_video_from_text_with_its_record(command: CommandLine) -> None:
    code, out, err = command(*T2V, "--output_path", "out/ball.mp4", "--save_latents", "--preview")
    assert code == 0 and "out/ball.mp4: 48 frames of 16×16 at 24 per second" in out
    assert err.startswith("48 frames are made, 2.0 s at 24 per second\n")
    assert "chunk 2/2" in err and "ball.preview.mp4 has the first 24 frames" in err
    assert read_frames("out/ball.mp4", range(48)).shape == (48, 16, 16, 3)
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == ["ball.json", "ball.mp4", "ball.safetensors"]
    record = json.loads(Path("out/ball.json").read_text())
    assert record["settings"]["seed"] == 1234 and record["settings"]["prompt"] == "a red ball"
    assert {part["part"] for part in record["weights"]} == {"transformer", "VAE"}
    assert set(record["settings"]["weights"]) == {"transformer", "vae", "text"}
    assert record["versions"]["torch"] == torch.__version__


def test_a_text_is_read_once_for_all_videos_of_a_folder(
    command: CommandLine, nano: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed, and a list of jobs, find what the text encoder said; the videos are the same."""
    plain = command(*T2V, "--seed", "3", "--output", "plain.mp4", "--json")
    monkeypatch.setattr(magi1.text.features, "LEAST_BYTES", 1)
    loads: list[Path] = []

    def counted(folder: Path, **options: Any) -> Any:
        assert "dit" not in vars(pipelines[-1]), "it comes before the transformer"
        loads.append(folder)
        return load_text_encoder(folder, **options)

    pipelines: list[Pipeline] = []
    init = Pipeline.__init__

    def noted(self: Pipeline, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        pipelines.append(self)

    monkeypatch.setattr(Pipeline, "__init__", noted)
    monkeypatch.setattr(magi1.text.features, "load_text_encoder", counted)
    for seed in ("3", "4"):
        assert command(*T2V, "--seed", seed, "--output", f"runs/{seed}.mp4", "--json")[0] == 0
    assert len(loads) == 1
    first, again = (read_frames(name, range(48)) for name in ("plain.mp4", "runs/3.mp4"))
    assert plain[0] == 0 and np.array_equal(first, again)
    prompts = (T2V[3], T2V[3], "two boxes")
    lines = (json.dumps({"id": str(i), "mode": "t2v", "prompt": p}) for i, p in enumerate(prompts))
    Path("list.jsonl").write_text("\n".join(lines) + "\n")
    flags = ["--jobs", "list.jsonl", "--runs", "runs", "--no_scores", "--no_progress"]
    for steps in ("4", "8"):
        more = ["--config_file", str(nano / "nano.json"), "--num_steps", steps]
        assert batch([*flags, *more]) == 0
    assert len(loads) == 2  # for the new text


def test_done_is_done_and_nothing_is_replaced_unasked(command: CommandLine) -> None:
    assert command(*T2V)[0] == 0
    stamp = Path("output.mp4").stat().st_mtime_ns
    code, out, err = command(*T2V, "--json")
    assert code == 0 and "already there" in err and json.loads(out)["frames"] == 48
    assert Path("output.mp4").stat().st_mtime_ns == stamp
    assert "made with other settings" in command.fails(*T2V, "--seed", "3")
    assert command(*T2V, "--seed", "3", "--overwrite")[0] == 0
    assert json.loads(Path("output.json").read_text())["settings"]["seed"] == 3
    Path("mine.mp4").write_bytes(b"something of mine")
    no_record = command.fails(*T2V, "--output_path", "mine.mp4")
    assert "there is no record of how it was made" in no_record and "mine.json back" in no_record
    Path("mine.json").write_text("[]")
    assert "mine.json beside it is no record" in command.fails(*T2V, "--output_path", "mine.mp4")
    assert Path("mine.mp4").read_bytes() == b"something of mine"


def test_a_video_of_another_ending_keeps_its_record(command: CommandLine) -> None:
    """``output.json`` and ``output.candidates`` can belong to one video only."""
    assert command(*T2V)[0] == 0
    for more in ((), ("--overwrite",)):
        error = command.fails(*T2V, "--seed", "3", "--output", "output.mkv", *more)
        assert "output.json is the record of output.mp4" in error
    Path("output.mp4").unlink()
    assert command(*T2V, "--output", "output.mkv")[0] == 0
    assert json.loads(Path("output.json").read_text())["output"] == "output.mkv"
    assert command(*T2V, "--output", "output.mkv")[2].startswith("already there")


def test_long_names_work_or_are_refused_at_once(command: CommandLine) -> None:
    for stem in ("x" * 212, "y" * 246, "é" * 125 + "z"):
        assert command(*T2V, "--output_path", f"{stem}.mp4", "--preview", "--save_latents")[0] == 0
        names = sorted(path.name for path in Path().iterdir() if path.name[0] == stem[0])
        assert len(names) == 3 and f"{stem}.mp4" in names
        assert "already there" in command(*T2V, "--output_path", f"{stem}.mp4")[2]
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]
    said = command.fails(*T2V, "--output_path", "x" * 252 + ".mp4")
    assert "longer than a path can be" in said and len(said) < 300
    assert "no home folder" in command.fails(*T2V, "--output_path", "~nosuchuser/o.mp4")


def test_image_and_video(command: CommandLine, inputs: Path) -> None:
    image = ("--mode", "i2v", "--init_image", str(inputs / "image.png"), "--guidance_scale", "0")
    assert command(*image, "--num_frames", "20", "--output_path", "i.mp4")[0] == 0
    assert len(read_frames("i.mp4", range(24))) == 24
    video = ("--mode", "v2v", "--init_video", str(inputs / "video.mp4"), "--guidance_scale", "0")
    assert command(*video, "--num_frames", "8", "--output_path", "v.mp4")[0] == 0
    released = ("--compat", "released", "--output_path", "r.mp4")
    assert command(*video, "--num_frames", "16", *released)[0] == 0
    counted = {name: json.loads(Path(f"{name}.json").read_text())["frames"] for name in ("v", "r")}
    assert counted == {"v": 16, "r": 13}


def test_a_video_goes_on_where_it_ends(inputs: Path) -> None:
    size, path = (16, 16), str(inputs / "video.mp4")
    last, first = (
        given_frames(None, path, size, 24, released=released) for released in (False, True)
    )
    assert last is not None and first is not None and len(last.frames) == len(first.frames) == 32
    # Of 40 frames, 24 are in both.
    assert torch.equal(last.frames[:24], first.frames[8:])
    assert not torch.equal(last.frames[24:], first.frames[24:])
    slower = given_frames(
        None, path, size, 21
    )  # 35 frames; 14 a second make 23, of which 20 are used
    fewer = given_frames(None, path, size, 14)
    assert slower is not None and len(slower.frames) == 32
    assert fewer is not None and len(fewer.frames) == 20


def test_the_released_choice_of_frames_may_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "thirty.mp4"
    levels = np.arange(0, 240, 6, dtype=np.uint8)
    write_video(path, np.repeat(levels, 16 * 16 * 3).reshape(-1, 16, 16, 3), fps=30)
    found = (given_frames(None, str(path), (16, 16), 24, released=r) for r in (True, False))
    released, nearest = (
        [round(frame.float().mean().item() / 6) for frame in given.frames]
        for given in found
        if given
    )
    assert released[:8] == [0, 1, 3, 4, 5, 6, 8, 9]  # a frame between two numbers goes up
    assert nearest[:8] == [0, 1, 2, 4, 5, 6, 7, 9]


def test_dashes_and_numbers_of_the_configuration(command: CommandLine) -> None:
    flags = (
        "--num-steps",
        "4",
        "--chunks-at-once",
        "2",
        "--num-frames",
        "24",
        "--text-scales",
        "3",
    )
    code, out, _ = command(*T2V, *flags, "--video-size-h", "24", "--json")
    record = json.loads(out)
    assert code == 0 and record["size"] == [24, 16] and record["frames"] == 24
    runtime = record["settings"]["runtime_config"]
    assert runtime["num_steps"] == 4 and runtime["text_scales"] == [3.0] * 5


def test_a_compiled_run_says_so(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code may round differently, so the record has to tell."""
    compiled: list[DiT] = []
    monkeypatch.setattr(DiT, "compile_layers", lambda dit: compiled.append(dit))
    flags = ("--num_frames", "24", "--num_steps", "4", "--guidance_scale", "0", "--json")
    code, out, err = command(*T2V, *flags, "--compile")
    assert code == 0, err
    assert json.loads(out)["compiled"] is True and len(compiled) == 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "needs a --prompt"),
        (("--mode", "i2v"), "--mode i2v needs --init_image"),
        (("--mode", "v2v"), "--mode v2v needs --init_video"),
        (("--mode", "t2v"), "needs a --prompt"),
        ((*T2V, "--init_image", "x.png"), "--init_image has no meaning with --mode t2v"),
        ((*T2V, "--video_size_h", "20"), "--video_size_h 20 must be a multiple of 8"),
        ((*T2V, "--video_size_w", "8"), "at least 16; 16 fits"),
        (
            (*T2V, "--num_steps", "6"),
            "--num_steps 6 must be a multiple of --chunks_at_once (here 4); 4 and 8 fit",
        ),
        (
            (*T2V, "--chunks_at_once", "5"),
            "--num_steps (here 8) must be a multiple of --chunks_at_once 5 and of 4, the entries of "
            "noise2clean_kvrange; 20 fits",
        ),
        (
            (*T2V, "--num_frames", "3"),
            "--num_frames 3 must be at least 4, the frames of one latent",
        ),
        ((*T2V, "--text_scales", "1", "2.5"), "--text_scales 1 2.5 must have 5 entries"),
        ((*T2V, "--fps", "22"), "22 frames per second (--video_fps) do not fit the VAE"),
        ((*T2V, "--fps", "9"), "where one that is left over becomes a single frame; 16 and 24 fit"),
        ((*T2V, "--fps", "40"), "40 frames per second (--video_fps) do not fit the VAE"),
        ((*T2V, "--fps", "22"), "in steps of 4 frames; 16 and 24 fit"),
        ((*T2V, "--cp_size", "64"), "--cp_size 64 must divide the"),
        ((*T2V, "--guidance_steps", "2x8"), "--guidance_steps 2x8 must hold 0 and 1 only"),
        (
            (*T2V, "--guidance_scale", "1", "--guidance_range", "0.5", "0.2"),
            "--guidance_range 0.5 0.2 must rise",
        ),
        ((*T2V, "--output_path", "video.txt"), "must end in .mp4"),
        ((*T2V, "--output_path", "."), "must end in .mp4"),
        ((*T2V, "--device", "cuda:99"), "is not there"),
        ((*T2V, "--kernels", "flash"), "need flash_attn"),
        ((*T2V, "--sede", "3"), "--sede"),
        (("--config_file", "none.json", *T2V), "none.json: no such file"),
    ],
)
def test_wrong_flags(command: CommandLine, flags: tuple[str, ...], says: str) -> None:
    assert says in command.fails(*flags)
    assert not list(Path().iterdir())


def test_wrong_inputs(command: CommandLine, inputs: Path) -> None:
    for mode, flag, name, says in (
        ("i2v", "--init_image", "none.png", "no such file"),
        ("i2v", "--init_image", "broken.png", "is not an image"),
        ("v2v", "--init_video", "broken.png", "broken.png"),
        ("v2v", "--init_video", "short.mp4", "has 2 frames at 24 per second"),
        ("i2v", "--init_image", "video.mp4", "is a video, but --init_image takes an image"),
        ("v2v", "--init_video", "image.png", "is an image, but --init_video takes a video"),
    ):
        assert says in command.fails("--mode", mode, flag, str(inputs / name), code=1)


@pytest.mark.parametrize(
    ("command_line", "flags", "says"),
    [
        ("generation", ("--init_image", "none.png"), "none.png: no such file"),
        ("generation", ("--init_video", "none.mp4"), "none.mp4: no such file"),
        ("generation", ("--prompt", "x", "--config_file", "none.json"), "none.json: no such file"),
        ("generation", ("--plan", "--config_file", "none.json"), "none.json: no such file"),
        ("generation", ("--mode", "i2v"), "--mode i2v needs --init_image"),
        ("generation", (), "needs a --prompt"),
        ("generation", ("--prompt", "x", "--keep", "few"), "--keep few must be"),
        ("generation", ("--prompt", "x", "--seed", "1", "--seeds", "2"), "leave out one"),
        ("generation", ("--pipeline", "p", "--cp_size", "2"), "--cp_size has no meaning with"),
        ("generation.batch", ("--jobs", "none.jsonl"), "none.jsonl: no such file"),
        ("generation.batch", ("--jobs", "x", "--config_file", "none.json"), "none.json: no such"),
        (
            "generation.batch",
            ("--jobs", "x", "--pipeline", "p", "--compat", "released"),
            "--compat",
        ),
    ],
)
def test_cheap_mistakes_are_told_before_torch_is_imported(
    command_line: str,
    flags: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its import, and that of what stands on it, takes seconds."""
    monkeypatch.chdir(tmp_path)
    cli = import_module(f"wmreward.{command_line}.cli")
    pipelines = ("pipelines.command.workshop", "pipelines.command.batch")
    heavy = ("generation.job", "generation.batch.setup", *pipelines)
    for name in heavy:  # whoever imports one of these has lost
        monkeypatch.setitem(sys.modules, f"wmreward.{name}", None)
    assert cli.main(list(flags)) in (1, 2)
    assert says in capsys.readouterr().err


def test_nothing_heavy_is_imported_for_a_cheap_mistake(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from wmreward.generation import cli\n"
        "from wmreward.generation.batch import cli as batch\n"
        "assert cli.main(['--init_image', 'none.png']) == 1 and batch.main(['--jobs', 'none']) == 2\n"
        "assert not {'torch', 'numpy', 'magi1', 'diffusers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_missing_weights_are_all_named_before_anything_else(
    command: CommandLine, nano: Path, tmp_path: Path
) -> None:
    lost = replace(nano_config(nano), runtime_config=nano_config(tmp_path / "no").runtime_config)
    lost.save(tmp_path / "lost.json")
    command.config = str(tmp_path / "lost.json")
    error = command.fails(*T2V, code=1)
    for part in ("transformer", "text encoder", "VAE", "--download"):
        assert part in error


def test_a_full_disk(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(".")._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "only 1 MiB left on the disk" in command.fails(*T2V, code=1)


def test_videos_that_no_memory_holds_are_refused_before_anything_is_made(
    command: CommandLine, nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line that says what would fit; of a list, too."""
    monkeypatch.setattr("wmreward.generation.room.available_memory", lambda: 2**30)
    for needs in ("job.check_parts", "batch.setup.check_parts"):
        monkeypatch.setattr(
            f"wmreward.generation.{needs}", lambda *_: pytest.fail("weights are read")
        )
    told = command.fails(*T2V, "--num_frames", "1000000")
    assert (
        "of memory, but 819.2 MiB are free for it: up to" in told
        and "frames fit (--num_frames)" in told
    )
    most = re.search(r"up to (\d+) frames fit", told)
    assert most is not None
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text('{"id": "a", "mode": "t2v", "prompt": "x", "seeds": [0]}\n')
    flags = ["--jobs", str(jobs), "--config_file", str(nano / "nano.json"), "--no_scores"]
    assert batch([*flags, "--num_frames", "1000000"]) == 2
    several = ("--num_frames", most[1], "--best_of", "64", "--candidate_batch")
    assert "in 64 videos at once need" in command.fails(*T2V, *several, "64")
    assert "weights are read" in command(*T2V, "--num_frames", most[1])[2]  # so many do fit


def test_who_compiles_on_a_cpu_is_told_to_wait(
    command: CommandLine, nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(DiT, "compile_layers", lambda self: None)
    note = "note: --compile on a CPU may take minutes before it gains anything"
    flags = (*T2V, "--num_frames", "24", "--num_steps", "4", "--output", "ball.mp4")
    code, _, err = command(*flags, "--compile")
    assert code == 0 and err.count(note) == 1
    assert note not in command(*flags, "--compile")[2]  # it is there: nobody waits
    assert note not in command(*flags, "--overwrite")[2]
    job = tmp_path / "list.jsonl"
    job.write_text('{"id": "ball", "mode": "t2v", "prompt": "a ball"}\n')
    config = str(nano / "nano.json")
    common = ("--jobs", str(job), "--config_file", config, "--device", "cpu", "--no_scores")
    assert batch([*common, "--run", "run", "--compile", "--num_steps", "4"]) == 0
    assert capsys.readouterr().err.count(note) == 1


def test_the_state_after_a_chunk_is_let_go(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds the whole video: all of them would grow with the square of its length."""
    states: list[weakref.ref[Any]] = []
    keep = _Run._keep

    def kept(self: _Run, state: Any) -> None:
        states.append(weakref.ref(state))
        keep(self, state)
        assert sum(ref() is not None for ref in states) <= 2  # this one, and the one before it

    monkeypatch.setattr(_Run, "_keep", kept)
    assert command(*T2V, "--num_frames", "96")[0] == 0 and len(states) > 3


def test_memory_of_a_video_is_no_less_than_its_tensors(nano: Path) -> None:
    config = nano_config(nano)
    config = replace(config, runtime_config=replace(config.runtime_config, num_frames=480))
    layout = VideoLayout.plan(config.runtime_config)
    model, runtime = config.model_config, config.runtime_config
    noise = make_noise(
        layout, model.latent_channels, runtime.latent_height, runtime.latent_width, seed=0
    )
    frames = torch.zeros(480, runtime.video_size_h, runtime.video_size_w, 3, dtype=torch.uint8)
    text = torch.zeros(2, layout.chunks, model.caption_max_length, model.caption_channels)
    least = 3 * noise.nbytes + 2 * frames.nbytes + 2 * text.nbytes
    assert least <= host_of_video(config, layout) < 1.5 * least
    more = host_of_video(config, layout, videos=3) - host_of_video(config, layout)
    assert more == 2 * (3 * noise.nbytes + frames.nbytes)


def test_out_of_memory_says_what_to_try(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Pipeline, "prepare", no_memory)
    assert "try --offload, --chunks_at_once 1" in command.fails(*T2V, code=1)


@pytest.mark.parametrize("size", ["24B", "4.5B"])
def test_plans_of_the_released_models_need_no_weights(command: CommandLine, size: str) -> None:
    for kind in ("base", "distill", "distill_quant"):
        command.config = str(ROOT / f"MAGI-1/example/{size}/{size}_{kind}_config.json")
        for mode in ("t2v", "i2v"):
            code, out, _ = command("--plan", "--mode", mode)
            assert code == 0 and "PFLOP" in out and "GiB" in out and "not counted" not in out
        code, out, _ = command("--plan", "--mode", "v2v")
        assert code == 0 and "not counted             guidance" in out
        code, out, _ = command("--plan", "--mode", "i2v", "--json", "--offload")
        assert code == 0 and json.loads(out)["mode"] == "i2v"


def test_a_plan_counts_what_the_run_does(command: CommandLine) -> None:
    """The candidates, and the plain one to compare with; the given frames of a short clip."""
    write_video("short.mp4", np.zeros((9, 32, 32, 3), np.uint8), 24)
    flags = ("--init_video", "short.mp4", "--num_frames", "24", "--guidance_scale", "0")
    _, out, _ = command(*flags, "--plan", "--json")
    planned = json.loads(out)
    code, out, err = command(*flags, "--prompt", "x", "--json")
    assert code == 0, err
    assert planned["frames"] == json.loads(out)["frames"] == 40 and planned["videos"] == 1
    several = ("--best_of", "4", "--candidate_batch", "3", "--compare", "--guidance_scale", "1")
    _, out, _ = command(*T2V, *several, "--plan", "--json")
    counted = json.loads(out)
    assert (counted["videos"], counted["at_once"]) == (5, 3)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--guidance_scale", "1", "--num_frames", "24", "--window_size", "64"), "needs 64"),
        (("--best_of", "2", "--num_frames", "24", "--window_size", "64"), "needs 64"),
        (("--compare", "--guidance_scale", "0"), "--compare has nothing to compare with"),
        (("--judge", "vitl"), "give both"),
        (("--best_of", "3", "--preview"), "--preview shows a single video"),
        (("--video_fps", "8"), "8 frames per second (--video_fps) do not fit the VAE"),
        (("--init_image", "a.png"), "--init_image has no meaning with --mode t2v"),
    ],
)
def test_a_plan_refuses_what_the_run_refuses(
    command: CommandLine, flags: tuple[str, ...], says: str
) -> None:
    assert says in command.fails(*T2V, *flags)
    assert says in command.fails(*T2V, *flags, "--plan")


def test_help_tells_every_default() -> None:
    parser = build_parser()
    parser.show_rare()
    shown = " ".join(parser.format_help().split())
    for flag, default in parser.defaults.items():
        assert f"--{flag}" in shown
        if default not in (None, False, ""):
            assert f"(default: {parser.flags[flag].shown_default})" in shown


# --- interrupting -------------------------------------------------------------------------------------


def test_sigterm_and_the_same_command_again(
    nano: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an interrupted run had finished is kept, and the whole is that of an undisturbed run."""
    flags = (*T2V, "--num_frames", "480", "--output_path", "long.mp4", "--save_latents")
    process = script(tmp_path, nano / "nano.json", *flags)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob(".long.*.resume.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "goes on from the last finished chunk" in err
    assert not (tmp_path / "long.mp4").exists()
    monkeypatch.chdir(tmp_path)
    config = ("--config_file", str(nano / "nano.json"))
    assert main([*config, *flags]) == 0
    assert "finished chunks of an interrupted run" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))
    assert main([*config, *flags[:-2], "whole.mp4", "--save_latents"]) == 0
    from safetensors.torch import load_file

    first, second = (load_file(tmp_path / f"{n}.safetensors")["latents"] for n in ("long", "whole"))
    assert torch.equal(first, second)
    assert json.loads((tmp_path / "long.json").read_text())["resumed"] is True


def test_two_processes_share_a_video(nano: Path, tmp_path: Path) -> None:
    flags = (*T2V, "--num_frames", "24", "--num_steps", "4", "--save_latents", "--output_path")
    config = nano / "nano.json"
    assert main(["--config_file", str(config), *flags, str(tmp_path / "one.mp4")]) == 0
    run = script(tmp_path, config, *flags, "two.mp4", "--cp_size", "2", processes=2)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err[-3000:]
    from safetensors.torch import load_file

    one, two = (load_file(tmp_path / f"{name}.safetensors")["latents"] for name in ("one", "two"))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert json.loads((tmp_path / "two.json").read_text())["processes"] == 2
