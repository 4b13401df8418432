"""Rules that make one score of many windows, against plain numpy."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wmreward.errors import UsageError
from wmreward.surprise.aggregate import aggregate, select_windows
from wmreward.surprise.config import SurpriseConfig
from wmreward.surprise.rules import selection_size


def by_hand(values: np.ndarray, mode: str) -> float:
    """The score of one video, in numpy."""
    ordered = np.sort(values)
    if mode == "mean":
        return float(values.mean())
    if mode == "max":
        return float(ordered[-1])
    if mode == "median":
        return float(ordered[(len(values) - 1) // 2])  # the lower middle one
    if mode.startswith("topk"):
        return float(ordered[-int(mode[4:]) :].mean())
    share = float(mode[4:]) / 100  # double precision, then times W
    return float(ordered[-max(1, math.ceil(share * len(values))) :].mean())


@pytest.mark.parametrize(
    "mode", ["mean", "max", "median", "topk1", "topp1", "topp12.5", "topp50", "topp100"]
)
@given(windows=st.integers(1, 40), videos=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_mode_by_hand(mode: str, windows: int, videos: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(videos, windows, generator=generator, dtype=torch.float64)
    expected = [by_hand(row, mode) for row in values.numpy()]
    np.testing.assert_allclose(aggregate(values, mode).numpy(), expected, rtol=0, atol=1e-14)
    if mode != "mean":
        chosen = select_windows(values, mode)
        assert chosen.shape == (videos, selection_size(mode, windows))
        np.testing.assert_allclose(
            values.gather(1, chosen).mean(dim=1), expected, rtol=0, atol=1e-14
        )


@given(windows=st.integers(1, 30), k=st.integers(1, 30), seed=st.integers(0, 9))
def test_topk(windows: int, k: int, seed: int) -> None:
    values = torch.rand(2, windows, generator=torch.Generator().manual_seed(seed))
    mode = f"topk{k}"
    if k > windows:
        with pytest.raises(UsageError, match=rf"'topk{k}' needs {k} windows, .* has {windows}:"):
            aggregate(values, mode)
        return
    expected = [by_hand(row, mode) for row in values.double().numpy()]
    np.testing.assert_allclose(aggregate(values, mode).numpy(), expected, rtol=0, atol=1e-6)


@given(percent=st.integers(1, 100), windows=st.integers(1, 60))
def test_topp_counts_in_double_precision(percent: int, windows: int) -> None:
    size = selection_size(f"topp{percent}", windows)
    assert size == max(1, int(np.ceil(np.float64(percent) / 100 * windows)))
    exact = math.ceil(Fraction(percent, 100) * windows)
    assert size in (exact, exact + 1) and 1 <= size <= windows


def test_topp_where_double_precision_shows() -> None:
    assert selection_size("topp28", 25) == 8  # exactly 7, but 0.28 · 25 = 7.000000000000001
    assert selection_size("topp7", 100) == 8
    assert selection_size("topp20", 17) == 4
    assert selection_size("topp1", 17) == 1


def test_median_of_an_even_number_is_the_lower_middle_one() -> None:
    values = torch.tensor([[4.0, 1.0, 3.0, 2.0], [5.0, 5.0, 9.0, 9.0]])
    assert aggregate(values, "median").tolist() == [2.0, 5.0]


@pytest.mark.parametrize("mode", ["mean", "max", "median", "topk3", "topp40"])
def test_gradient_goes_to_the_selected_windows(mode: str) -> None:
    values = torch.rand(2, 7, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(aggregate(values, mode).sum(), values)
    count = 7 if mode == "mean" else selection_size(mode, 7)
    assert (grad > 0).sum(dim=1).tolist() == [count, count]
    torch.testing.assert_close(grad[grad > 0], torch.full((2 * count,), 1 / count).double())
    assert torch.autograd.gradcheck(lambda v: aggregate(v, mode), (values,))


@pytest.mark.parametrize(
    "mode",
    [
        "",
        "Mean",
        "mean3",
        "max1",
        "median2",
        "top3",
        "topk",
        "topp",
        "topk-1",
        "topkx",
        " mean",
        "topp5%",
    ],
)
def test_unknown_modes_list_the_known_ones(mode: str) -> None:
    with pytest.raises(UsageError, match=r"unknown mode .* mean, max, median, topkK .* toppP"):
        selection_size(mode, 5)
    with pytest.raises(UsageError, match=r"unknown mode"):  # before any weights are loaded
        SurpriseConfig(mode=mode)


@pytest.mark.parametrize("mode", ["topk0", "topk2.5", "topp0", "topp101", "topp100.01"])
def test_numbers_out_of_range(mode: str) -> None:
    with pytest.raises(UsageError, match=mode) as caught:
        selection_size(mode, 5)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=mode):
        SurpriseConfig(mode=mode)
