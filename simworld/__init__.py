"""Simulated physics for training and testing small video world models.

    scenes = sample_scenes(1024, seed=0)        # initial conditions
    trajectories = simulate(scenes)             # 40 frames of geometry
    looks = sample_looks(1024, seed=0)          # colours, light, camera
    video = render(trajectories, looks)         # [1024, 3, 16, 64, 64] in [0, 1]

    pairs = make_pairs("vanish", 100, seed=0)   # possible videos and impossible twins

    facts = describe(trajectories, looks)       # what is to be seen, and prompts that say it
    captions = write_captions(facts, make_generator(0, "captions"))

Motion and looks are separate, so a trajectory can be shown with many looks. Everything is batched,
seeded, and runs on the device of its generator.
"""

from simworld.batch import make_generator
from simworld.camera import in_picture, project, seen
from simworld.captions import MOTIONS, SIDES, Caption, Facts, describe, write_captions
from simworld.drawn import Style, sample_drawn_looks
from simworld.geometry import OOD_SHAPES, SHAPES, TRAIN_SHAPES
from simworld.looks import COLOR_NAMES, PALETTE, PATTERNS, Looks, sample_looks
from simworld.pairs import Pairs, make_pairs
from simworld.physics import Intervention, simulate, substep
from simworld.plain import sample_plain_looks, sample_plain_scenes
from simworld.render import render, sensor_noise
from simworld.scenes import SCENARIO_NAMES, SCENARIOS, STATICS, Scenes, Split
from simworld.staging import sample_scenes
from simworld.storage import load_pairs, save_pairs
from simworld.trajectories import Trajectories, hidden, uncovered
from simworld.twins import HIDDEN, RETIMED, VIOLATIONS
from simworld.varied import LONGEST_OCCLUSION, vary_scenes

__all__ = [
    "COLOR_NAMES",
    "HIDDEN",
    "LONGEST_OCCLUSION",
    "MOTIONS",
    "OOD_SHAPES",
    "PALETTE",
    "PATTERNS",
    "RETIMED",
    "SCENARIOS",
    "SCENARIO_NAMES",
    "SHAPES",
    "SIDES",
    "STATICS",
    "TRAIN_SHAPES",
    "VIOLATIONS",
    "Caption",
    "Facts",
    "Intervention",
    "Looks",
    "Pairs",
    "Scenes",
    "Split",
    "Style",
    "Trajectories",
    "describe",
    "hidden",
    "in_picture",
    "load_pairs",
    "make_generator",
    "make_pairs",
    "project",
    "render",
    "sample_drawn_looks",
    "sample_looks",
    "sample_plain_looks",
    "sample_plain_scenes",
    "sample_scenes",
    "save_pairs",
    "seen",
    "sensor_noise",
    "simulate",
    "substep",
    "uncovered",
    "vary_scenes",
    "write_captions",
]
