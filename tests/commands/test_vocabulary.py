"""One vocabulary: what a flag is called, means and takes, over all commands; and the page that lists it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

import vjepa2
from wmreward.cli import COMMANDS
from wmreward.commands.flag_table import page, parsers
from wmreward.commands.flags import Flag, Parser
from wmreward.commands.kinds import MODELS, Number, Whole, seed_range
from wmreward.commands.meanings import MEANINGS
from wmreward.errors import UsageError

ROOT = Path(__file__).parents[2]
EVERY = {parser.prog: parser for parser in parsers(COMMANDS)}
NUMBERS = [
    (parser, flag)
    for parser in EVERY.values()
    for flag in parser.flags.values()
    if isinstance(flag.kind, Whole | Number)
]

MAGI = {"generate", "batch"}
"""Commands that take configurations of MAGI-1, which lie in the clone."""

KEPT = {"mode", "fps", "workers"}
"""Earlier spellings of the two scripts at the root that mean something else in other commands."""


def flags() -> dict[str, dict[str, Flag]]:
    """Each flag by name, in each command that has it."""
    out: dict[str, dict[str, Flag]] = {}
    for prog, parser in EVERY.items():
        for name, flag in parser.flags.items():
            out.setdefault(name, {})[prog] = flag
    return out


def test_every_command_is_there() -> None:
    assert [command.name for command in COMMANDS if not command.parsers] == []
    assert {prog.split()[1] for prog in EVERY} == {command.name for command in COMMANDS}


@pytest.mark.parametrize("name", sorted(flags()))
def test_a_flag_means_and_takes_the_same_everywhere(name: str) -> None:
    """And has the same default, unless its definition says what the default follows from."""
    for one, other in itertools.combinations(flags()[name].values(), 2):
        for what in ("text", "metavar", "kind", "many", "gather"):
            assert getattr(one, what) == getattr(other, what), f"--{name}: {what}"
        follows = one.usually and other.usually
        either = {one.default, other.default} >= {None}  # a file that one command needs a name for
        assert one.default == other.default or follows or either, f"--{name}: default"


def test_no_two_flags_have_the_same_meaning() -> None:
    texts: dict[str, str] = {}
    for name, named in flags().items():
        text = next(iter(named.values())).text
        assert texts.setdefault(text, name) == name, f"--{name} and --{texts[text]}"


@pytest.mark.parametrize("word", MEANINGS)
def test_a_word_by_meaning_names_a_flag_that_is_there(word: str) -> None:
    """Each flag of the table is meant in some command, and what is said there is one that it has."""
    for names in MEANINGS[word]:
        every = names.split(" --")
        able = [p for p in EVERY.values() if set(every) <= p.flags.keys() and word not in p.flags]
        assert able, f"{word}: no command has {names}"
    for parser in EVERY.values():
        if word in parser.flags or word in parser.old or word in parser.elsewhere:
            continue
        with pytest.raises(UsageError) as mistake:
            parser.read([f"--{word}", "1"])
        said = re.findall(r"--([a-z_]+)", str(mistake.value))[1:]
        assert set(said) <= parser.flags.keys() | {"help"}, str(mistake.value)


@pytest.mark.parametrize("prog", [prog for prog in EVERY if prog.split()[1] not in MAGI])
def test_help_names_no_file_that_only_a_clone_has(prog: str) -> None:
    told = EVERY[prog].format_help()
    assert not re.search(
        r"\b(example|prompt|docs|MAGI-1|generation)/|\b(compute|generate)_\w+\.py", told
    )


def test_the_names_of_models_are_those_there_are() -> None:
    assert set(MODELS) == set(vjepa2.MODELS)


def test_earlier_spellings_are_no_other_flag() -> None:
    now = flags().keys()
    for prog, parser in EVERY.items():
        for old, new in parser.old.items():
            assert old not in parser.flags, f"{prog}: --{old} is both"
            assert new in parser.flags or new in parser.elsewhere, f"{prog}: --{old}"
            assert old not in now or old in KEPT, f"{prog}: --{old} means two things"


def test_what_looks_like_a_number_is_one() -> None:
    for name, named in flags().items():
        for flag in named.values():
            if flag.metavar in ("N", "S", "F", "B", "C", "P", ("LO", "HI")):
                assert isinstance(flag.kind, Whole | Number), name
            if flag.metavar in ("FILE", "DIR", "PATH"):
                assert flag.kind.__name__ == "place", name
            assert "seed" not in name or flag.kind in (seed_range,) or flag.metavar == "N"


@pytest.mark.parametrize(
    ("parser", "flag"),
    [pytest.param(*pair, id=f"{pair[0].prog}-{pair[1].name}") for pair in NUMBERS],
)
def test_no_number_is_out_of_its_range(parser: Parser, flag: Flag) -> None:
    """Fault 14 in all its forms, for every number of every command; and the ends of the range are taken."""
    kind = flag.kind
    assert isinstance(kind, Whole | Number)
    other = [str(kind.high)] if isinstance(flag.metavar, tuple) else []
    below = kind.low if isinstance(kind, Number) and kind.above else kind.low - 1
    for word in ("nan", "NaN", "inf", "-inf", "1e999", "", "x", str(below), str(kind.high + 1)):
        with pytest.raises(UsageError, match=f"--{flag.name}") as refused:
            parser.read([f"--{flag.name}", word, *other])
        assert len(str(refused.value)) < 250
    assert kind(str(kind.high)) == kind.high


def test_generate_shows_what_matters_first() -> None:
    shown = [flag.name for flag in EVERY["wmreward generate"].flags.values() if not flag.rare]
    assert 15 <= len(shown) <= 25
    assert {"prompt", "init_image", "output", "guidance_scale", "best_of", "seed"} <= set(shown)


def test_the_page_lists_all() -> None:
    assert (ROOT / "docs" / "flags.md").read_text(encoding="utf-8") == page(COMMANDS) + "\n"
