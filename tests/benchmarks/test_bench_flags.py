"""Benchmarks, training, simulations and the demo speak the words of the commands: one concept, one flag."""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from pathlib import Path

import pytest

from wmreward.cli import COMMANDS
from wmreward.commands.flag_table import parsers
from wmreward.commands.flags import Flag
from wmreward.commands.meanings import MEANINGS

ROOT = Path(__file__).parents[2]

MODULES = (
    "benchmarks.bench_batch",
    "benchmarks.bench_generate.benchmark",
    "benchmarks.bench_physics_iq",
    "benchmarks.bench_pipelines.benchmark",
    "benchmarks.bench_report",
    "benchmarks.bench_reward",
    "benchmarks.campaign.__main__",
    "benchmarks.generator_quality.benchmark",
    "benchmarks.intuitive_physics.benchmark",
    "benchmarks.physics_repair.benchmark",
    "benchmarks.pipeline_repair.benchmark",
    "benchmarks.pipeline_repair.shrunk",
    "benchmarks.rehearsal.benchmark",
    "benchmarks.transfer.benchmark",
    "example.demo",
    "simworld.__main__",
    "training.autoencoder",
    "training.generator",
    "training.publish_generator",
    "training.world_model",
)

OTHERWISE = {
    "output": "a folder: several files are written",
    "run": "publish_generator: the folder of a training run, not of a batch",
    "model": "bench_reward measures several, a line each",
    "seed": "of scenes, pairs, files or a training, as there is no noise to be drawn alone",
    "share": "physics_repair takes two numbers, and counts blocks from 0",
    "cache": "of rendered pairs",
    "compile": "bench_generate measures with and without",
    "weights": "publish_generator and others take a path, and search nothing",
    "size": "side of square videos, or several sizes; no command has square videos only",
    "steps": "of a training: optimiser steps, not denoising steps",
    "batch": "of a training",
    "generator": "a size with random weights, or module:factory: there is no configuration file",
    "guidance": "all settings of guidance in one JSON object",
    "width": "of a network, not of a video",
    "pairs": "how many of each type; `wmreward compare` lists pairs by it",
    "candidates": "of each scene: choices among several numbers of them are compared",
}
"""Words that mean something else here than in a command, or that commands call otherwise, and why."""

OWN = {
    "also": "more rows, in JSON",
    "keep_activations": "what is kept for a gradient, not which videos",
    "batch_jobs": "how many jobs a batch has; a command is given a list",
    "average": "decay of averaged weights",
    "blocks": "folder of finished blocks",
    "condition": "how videos are spoilt before they are judged",
    "controls": "also baselines",
    "count": "how many are made",
    "decoder_depth": "of the autoencoder",
    "encoder_depth": "of the autoencoder",
    "every": "frames of the contact sheet",
    "fewer_steps": "of a control",
    "folder": "where files go, and stay",
    "grad_batch": "windows differentiated at once",
    "gradient": "weight of a loss",
    "grid": "settings to compare, a JSON file",
    "groups": "of queries that share keys and values",
    "guided": "guided candidates of each scene",
    "heads": "of attention",
    "held_out": "clips that a training never sees",
    "init_from": "weights that a training begins with",
    "judges": "which of the benchmark's judges",
    "kind": "of a violation",
    "kinds": "of violations",
    "kl": "weight of a loss",
    "layers": "that are run, or of a network",
    "learning_rate": "of a training",
    "limit_s": "seconds after which nothing new begins",
    "log_every": "steps of a training",
    "max_minutes": "after which a training stops with a checkpoint",
    "memory_gib": "of the GPU at most",
    "motion": "weight of a loss",
    "mse": "weight of a loss",
    "no_compile": "plain blocks",
    "nulls": "candidates of each control",
    "other_candidates": "the same, of what is less important",
    "parts": "which parts are measured",
    "pipelines": "which shapes of pipelines, with the kinds of steps",
    "pixel_steps": "of a training",
    "latent_steps": "of a training",
    "place": "weight of a loss",
    "pool": "clips that a training draws from",
    "previous_chunk": "strength of guidance by the previous chunk",
    "prompts": "true clips with prompts",
    "quick": "small and soon done",
    "records": "candidates that a run is resumed with",
    "render_batch": "pairs rendered at once",
    "repeats": "timed runs",
    "reuse": "passes of a training over a pool",
    "rule": "of choice",
    "said": "weight of a loss",
    "scenario": "of plain scenes",
    "scenes": "how many",
    "second_model": "another world model that judges",
    "second_weights": "its weights",
    "settings": "arguments of a factory, in JSON",
    "show": "verdicts that are printed one by one",
    "sizes": "heights and widths",
    "shrink": "how much smaller what is decoded is",
    "skip_reference": "do not time the plain way",
    "smoke": "a short training, to see it work",
    "split": "distribution of scenes",
    "splits": "the same, several",
    "step": "length of a step along a gradient",
    "strides": "of windows, a measurement each",
    "targets": "readers that are fed",
    "task_s": "seconds of a stand-in",
    "tasks": "what is continued",
    "text_layers": "of the text encoder",
    "text_width": "of the text encoder",
    "tune": "compare settings instead",
    "vae": "folder of an autoencoder's weights",
    "weight_decay": "of a training",
    "work": "what candidates cost",
    "world_model": "rehearsal: what scores and guides; --model named the generator there",
    "write": "the weights",
}
"""Words that only these have, and what they mean in all of them."""


class _FoundError(Exception):
    """Carries a parser."""


@pytest.fixture(scope="module")
def found() -> dict[str, argparse.ArgumentParser]:
    """Every parser as its command makes it."""

    def caught(self: argparse.ArgumentParser, *_: object) -> None:
        raise _FoundError(self)

    every = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", caught)
        patch.setattr("sys.argv", ["benchmark"])
        for name in MODULES:
            with pytest.raises(_FoundError) as told:
                import_module(name).main()
            every[name] = told.value.args[0]
    return every


@pytest.fixture(scope="module")
def commands() -> dict[str, Flag]:
    return {name: flag for parser in parsers(COMMANDS) for name, flag in parser.flags.items()}


def listed(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The flags that help shows, by name."""
    shown = {
        action.option_strings[0]: action for action in parser._actions if action.option_strings
    }
    return {name.removeprefix("--"): action for name, action in shown.items() if name != "-h"}


def test_no_parser_is_forgotten() -> None:
    makes = re.compile(r"argparse\.ArgumentParser\(|training\.loop import .*\bcommand\b")
    folders = ("benchmarks", "training", "simworld", "example")
    files = {file for folder in folders for file in (ROOT / folder).rglob("*.py")}
    having = {file for file in files if makes.search(file.read_text(encoding="utf-8"))}
    named = {ROOT / f"{name.replace('.', '/')}.py" for name in MODULES}
    helpers = {ROOT / "training/loop.py", ROOT / "benchmarks/physics_repair/flags.py"}
    assert having - helpers <= named


def test_the_words_are_those_of_the_commands(
    found: dict[str, argparse.ArgumentParser], commands: dict[str, Flag]
) -> None:
    used = set()
    for module, parser in found.items():
        for name, action in listed(parser).items():
            used.add(name)
            where = f"{module} --{name}"
            if name in OTHERWISE:
                continue
            assert name not in MEANINGS, f"{where}: commands say {MEANINGS[name]}"
            assert name in commands or name in OWN, f"{where} is no word of the vocabulary"
            assert not (name in commands and name in OWN), f"{where}: commands have it, too"
            if name in commands:
                several = action.nargs not in (None, 0)
                assert several <= commands[name].many, f"{where}: commands take one"
                assert (action.nargs == 0) == commands[name].is_switch, where
    assert not OTHERWISE.keys() - used, "no longer there"
    assert not OWN.keys() - used, "no longer there"


def test_earlier_spellings_work_and_are_not_listed(
    found: dict[str, argparse.ArgumentParser],
) -> None:
    for module, old in (
        ("benchmarks.bench_reward", "--frames"),
        ("benchmarks.bench_generate.benchmark", "--model"),
        ("benchmarks.rehearsal.benchmark", "--model"),
        ("benchmarks.physics_repair.benchmark", "--parts"),
        ("training.world_model", "--out"),
        ("simworld.__main__", "--frames"),
    ):
        parser = found[module]
        assert old in parser._option_string_actions
        assert not re.search(rf"{old}\b(?!_)", parser.format_help().partition("options:")[2])
