"""The parser that all command lines share: values, mistakes, help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wmreward.commands import shared
from wmreward.commands.flags import Flag, Parser, Positional
from wmreward.commands.kinds import (
    LARGEST_SEED,
    Number,
    OneOf,
    Whole,
    all_different,
    place,
    rule,
    seed_range,
)
from wmreward.errors import UsageError

FLAGS = (
    Flag("count", "how many", metavar="N", kind=Whole(1, 9), default=3),
    Flag("size", "how large", metavar="S", kind=Number(-2, 2), rare=True),
    Flag("between", "from when to when", metavar=("LO", "HI"), kind=Number(0, 1)),
    Flag("names", "which", metavar="NAME", kind=OneOf(("apple", "pear")), many=True),
    Flag("loud", "say more"),
    shared.SEEDS,
)


def parser(*, many: bool = True, **how: Any) -> Parser:
    words = Positional("what", "some words", "WHAT", kind=place, many=many)
    return Parser("test", "Tests.", "", {"all": FLAGS}, positional=(words,), **how)


def values(*argv: str, **how: Any) -> dict[str, Any]:
    return parser(**how).read(argv)


def test_values_and_defaults() -> None:
    read = parser().read(["a", "--between", "0.1", "1", "--names", "pear", "--names", "apple"])
    assert read == {
        "what": ["a"],
        "count": 3,
        "size": None,
        "between": [0.1, 1.0],
        "names": ["pear", "apple"],
        "loud": False,
        "seeds": None,
        "debug": False,
    }
    assert read.given == {"what", "between", "names"}


def test_words_without_a_flag_may_stand_anywhere() -> None:
    assert values("a", "--count", "2", "b", "--loud", "c")["what"] == ["a", "b", "c"]
    assert values("--count", "2", "--", "--b")["what"] == ["--b"]
    assert "what" not in values("--loud")
    assert values("--loud", "a", many=False)["what"] == "a"
    with pytest.raises(UsageError, match="WHAT is missing"):
        values("--loud", many=False)
    with pytest.raises(UsageError, match="what is 'b' for"):
        values("a", "--loud", "b", many=False)


def test_what_a_word_without_a_flag_was_meant_for_is_told() -> None:
    how = {"many": False, "stray": lambda word: "count"}
    with pytest.raises(UsageError, match=r"what is 'b' for\? Did you mean --count 'b'\?"):
        values("a", "b", **how)
    with pytest.raises(UsageError, match=r"for\? All of --count stands in quotes: --count"):
        values("a", "--count", "3", "b", **how)


def test_old_spellings_and_dashes() -> None:
    assert values("--how-many=4", old={"how_many": "count"})["count"] == 4
    assert values("--how_many", "4", old={"how_many": "count"})["count"] == 4


def test_negative_numbers_are_values() -> None:
    for word in ("-1", "-1e0", "-.5"):
        assert values("--size", word)["size"] == float(word)


def test_a_file_whose_name_looks_like_a_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-a.mp4").touch()
    with pytest.raises(UsageError, match=r"no flag -a\.mp4;.* is \./-a\.mp4\)$"):
        values("-a.mp4")
    with pytest.raises(UsageError, match=r"no flag -b\.mp4; --help lists all flags$"):
        values("-b.mp4")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--cuont 3", "there is no flag --cuont; did you mean --count?"),
        ("--xyz 3", "there is no flag --xyz"),
        ("--cou 3", "there is no flag --cou; did you mean --count?"),
        ("--count", "--count needs one value"),
        ("--between 0", "--between needs 2 values"),
        ("--names", "--names needs at least one value"),
        ("--loud=3", "--loud takes no value"),
        ("--names aple", "--names must be apple or pear, not 'aple'; did you mean apple?"),
        ("--count 10", "--count must be a whole number from 1 to 9, not '10'"),
        ("--size -inf", "--size must be a number from -2 to 2, not '-inf'"),
        ("--seeds 0-3 2", "--seeds names 2 twice"),
        ("--other 3", "--other has no meaning here"),
    ],
)
def test_mistakes(argv: str, message: str) -> None:
    with pytest.raises(UsageError) as mistake:
        values(*argv.split(), elsewhere=["other"])
    assert message in str(mistake.value) and len(str(mistake.value)) < 200


def test_what_is_required_is_asked_for() -> None:
    needs = Parser("test", "", "", {"all": [FLAGS[0].but(required=True)]})
    with pytest.raises(UsageError, match="--count is missing: how many"):
        needs.read([])


def test_rare_flags_wait_for_help_all(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, listed in (("--help", False), ("-h", False), ("--help-all", True)):
        with pytest.raises(SystemExit) as stop:
            parser().read([flag])
        text = capsys.readouterr().out
        assert stop.value.code == 0 and "--count N" in text and ("--size S" in text) == listed
        assert "how many (default: 3)" in text


def test_a_flag_keeps_its_meaning_in_another_command() -> None:
    with pytest.raises(AssertionError):
        FLAGS[0].but(kind=str)
    assert FLAGS[0].but(note="of apples", default=1).help == "how many; of apples (default: 1)"


# --- kinds of values ------------------------------------------------------------------------------------


def refused(kind: Any, word: str) -> bool:
    try:
        kind(word)
    except argparse.ArgumentTypeError as error:
        return str(error) != "" and len(str(error)) < 200
    return False


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e999", "", " ", "two", "1,5", "9" * 5000])
def test_numbers_are_finite_and_of_bounded_length(word: str) -> None:
    assert refused(Whole(), word) and refused(Number(), word)


def test_whole_numbers_are_whole() -> None:
    for word in ("1.0", "1e3", "0x10", "1_0", "٣"):
        assert refused(Whole(), word)
    assert Whole()("+7") == 7


def test_numbers_are_written_in_the_digits_of_a_command_line() -> None:
    """Python reads more than people mean: 1_0 as 10, and digits of every script."""
    for word in ("1_0", "１", "٣", "0x10", "1e", "e5", ".", "--5", "1 0"):
        assert refused(Number(), word), word
    for word, value in {"-0.5": -0.5, "1e5": 1e5, ".5": 0.5, "5.": 5, "+2": 2, " 3 ": 3}.items():
        assert Number()(word) == value


@given(st.integers(-(10**6), 10**6), st.integers(-100, 100), st.integers(0, 100))
def test_ranges_hold(value: int, low: int, width: int) -> None:
    for kind in (Whole(low, low + width), Number(low, low + width)):
        assert refused(kind, str(value)) != (low <= value <= low + width)
    assert refused(Number(low, low + width + 1, above=True), str(low))


def test_seeds_in_every_syntax() -> None:
    for words in ("0-3,8", "0 1 2 3 8", "0,1,2 3,8", "0-3 8", " 0 - 3 , 8"):
        parts = [words] if " -" in words else words.split()
        assert all_different([seed_range(part) for part in parts]) == (0, 1, 2, 3, 8)
    for word in (
        "",
        "a",
        "-1",
        "3-1",
        "1-",
        "²",
        "１",
        "٣-5",
        "1_0",
        "1,,2",
        "nan",
        "0-99999999",
        "9" * 30,
    ):
        assert refused(seed_range, word), word
    assert seed_range(str(LARGEST_SEED)) == (LARGEST_SEED,)
    assert refused(seed_range, str(LARGEST_SEED + 1))


def test_places_have_a_name() -> None:
    assert place("a b.mp4") == "a b.mp4" and refused(place, "") and refused(place, "a\0b")


def test_names_are_those_of_the_settings() -> None:
    from wmreward.scoring.flags import build_parser
    from wmreward.surprise.config import ScoreRule, Similarity
    from wmreward.surprise.rules import selection_size
    from wmreward.video_io import DECODERS

    assert shared.SCORE.kind == OneOf(get_args(ScoreRule))
    assert shared.SIMILARITY.kind == OneOf(get_args(Similarity))
    assert build_parser().flags["decoder"].kind == OneOf(tuple(DECODERS))
    for word in ("mean", "max", "median", "topk1", "topk12", "topp50", "topp0.5", "topp100"):
        assert rule(word) == word and selection_size(word, 100)
    for word in ("sum", "topk", "topk0", "topp", "topp0", "topp0.0", "topp101", "topk-1", "Mean"):
        assert refused(rule, word)
        with pytest.raises(UsageError):
            selection_size(word, 100)
