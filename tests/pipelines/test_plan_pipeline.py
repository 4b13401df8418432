"""`wmreward generate --pipeline … --plan`: counted from configurations, held against what happens."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

pytest.importorskip("diffusers")

from tiny_pipelines import Tiny, tiny, wan_with_text

from wmreward.generation.cli import main
from wmreward.pipelines.command.counting import Counted
from wmreward.pipelines.decoding import Decoder, Economy
from wmreward.pipelines.families.known import family_of

SIZE = (
    *("--num_frames", "9", "--video_size_h", "32", "--video_size_w", "32", "--device", "cpu"),
    *("--window_size", "8", "--context_frames", "4"),
)


def planned(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    """What the command counts, from a folder without weights."""
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    capsys.readouterr()
    assert main(["--pipeline", str(folder), "--plan", "--json", *SIZE, *flags]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def decoder(made: Tiny) -> Decoder:
    bound = inspect.signature(type(made.pipe).__call__).bind(made.pipe, **made.call)
    bound.apply_defaults()
    return Decoder(family_of(made.pipe)(made.pipe, bound.arguments), Economy())


SHAPES = {
    "wan": (16, 3, 4, 4),
    "ltx": (8, 3, 8, 8),
    "cogvideox": (4, 3, 4, 4),
    "cosmos2": (16, 3, 4, 4),
}
"""Latents of 9 frames of 32 × 32 pixels."""


@pytest.mark.parametrize("name", SHAPES)
def test_counts_are_those_of_the_pipeline_at_work(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the byte, where tensors with content are counted in the same way; and torch's own allocator says the
    same of what waits, when no kernel is at work that keeps something for itself.
    """
    made = tiny(name)
    made.pipe.save_pretrained(tmp_path)
    own, latents = decoder(made), torch.zeros(1, *SHAPES[name])
    own.family.complete = lambda latents: latents  # type: ignore[method-assign]
    with Counted() as decoding:
        own.frames(latents, None)
    with Counted() as gradient:
        graph = own.graph(latents, None)
        waiting = gradient.bytes
        own.through(graph, torch.ones_like(graph[1]))
    found = planned(tmp_path, capsys, "--guidance_scale", "0.1")
    assert found["decoding"] == decoding.peak
    assert found["gradient"] == pytest.approx(gradient.peak, rel=1e-3)
    assert found["waiting"] == pytest.approx(waiting, rel=1e-3)
    del graph
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        graph = own.graph(latents, None)
    del graph  # after the profile: it is still there at its end
    events = profiled.profiler.kineto_results.events()
    allocated = sum(event.nbytes() for event in events if event.name() == "[memory]")
    assert waiting == pytest.approx(allocated, rel=0.06)  # states of random numbers are not counted
    weights = sum(
        p.nbytes for part in (made.pipe.vae, made.pipe.transformer) for p in part.parameters()
    )
    assert sum(found["weights"].values()) == weights
    assert found["plain"] == weights + decoding.peak
    assert found["guided"] == weights + found["gradient"]


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plain call has no gradient; with the text encoder; offloaded parts come one at a time."""
    wan_with_text().pipe.save_pretrained(tmp_path)
    found = planned(tmp_path, capsys)
    assert found["gradient"] is None and found["guided"] is None
    assert found["weights"].keys() == {"text_encoder", "transformer", "vae"}
    assert found["plain"] == sum(found["weights"].values()) + found["decoding"]
    other = planned(tmp_path, capsys, "--offload", "--dtype", "bfloat16", "--num_frames", "17")
    assert other["weights"]["transformer"] == found["weights"]["transformer"] / 2
    assert other["frames"] == 17 and other["decoding"] > 0.5 * found["decoding"]
    assert other["plain"] == other["weights"]["vae"] + other["decoding"]
    assert main(["--pipeline", str(tmp_path), "--plan", *SIZE, "--guidance_scale", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "WanPipeline: 9 frames of 32×32, float32"
    assert any(line.startswith("guided") for line in lines) and "not counted" in lines[-2]


def test_candidates_are_counted_and_wrong_flags_refused_as_at_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny("wan").pipe.save_pretrained(tmp_path)
    several = ("--best_of", "4", "--guidance_scale", "0.1", "--compare", "--model", "tiny")
    assert planned(tmp_path, capsys, *several)["videos"] == 5
    for flags, says in (
        (("--guidance_scale", "0.1", "--window_size", "16"), "but the reward needs 16"),
        (("--best_of", "4", "--window_size", "16"), "but the reward needs 16"),
        (("--compare",), "--compare has nothing to compare with"),
    ):
        assert main(["--pipeline", str(tmp_path), "--plan", *SIZE, *flags]) == 2
        assert says in capsys.readouterr().err


def test_what_cannot_be_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny("cogvideox").pipe.save_pretrained(tmp_path)
    assert main(["--pipeline", str(tmp_path), "--plan", "--device", "cpu"]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert err == "error: CogVideoXPipeline has no num_frames of its own: give --num_frames"
    config = tmp_path / "vae" / "config.json"
    config.write_text('{"block_out_channels": []}')
    assert main(["--pipeline", str(tmp_path), "--plan", *SIZE]) == 1
    assert "vae cannot be made" in capsys.readouterr().err


def test_what_guidance_gives_up_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quarter of the cells, a part of the frames, and what waits in host memory is not on the device; but
    the finished video is decoded whole.
    """
    made = tiny("cogvideox")
    made.pipe.save_pretrained(tmp_path)
    own, latents = decoder(made), torch.zeros(1, *SHAPES["cogvideox"])
    own.economy = Economy(scored=1, shrink=2)
    part = own.largest(3)
    with Counted() as decoding:
        own.frames(latents, None)
    with Counted() as gradient:
        graph = own.graph(own.shrunk(latents), part)
        kept = gradient.bytes
        own.through(graph, torch.ones_like(graph[1]))
    flags = ("--guidance_scale", "0.1", "--pipeline_economy", "scored=1", "shrink=2", "on_host")
    found = planned(tmp_path, capsys, *flags)
    assert found["decoding"] == decoding.peak and found["waiting"] == pytest.approx(kept, rel=1e-3)
    assert found["gradient"] == pytest.approx(gradient.peak - kept, rel=1e-3)
    assert part is not None and graph[1].shape[2:] == (part.count(4), 16, 16)
