"""Which package may import which, and that none needs more than the core dependencies."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT: dict[str, set[str]] = {
    "wmfiles": set(),
    "wmweights": {"wmfiles"},
    "simworld": {"wmfiles"},
    "vjepa2": {"wmweights", "wmfiles"},
    "magi1": {"wmweights", "wmfiles"},
    "wmreward": {"vjepa2", "magi1", "wmweights", "wmfiles"},
    "training": {"vjepa2", "simworld", "magi1", "wmweights"},
    "benchmarks": {"vjepa2", "simworld", "wmreward", "magi1", "training", "wmweights", "wmfiles"},
    "compute_wmreward": {"wmreward"},
    "generate_magi1": {"wmreward"},
}
"""Each package of ours, and what it may import of ours besides itself. Scripts are imported by nothing."""

OPTIONAL = {
    "matplotlib",
    "transformers",
    "diffusers",
    "accelerate",
    "decord",
    "torchvision",
    "timm",
    "flash_attn",
    "flashinfer",
    "triton",
    "cv2",
    "sentencepiece",
    "ftfy",
    "bs4",
    "zstandard",
    "magi_attention",
    "pandas",
    "hypothesis",
    "pytest",
    "pymunk",
    "PIL",
    "gradio",
    "fastapi",
    "starlette",
    "uvicorn",
}
"""What may be missing: used only where asked for, or by the tests."""


def package_folders() -> dict[str, Path]:
    """Where each package or script lies, if it exists."""
    places = {name: ROOT / name for name in MAY_IMPORT}
    places["magi1"] = ROOT / "MAGI-1" / "magi1"
    for script in ("compute_wmreward", "generate_magi1"):
        places[script] = ROOT / f"{script}.py"
    return {name: place for name, place in places.items() if place.exists()}


def sources() -> list[tuple[str, Path]]:
    """All our source files with the package they belong to."""
    return [
        (name, file)
        for name, place in package_folders().items()
        for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))
    ]


def imported(file: Path) -> set[str]:
    """Top-level names that a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    files = [file for name, file in sources() if name == package]
    assert files, f"{package} is not there"
    allowed = MAY_IMPORT[package] | {package}
    for file in files:
        wrong = imported(file) & (MAY_IMPORT.keys() - allowed)
        assert not wrong, f"{file.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


ROOMS: dict[str, set[str]] = {
    "video": set(),
    "commands": set(),
    "tables": set(),
    "steering": set(),
    "pictures": {"video"},
    "surprise": {"video", "pictures"},
    "rewards": {"surprise"},
    "records": {"surprise", "video"},
    "search": {"rewards", "records", "surprise", "pictures", "video", "tables"},
    "scoring": {"surprise", "records", "pictures", "video", "tables", "commands"},
    "compare": {"records", "tables", "commands"},
    "select": {
        "tables",
        "pictures",
        "search",
        "scoring",
        "rewards",
        "records",
        "surprise",
        "video",
        "commands",
    },
    "physics_iq": {"tables", "video", "commands"},
    "prompts": {"physics_iq", "video", "commands"},
    "batch": {"prompts", "physics_iq", "records", "video", "commands"},
    "report": {
        "tables",
        "batch",
        "prompts",
        "scoring",
        "records",
        "rewards",
        "surprise",
        "video",
        "commands",
    },
    "evaluate": {"report", "batch", "physics_iq", "records", "commands"},
    "generation": {
        *("batch", "prompts", "search", "steering", "rewards", "records", "surprise"),
        *("pictures", "video", "commands"),
    },
    "pipelines": {
        *("generation", "batch", "prompts", "steering", "rewards", "video", "commands"),
    },
    "app": {
        *("generation", "prompts", "scoring", "records", "search", "rewards", "surprise"),
        *("pictures", "video", "commands"),
    },
}
"""The rooms of wmreward, the lowest first, and what each may import besides itself and the files at the root.
A room's `cli.py` stands above all rooms: a command may bring together what it likes."""

KNOWS_MODELS = {
    "vjepa2": {"surprise", "rewards", "scoring", "report", "app"},
    "magi1": {"generation", "app"},
}
"""The rooms that know a model by name."""


def test_rooms_import_downwards_only() -> None:
    """Also that the table above has no way up: each room names only rooms before it."""
    below: set[str] = set()
    for room, allowed in ROOMS.items():
        assert allowed <= below, f"{room} may import {allowed - below}, which stand above it"
        below.add(room)
    folders = {place.name for place in (ROOT / "wmreward").iterdir() if place.is_dir()}
    assert folders - {"__pycache__"} == ROOMS.keys()
    for file in sorted((ROOT / "wmreward").rglob("*.py")):
        room = file.relative_to(ROOT / "wmreward").parts[0]
        for module in imported_modules(file):
            package, _, rest = module.partition(".")
            if package in KNOWS_MODELS:
                assert room in KNOWS_MODELS[package], f"{room} imports {module} ({file.name})"
            other = rest.partition(".")[0]
            if (
                package != "wmreward"
                or other not in ROOMS
                or file.name in {"cli.py", "__init__.py"}
            ):
                continue
            if room.endswith(".py"):  # the root's files are the foundation
                starts = room == "__main__.py" and module == "wmreward.commands.ending"
                ours = room == "video_io.py" and other == "video"
                assert ours or starts, f"{room} imports {module}"
                continue
            assert other in ROOMS[room] | {room}, f"{file.relative_to(ROOT)} imports {module}"


MODEL_ROOMS: dict[str, dict[str, set[str]]] = {
    "magi1": {
        "transformer": set(),
        "parallel": {"transformer"},
        "sampling": {"transformer"},
        "files": {"transformer"},
        "text": {"files"},
        "planning": {"transformer", "sampling", "files"},
    },
    "vjepa2": {"files": set()},
}
"""The rooms of each model, the lowest first, and what each may import besides itself and its root."""


@pytest.mark.parametrize("package", MODEL_ROOMS)
def test_rooms_of_a_model_import_downwards_only(package: str) -> None:
    rooms, place = MODEL_ROOMS[package], package_folders()[package]
    assert rooms.keys() == {file.parent.name for file in place.glob("*/__init__.py")}
    below: set[str] = set()
    for room, allowed in rooms.items():
        assert allowed <= below, f"{room} may import {allowed - below}, which stand above it"
        below.add(room)
        for file in (place / room).glob("*.py"):
            found = [module.split(".") for module in imported_modules(file)]
            others = {parts[1] for parts in found if parts[0] == package and len(parts) > 2}
            assert others <= allowed | {room}, f"{file.relative_to(ROOT)} imports {others}"


def imported_modules(file: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_the_method_does_not_know_which_model_it_serves() -> None:
    """Inside the room of surprise: the arithmetic takes any model of the right shape."""
    for name in (
        *("sampling", "inputs", "windows", "tokens", "aggregate", "scorer", "config"),
        "rules",
        *("result", "show"),
    ):
        modules = imported_modules(ROOT / "wmreward" / "surprise" / f"{name}.py")
        assert not {name.partition(".")[0] for name in modules} & {"vjepa2", "simworld", "magi1"}


def modules(package: str, place: Path) -> list[str]:
    if place.is_file():
        return [package]
    names = []
    for file in sorted(place.rglob("*.py")):
        parts = file.relative_to(place.parent).with_suffix("").parts
        if "__main__" in parts:
            continue  # runs on import
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


PROBE = """
import importlib, json, sys
optional, names = json.loads(sys.argv[1])

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in optional:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
for name in names:
    before = set(sys.modules)
    importlib.import_module(name)
    pulled = {new.partition(".")[0] for new in set(sys.modules) - before} & set(optional)
    assert not pulled, f"{name} imports {pulled}"
import torch
assert not torch.cuda.is_initialized(), "the GPU was touched"
assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
print("all imported")
"""


NO_COMPILER = """
import sys, torch
from magi1.transformer.fp8 import PerTensorFP8Linear
from magi1.transformer.kernels import wide_linear
from vjepa2.layers import Block, run_block

half = torch.randn(4, 16).bfloat16()
wide_linear(half.requires_grad_(), torch.randn(8, 16).bfloat16()).sum().backward()
PerTensorFP8Linear(16, 8)(half)
block = Block(8, 2, 16).requires_grad_(False)
tables = torch.ones(3, 4), torch.zeros(3, 4)
run_block(block, torch.randn(1, 3, 8).requires_grad_(), *tables, recompute=True).sum().backward()
assert "torch._dynamo" not in sys.modules
"""


def test_what_generates_and_guides_does_not_load_the_compiler() -> None:
    """It takes seconds, also where nothing is compiled."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "MAGI-1")])
    line = [sys.executable, "-c", NO_COMPILER]
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_module_imports_with_the_core_dependencies_alone(tmp_path: Path) -> None:
    """In a process where the optional packages cannot be found."""
    names = [
        name for package, place in package_folders().items() for name in modules(package, place)
    ]
    names.remove("magi1.standardise_kernel")  # is Triton; imported where there is a GPU
    assert {
        "vjepa2.files.checkpoint",
        "wmreward.surprise.compute",
        "simworld.pairs",
        "training.world_model",
    } <= set(names)
    path = os.pathsep.join([str(ROOT), str(ROOT / "MAGI-1")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE, json.dumps([sorted(OPTIONAL), names])],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "all imported"  # and nothing printed on import


def test_heavy_packages_wait_until_they_are_used(tmp_path: Path) -> None:
    """``import wmreward`` stays quick: no plotting, no Hub client, no compiler."""
    code = "import json, sys, wmreward; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & (OPTIONAL | {"huggingface_hub", "simworld", "training", "benchmarks"})


def test_public_names_exist() -> None:
    import vjepa2
    import wmreward

    for package in (vjepa2, wmreward):
        assert sorted(package.__all__, key=str.lower) == sorted(set(package.__all__), key=str.lower)
        for name in package.__all__:
            assert hasattr(package, name), f"{package.__name__}.{name}"
