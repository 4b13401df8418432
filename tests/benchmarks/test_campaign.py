"""Some hundred mutants on every run of the tests; and that the campaign would notice what is wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.campaign import targets
from benchmarks.campaign.mutations import MUTATIONS, mutate
from benchmarks.campaign.run import campaign
from benchmarks.campaign.targets import Reading, Sample
from benchmarks.campaign.verdicts import table
from wmreward.errors import WMRewardError


@pytest.mark.parametrize("name", targets.TARGETS)
def test_no_mutant_is_read_wrong(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    counts = campaign(name, 10, seed=0)
    said = capfd.readouterr().err
    assert sum(count["wrong"] for count in counts.values()) == 0, said
    assert sum(count["refused"] for count in counts.values()) > 0


def test_mutants_depend_on_their_seed_alone() -> None:
    data = bytes(range(256)) * 20
    assert mutate(data, 5) == mutate(data, 5)
    assert {mutate(data, seed)[0] for seed in range(100)} == set(MUTATIONS)
    assert all(
        mutate(data, seed)[1] != data for seed in range(100) if mutate(data, seed)[0] == "cut"
    )
    for seed in range(200):
        mutate(b"x", seed)  # however short


class Misbehaves:
    """Behaves as the first letters of its samples' names say; they are read intact first."""

    def samples(self) -> list[Sample]:
        names = ("silent", "crash", "endless", "dies", "swells", "screams", "legal", "sound")
        return [Sample(name, b"content " * 100) for name in names]

    def read(self, path: Path) -> Reading:
        if path.parent.name == "intact":
            return Reading("intact")
        if path.name == "crash":
            raise KeyError("of ours")
        if path.name == "endless":
            time.sleep(60)
        if path.name == "dies":
            os._exit(3)
        if path.name == "swells":
            bytearray(8 << 30)
        if path.name == "screams":
            raise WMRewardError("no" * 1000)
        return Reading("intact" if path.name == "sound" else "other")

    def is_legal(self, path: Path, intact: Reading, found: Reading) -> bool:
        return path.name == "legal"


def target() -> Misbehaves:
    return Misbehaves()


def test_what_goes_wrong_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    counts = campaign(__name__, 1, seed=0, seconds=1.0)
    said = capfd.readouterr().err
    assert {name for name, count in counts.items() if count["wrong"]} == {
        *("silent", "crash", "endless", "dies", "swells", "screams"),
    }
    assert counts["legal"]["legal"] == counts["sound"]["same"] == 1
    for detail in (
        *(
            "another result and no word",
            "KeyError",
            "no end within 1 s",
            "the process died (code 3)",
        ),
        *("more than 4 GiB of memory", "a refusal of 2000 characters"),
    ):
        assert detail in said
    assert table(counts).splitlines()[-1].split() == ["all", "8", "0", "1", "0", "1", "6"]
