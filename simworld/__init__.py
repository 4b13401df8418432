"""Simulated physics for training and testing small video world models.

scenes = sample_scenes(1024, seed=0)        # initial conditions
trajectories = simulate(scenes)             # 40 frames of geometry
looks = sample_looks(1024, seed=0)          # colours, light, camera
video = render(trajectories, looks)         # [1024, 3, 16, 64, 64] in [0, 1]
"""

from simworld.batch import make_generator
from simworld.geometry import OOD_SHAPES, SHAPES, TRAIN_SHAPES
from simworld.looks import COLOR_NAMES, PALETTE, PATTERNS, Looks, sample_looks
from simworld.physics import Intervention, simulate
from simworld.render import render, sensor_noise
from simworld.scenes import SCENARIO_NAMES, SCENARIOS, STATICS, Scenes, Split, sample_scenes
from simworld.trajectories import Trajectories, hidden, uncovered

__all__ = [
    "COLOR_NAMES",
    "OOD_SHAPES",
    "PALETTE",
    "PATTERNS",
    "SCENARIOS",
    "SCENARIO_NAMES",
    "SHAPES",
    "STATICS",
    "TRAIN_SHAPES",
    "Intervention",
    "Looks",
    "Scenes",
    "Split",
    "Trajectories",
    "hidden",
    "make_generator",
    "render",
    "sample_looks",
    "sample_scenes",
    "sensor_noise",
    "simulate",
    "uncovered",
]
