"""`wmreward generate --pipeline`: a tiny Wan from a folder, guided and judged by a nano world model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import guided_fixtures
import pytest

pytest.importorskip("diffusers")

import pipeline_fixtures
from guided_fixtures import candidates_in, record_of
from tiny_pipelines import image, tiny

from wmreward.generation.cli import main
from wmreward.pipelines.command.arguments import arguments_of
from wmreward.pipelines.command.workshop import WorkingPipeline
from wmreward.pipelines.seam import tell_plain
from wmreward.search.best_of_n import ALL_FRAMES

small_world = guided_fixtures.small_world
small_embedded = guided_fixtures.small_embedded
saved = pipeline_fixtures.saved


class CommandLine:
    def __init__(self, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.saved, self.capsys = saved, capsys

    def __call__(self, *flags: str, pipeline: str = "") -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.capsys.readouterr()
        code = main(
            [
                *("--pipeline", pipeline or str(self.saved / "wan"), "--device", "cpu"),
                *("--num_frames", "9", "--num_steps", "3", "--video_size_h", "32"),
                *("--video_size_w", "32", "--model", "tiny"),
                *("--window_size", "8", "--context_frames", "4", *flags),
            ]
        )
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err

    def fails(self, *flags: str, code: int = 2, pipeline: str = "") -> str:
        """The one line of an error."""
        got, out, err = self(*flags, pipeline=pipeline)
        assert got == code and out == "", err
        lines = [line for line in err.strip().splitlines() if line]
        assert len(lines) == 1 and lines[0].startswith("error: "), err
        return lines[0].removeprefix("error: ")


@pytest.fixture
def command(
    saved: Path,
    small_embedded: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return CommandLine(saved, capsys)


def read_all(video: Path) -> Any:
    return next(ALL_FRAMES.clips(video)).frames


PROMPT = ("--prompt", "a red ball rolls")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of the videos that are made."""
    seeds: list[int] = []
    plain = WorkingPipeline.make

    def noted(self: Any, request: Any, seed: int, *rest: Any, **more: Any) -> Any:
        seeds.append(seed)
        return plain(self, request, seed, *rest, **more)

    monkeypatch.setattr(WorkingPipeline, "make", noted)
    return seeds


def test_the_best_guided_candidate_is_the_output(command: CommandLine, made: list[int]) -> None:
    """Scores, sheet, comparison and plot; more candidates are asked for, and only they are made."""
    flags = (*PROMPT, "--guidance_scale", "0.1", "--keep", "all", "--best_of")
    code, out, err = command(*flags, "2", "--compare", "--plot")
    assert code == 0, err
    assert "output.mp4: 9 frames of 32×32 at 16 per second" in out
    assert "the choice among 2 raised the reward by" in err and "guidance acted on" in err
    assert made == [0, 1, 0]  # and the plain one, to compare with
    for name in ("output.compare.mp4", "output.candidates.png", "output.guidance.png"):
        assert Path(name).exists(), name
    record = record_of("output")
    said = record["search"]["compared"]
    assert said["by"]["model"] == "referee" and len(said["by"]["weights"]) == 64
    assert err.splitlines()[-1].startswith("referee, which neither guided nor chose, ")
    assert "note: tiny and referee know simulated balls and boxes only" in err
    lines = candidates_in("output.candidates")
    guided = [line for line in lines if "guidance" in line]
    assert len(guided) == 2 and guided[0]["scores"] != guided[1]["scores"]
    best = max(guided, key=lambda line: line["scores"]["surprise"])
    assert record["seed"] == best["seed"] and record["guidance"]["effect"]["gain"] > 0
    assert Path("output.mp4").read_bytes() == Path("output.candidates", best["path"]).read_bytes()
    assert {"torch", "diffusers"} <= record["versions"].keys()
    assert "already there" in command(*flags, "2", "--compare", "--plot")[2] and len(made) == 3
    assert command(*flags, "3")[0] == 0 and made[3:] == [2]


def test_a_killed_search_goes_on(
    command: CommandLine, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = (*PROMPT, "--best_of", "2")
    video = WorkingPipeline._video

    def killed(self: Any, request: Any, seed: int) -> Any:
        if seed == 1:
            raise KeyboardInterrupt
        return video(self, request, seed)

    monkeypatch.setattr(WorkingPipeline, "_video", killed)
    assert command(*flags)[0] == 130
    assert len(candidates_in("output.candidates")) == 1 and not Path("output.mp4").exists()
    monkeypatch.setattr(WorkingPipeline, "_video", video)
    assert command(*flags)[0] == 0
    assert made == [0, 1, 1]


def test_a_single_plain_video(command: CommandLine) -> None:
    """Without a world model; the file, the record and the pipeline's own arguments."""
    code, out, err = command(
        *PROMPT, "--seed", "3", "--json", "--pipeline_call", "guidance_scale=1.5"
    )
    assert code == 0, err
    record = json.loads(out)
    assert record["seed"] == 3 and "guidance" not in record
    assert record["settings"]["call"]["guidance_scale"] == 1.5
    assert len(read_all(Path("output.mp4"))) == 9
    changed = command.fails(*PROMPT, "--seed", "3")
    assert "made with other settings" in changed


def test_what_guidance_gives_up_is_recorded(command: CommandLine) -> None:
    """What changes the video decides whether it is there already; what does not, does not."""
    flags = (*PROMPT, "--guidance_scale", "0.1", "--pipeline_economy", "shrink=2")
    code, _, err = command(*flags)
    assert code == 0 and "or smaller differ from the exact ones by up to" in err, err
    record = record_of("output")
    assert record["settings"]["economy"] == {"shrink": 2}
    economy = record["guidance"]["economy"]
    assert economy["shrink"] == 2 and len(economy["errors"]) == 1 and not economy["on_host"]
    assert "already there" in command(*flags, "on_host")[2]
    assert "made with other settings" in command.fails(*flags[:-2])
    vain = command(*PROMPT, *flags[-2:], "--output", "plain.mp4")[2]
    assert "--pipeline_economy is without effect: nothing is guided" in vain
    assert "economy" not in record_of("plain")["settings"]


def test_seam_is_plain_surprise_and_says_so(
    command: CommandLine, caplog: pytest.LogCaptureFixture
) -> None:
    tell_plain.cache_clear()
    flags = (*PROMPT, "--reward", "seam", "--guidance_scale", "0.1", "--best_of", "2")
    assert command(*flags)[0] == 0
    told = [text for text in caplog.messages if "seam" in text]
    assert told == [
        "note: --reward seam is plain surprise here: WanPipeline has no given frames, and a window across "
        "their end needs 4 or more"
    ]


def test_offloaded(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    offloaded: list[Any] = []
    import diffusers

    monkeypatch.setattr(
        diffusers.DiffusionPipeline,
        "enable_model_cpu_offload",
        lambda self, device: offloaded.append(device),
    )
    assert command(*PROMPT, "--offload")[0] == 0 and [str(d) for d in offloaded] == ["cpu"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "--pipeline needs a --prompt"),
        ((*PROMPT, "--init_image", "image.png"), "makes videos from text alone"),
        ((*PROMPT, "--init_video", "a.mp4"), "--init_video has no meaning with --pipeline"),
        ((*PROMPT, "--search", "particles"), "use --best_of"),
        ((*PROMPT, "--guidance_through", "dit", "--guidance_scale", "1"), "use x0"),
        ((*PROMPT, "--pipeline_call", "guidance"), "must be NAME=VALUE"),
        (
            (*PROMPT, "--pipeline_economy", "on_host", "shrink=0"),
            "--pipeline_economy shrink=0 must be one of apart, on_host, pieces=N, scored=N, shrink=N",
        ),
        ((*PROMPT, "--pipeline_call", "latents=1"), "with a name of its own"),
        ((*PROMPT, "--pipeline_call", "speed=3"), "WanPipeline does not take speed"),
        (
            (*PROMPT, "--best_of", "2", "--window_size", "16"),
            "the video has 9 frames, but the reward needs 16",
        ),
        ((*PROMPT, "--guidance_scale", "1", "--guidance_scales", "1x5"), "is for 5 steps"),
        (
            (*PROMPT, "--video_size_h", "33"),
            "--video_size_h 33 must be a multiple of 16 for WanPipeline; 32 and 48 fit",
        ),
        ((*PROMPT, "--num_frames", "10"), "is no length of WanPipeline, which makes 4 frames at"),
        ((*PROMPT, "--num_frames", "10"), "; 9 and 13 fit"),
    ],
)
def test_wrong_flags(command: CommandLine, flags: tuple[str, ...], says: str) -> None:
    image().save("image.png")
    assert says in command.fails(*flags)


def test_pipelines_that_are_not_there_or_not_known(command: CommandLine, saved: Path) -> None:
    assert "there is no model_index.json" in command.fails(*PROMPT, pipeline=".")
    gone = command.fails(*PROMPT, pipeline="nobody/nothing", code=1)
    assert (
        "--pipeline nobody/nothing is no folder and not on this machine: `wmreward generate --download`"
        in gone
    )
    assert "--plan needs no weights: `hf download nobody/nothing --include '*.json'" in gone
    assert "neither a folder nor a name" in command.fails(*PROMPT, pipeline="no/such/folder")
    Path("strange").mkdir()
    Path("strange/model_index.json").write_text(json.dumps({"_class_name": "StrangePipeline"}))
    assert "StrangePipeline is not a pipeline that can be guided" in command.fails(
        *PROMPT, pipeline="strange"
    )
    shutil.copytree(saved / "wan", "torn")
    Path("torn/vae/diffusion_pytorch_model.safetensors").write_bytes(b"torn")
    code, _, err = command(*PROMPT, pipeline="torn")
    assert code == 1 and err.splitlines()[-1].startswith("error: torn cannot be loaded: ")


@pytest.mark.parametrize(
    ("flags", "lost", "says"),
    [
        (("--plan",), "text_encoder", "no description of it in lacking/text_encoder"),
        ((), "text_encoder", "no description of it in lacking/text_encoder"),
        (
            (),
            "text_encoder/*.safetensors",
            "no weights (.safetensors) of it in lacking/text_encoder",
        ),
    ],
)
def test_a_part_that_a_folder_lacks_is_named_before_anything_is_loaded(
    command: CommandLine, saved: Path, flags: tuple[str, ...], lost: str, says: str
) -> None:
    shutil.copytree(saved / "wan", "lacking")
    for place in Path("lacking").glob(lost):
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    told = command.fails(*PROMPT, *flags, pipeline="lacking", code=1)
    assert (
        told.startswith("--pipeline lacking lacks its part text_encoder: there is") and says in told
    )


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("guidance_scale=high", "guidance_scale of WanPipeline must be a number"),
        ("guidance_scale=true", "must be a number"),
        ("max_sequence_length=1.5", "must be a whole number"),
        ("attention_kwargs=[1]", 'must be names with values, as {"a": 1} or null'),
        ("prompt_embeds=[1.5]", "must be left out: no word of a command line is one"),
        ("callback_on_step_end_tensor_inputs=[1]", "must be a list, as [1, 2]"),
        ("strength=1", "WanPipeline does not take strength"),
    ],
)
def test_arguments_of_a_wrong_type_are_told_before_anything_is_loaded(
    command: CommandLine, asked: str, says: str
) -> None:
    assert says in command.fails(*PROMPT, "--pipeline_call", asked)


def test_a_video_that_no_memory_holds_is_refused(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wmreward.generation.room.available_memory", lambda: 2**20)
    assert "9 frames of 32×32" in command(*PROMPT)[1]  # the numbers of frames are those of Wan
    told = command.fails(*PROMPT, "--num_frames", "999997")
    assert "999997 frames of 32×32 need 25.7 GiB of memory" in told and "up to 30 frames" in told


def test_words_become_what_an_argument_takes() -> None:
    class Kind:
        def __call__(self, a: float, b: str, c: int | list[int], d: Any, e: int) -> None: ...

    words = ["a=2", "b=12", "c=[1, 2]", 'd={"x": null}', "e=23.5"]
    found = arguments_of(words, Kind, ["e"])
    assert found == {"a": 2, "b": "12", "c": [1, 2], "d": {"x": None}, "e": 23.5}
    Kind.__call__.__annotations__["b"] = "Lost"  # then nothing is known of any
    assert arguments_of(["a=high"], Kind, []) == {"a": "high"}


def test_a_tuple_is_written_as_a_list() -> None:
    class Kind:
        def __call__(self, a: tuple, b: tuple[int, int]) -> None: ...  # type: ignore[type-arg]

    assert arguments_of(["a=[1, 2]", "b=[3, 4]"], Kind, []) == {"a": [1, 2], "b": [3, 4]}


def test_an_image_opens_the_video(command: CommandLine, tmp_path: Path) -> None:
    """Refused without one; with one it decides the settings, and guidance is on by default."""
    tiny("wan_5b_i2v").pipe.save_pretrained(tmp_path / "i2v")
    pipeline = str(tmp_path / "i2v")
    assert "starts from an image: give --init_image" in command.fails(*PROMPT, pipeline=pipeline)
    image().save("image.png")
    image().save("moving.gif", save_all=True, append_images=[image().rotate(90)])
    moving = command.fails(*PROMPT, "--init_image", "moving.gif", pipeline=pipeline, code=1)
    assert "moving.gif: is a video, but --init_image takes an image" in moving
    lacking = command.fails(*PROMPT, "--init_image", "image.png", pipeline=pipeline, code=1)
    assert "lacks its part tokenizer: there is none named in its model_index.json" in lacking
