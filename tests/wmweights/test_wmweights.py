"""Reading, storing and fitting weights, whichever model they belong to."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from wmweights import (
    TensorSpec,
    WeightsError,
    assemble,
    blank,
    check_fit,
    dequantise,
    dequantised_specs,
    fingerprint,
    fingerprint_files,
    first_line,
    is_quantised,
    keep_compiled,
    places,
    put,
    quantise,
    read_metadata,
    read_specs,
    read_state,
    read_tensors,
    safetensors_file,
    write_state,
)


class Net(nn.Module):
    """A parameter, a stored and an unstored buffer, and a submodule that serves twice."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2)
        self.same = self.linear
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("scratch", torch.ones(1), persistent=False)


def state(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "linear.weight": (2, 3),
        "linear.bias": (2,),
        "scale": (1,),
    }
    return {n: torch.randn(s, generator=generator).to(dtype) for n, s in shapes.items()}


def on_meta(width: int = 3) -> Net:
    with torch.device("meta"):
        return Net(width)


# --- fitting


def test_tensors_become_the_places_themselves() -> None:
    net, given = on_meta(), state(torch.bfloat16)
    assert set(places(net)) == set(given)
    assemble(net, given, "file", "net")
    assert net.same is net.linear and net.scale is given["scale"]
    assert isinstance(net.linear.weight, nn.Parameter) and not net.linear.weight.requires_grad
    assert net.linear.weight.data_ptr() == given["linear.weight"].data_ptr()  # not a copy
    assert net.linear.weight.dtype == torch.bfloat16
    put(net, "linear.bias", torch.zeros(2))
    assert net.linear.bias.tolist() == [0, 0]


def test_what_does_not_fit_is_named() -> None:
    given = state()
    short = {n: v for n, v in given.items() if n != "linear.bias"}
    for wrong, words in (
        (short, "1 missing keys (first: linear.bias)"),
        (given | {"z": given["scale"], "a": given["scale"]}, "2 unexpected keys (first: a)"),
        (short | {"b": given["scale"]}, "missing keys (first: linear.bias), 1 unexpected"),
        (
            given | {"linear.weight": torch.ones(3, 2)},
            "linear.weight has shape [3, 2], expected [2, 3]",
        ),
    ):
        with pytest.raises(WeightsError) as caught:
            check_fit(on_meta(), wrong, "one.safetensors", "net")
        assert words in str(caught.value), caught.value
        assert str(caught.value).startswith("one.safetensors does not fit model 'net': ")
    specs = {name: TensorSpec(tuple(value.shape), value.dtype) for name, value in given.items()}
    check_fit(on_meta(), specs, "file", "net")


# --- files


def test_headers_say_what_the_tensors_are(tmp_path: Path) -> None:
    given = {
        "half": torch.ones(2, 3, dtype=torch.bfloat16),
        "eight": torch.ones(1, 2, 3).to(torch.float8_e4m3fn),
        "rows": torch.ones(4, dtype=torch.int8),
        "none": torch.ones(0, 3),
    }
    file = tmp_path / "a.safetensors"
    write_state(given, file, {"made": "here"})
    assert read_specs(file) == {
        name: TensorSpec(tuple(value.shape), value.dtype) for name, value in given.items()
    }
    back = read_state(file)
    assert {n: v.dtype for n, v in back.items()} == {n: v.dtype for n, v in given.items()}
    assert all(torch.equal(back[n].float(), v.float()) for n, v in given.items())
    assert dict(read_tensors(file)).keys() == given.keys()
    assert read_metadata(file) == {"format": "pt", "made": "here"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff" * 64, None])
def test_damaged_and_absent_files(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "bad.safetensors"
    if content is not None:
        file.write_bytes(content)
    for read in (read_specs, read_state, read_metadata):
        with pytest.raises(
            WeightsError,
            match=r"bad\.safetensors(: no such file|.*(cannot be read|is empty|is a web page).*again)",
        ) as caught:
            read(file)
        assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    write_state({"x": torch.zeros(1)}, file)
    with pytest.raises(RuntimeError):  # two names of one storage cannot be stored
        shared = torch.ones(2)
        write_state({"x": shared, "y": shared}, file)
    assert read_state(file)["x"].item() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    with pytest.raises(OSError):
        write_state({"x": torch.zeros(1)}, file / "a.safetensors")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_errors_of_the_disk_keep_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError(f"I/O error: {os.strerror(code)} (os error {code})")

    monkeypatch.setattr(safetensors_file, "save_file", full)
    with pytest.raises(OSError) as caught:
        write_state({"x": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert caught.value.errno == code and not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device")
def test_a_device_is_not_replaced() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        write_state({"x": torch.zeros(1)}, Path("/dev/null"))
    assert not Path("/dev/null").is_file()


def test_others_may_read_weights_as_any_file(tmp_path: Path) -> None:
    write_state({"x": torch.zeros(1)}, tmp_path / "a.safetensors")
    (tmp_path / "b").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            write_state({"x": torch.zeros(1000)}, tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG and not list(tmp_path.iterdir())


def test_what_is_no_file_of_weights_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    os.mkfifo(file)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    for says in ("not a regular file", "git lfs pull", "is a folder"):
        for read in (read_specs, read_state, read_metadata, lambda file: fingerprint_files([file])):
            with pytest.raises(WeightsError, match=says) as caught:
                read(file)
            assert str(file) in str(caught.value)
        if file.is_dir():
            break
        file.unlink()
        file.write_text(pointer) if says == "not a regular file" else file.mkdir()


def test_first_line() -> None:
    assert first_line(ValueError("a\nb")) == "a"
    assert first_line(ValueError()) == "no reason is given"


# --- int8 rows


def test_what_is_kept_is_a_parameter() -> None:
    given = {"mask": torch.randn(3, 4), "w": torch.randn(3, 4), "b": torch.randn(3)}
    small = quantise(given, keep=["ask"])
    assert {n: v.dtype for n, v in small.items()} == {
        "mask": torch.float16,
        "w": torch.int8,
        "w.row_scale": torch.float32,
        "b": torch.float16,
    }
    assert quantise(given)["mask"].dtype == torch.int8
    assert is_quantised(small) and not is_quantised(given)
    assert (dequantise(small)["w"] - given["w"]).abs().max() < given["w"].abs().max() / 127


def test_specs_of_what_dequantising_gives() -> None:
    small = quantise({"w": torch.randn(3, 4, 2), "b": torch.randn(3)})
    specs = {name: TensorSpec(tuple(value.shape), value.dtype) for name, value in small.items()}
    back = dequantise(small)
    assert dequantised_specs(specs) == {
        name: TensorSpec(tuple(value.shape), value.dtype) for name, value in back.items()
    }


# --- fingerprints


def test_fingerprint_of_values_ignores_precision_and_order() -> None:
    given = state(torch.bfloat16)
    wide = {name: value.float() for name, value in reversed(given.items())}
    assert fingerprint(given) == fingerprint(wide)
    assert fingerprint(given) != fingerprint(wide | {"scale": wide["scale"] + 1})


def test_fingerprint_of_files_sees_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wmweights.fingerprints.END", 10)
    files = [tmp_path / "b", tmp_path / "a"]
    for file in files:
        file.write_bytes(bytes(range(100)))
    first = fingerprint_files(files)
    assert first == fingerprint_files(files[::-1])  # in whatever order they are given
    (tmp_path / "other").mkdir()
    moved = [file.rename(tmp_path / "other" / file.name) for file in files]
    assert fingerprint_files(moved) == first  # and wherever they lie
    for at, seen in ((0, True), (9, True), (50, False), (90, True), (99, True)):
        content = bytearray(range(100))
        content[at] ^= 1
        moved[0].write_bytes(content)
        assert (fingerprint_files(moved) != first) == seen
    moved[0].write_bytes(bytes(range(100)) + b"d")
    assert fingerprint_files(moved) != first


def test_fingerprint_of_small_files_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "small.safetensors"
    seen = set()
    for value in range(4):
        content = torch.zeros(4)
        content[value] = 1
        save_file({"x": content}, file)
        seen.add(fingerprint_files([file]))
    assert len(seen) == 4


def test_tensors_begin_where_torch_begins_its_own(tmp_path: Path) -> None:
    """Otherwise results of equal weights would differ in the last bit from process to process."""
    state = {f"x{i}": torch.arange(float(i + 1)) for i in range(9)}
    write_state(state, tmp_path / "odd.safetensors")
    read = dict(read_tensors(tmp_path / "odd.safetensors"))
    for name, value in state.items():
        assert torch.equal(read[name], value) and read[name].data_ptr() % 64 == 0


def test_scales_that_do_not_go_with_their_rows() -> None:
    stored = quantise({"a": torch.randn(3, 4)})
    for scale in (torch.ones(1, 1), torch.ones(4, 1), torch.ones(3, 4), torch.ones(3)):
        with pytest.raises(WeightsError, match=r"a of shape \[3, 4\] does not go with its scales"):
            dequantise(stored | {"a.row_scale": scale})


def test_whole_numbers_are_no_weights() -> None:
    with pytest.raises(WeightsError, match=r"scale holds torch\.int32"):
        check_fit(on_meta(), state() | {"scale": torch.ones(1, dtype=torch.int32)}, "file", "net")


def test_blank_networks_have_places_and_no_numbers() -> None:
    class Drawn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(3, 4)
            self.linear = nn.Linear(4, 4)
            nn.init.normal_(self.linear.weight, std=2.0)
            nn.init.trunc_normal_(tensor=self.linear.weight)
            self.table.weight.data.uniform_(-1, 1).clamp_(min=0)
            self.late = nn.init.ones_(torch.empty(2))

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            ran.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    ran: list[str] = []
    before = torch.get_rng_state()
    with Seen(), blank():
        model = Drawn()
    assert {"uniform_", "normal_", "clamp_"}.isdisjoint(ran), ran  # some load PyTorch's compiler
    assert all(value.is_meta for value in model.parameters()) and model.late.is_meta
    assert {name: tuple(p.shape) for name, p in places(model).items()} == {
        "table.weight": (3, 4),
        "linear.weight": (4, 4),
        "linear.bias": (4,),
    }
    assert torch.equal(torch.get_rng_state(), before)
    assert nn.Linear(4, 4).weight.abs().sum() > 0  # numbers are drawn again
    assert torch.equal(nn.init.ones_(torch.empty(2)), torch.ones(2))


def test_many_tensors_come_in_order_and_only_those_wanted(tmp_path: Path) -> None:
    state = {f"{i:03d}": torch.full((i % 7 + 1,), float(i)) for i in range(60)}
    write_state(state, tmp_path / "many.safetensors")
    found = dict(read_tensors(tmp_path / "many.safetensors", wanted=lambda name: name < "045"))
    assert found.keys() == {f"{i:03d}" for i in range(45)}
    assert all(torch.equal(value, state[name]) for name, value in found.items())


def test_what_is_compiled_is_kept_where_somebody_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "TORCHINDUCTOR_CACHE_DIR"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_FX_GRAPH_CACHE", "1")
    monkeypatch.setenv(name, "own")
    keep_compiled()
    assert os.environ[name] == "own"
    monkeypatch.delenv(name)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_compiled()
    assert name not in os.environ
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compiled()
    assert os.environ[name] == str(tmp_path / "wmreward" / "compiled")
    monkeypatch.delenv(name)


def test_names_of_absurd_length_are_not_said_whole() -> None:
    module = nn.Linear(2, 2)
    state = dict(module.state_dict()) | {"x" * 100_000: torch.zeros(1)}
    with pytest.raises(WeightsError, match="unexpected keys") as caught:
        check_fit(module, state, "file", "small")
    assert len(str(caught.value)) < 400
    assert len(first_line(ValueError("x" * 100_000))) < 400
