"""A flag, and the parser that all command lines share. Nothing heavy is imported here.

A command line is a table: groups of `Flag`. What several commands have is defined in `shared`.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import Any, NoReturn

from wmreward.commands.kinds import quoted
from wmreward.commands.meanings import MEANINGS, meant
from wmreward.errors import UsageError, did_you_mean
from wmreward.version import __version__

_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: With underscores, without the dashes before it.
        text: What it means, the same in every command that has it.
        metavar: Stands for its value in the help, two of them for a pair; none: a switch.
        kind: Makes the value of a word, see `kinds`.
        default: Without it.
        usually: The default in words, where it follows from the command or other flags.
        note: What the command at hand adds to the text.
        many: Whether it takes several words.
        gather: Makes the value of the list of many words.
        required: Whether the command needs it.
        rare: Whether it is listed by ``--help-all`` only.
    """

    name: str
    text: str
    metavar: str | tuple[str, str] = ""
    kind: Callable[[str], Any] = str
    default: Any = None
    usually: str = ""
    note: str = ""
    many: bool = False
    gather: Callable[[list[Any]], Any] = list
    required: bool = False
    rare: bool = False

    def but(self, **changes: Any) -> Flag:
        """The same flag in another command: with a note, a default or a place of its own there.

        Its name, meaning and syntax stay.
        """
        assert not changes.keys() - {"note", "default", "usually", "required", "rare"}
        return replace(self, **changes)

    @property
    def is_switch(self) -> bool:
        return not self.metavar

    @property
    def shown_default(self) -> str:
        """In words; empty where nothing is the default."""
        if self.is_switch or self.default is None:
            return self.usually
        if isinstance(self.default, tuple):
            return " ".join(map(str, self.default))
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    @property
    def help(self) -> str:
        """Meaning, note and default."""
        told = f"{self.text}; {self.note}" if self.note else self.text
        if self.required:
            return f"{told} (required)"
        return f"{told} (default: {self.shown_default})" if self.shown_default else told

    def add_to(self, group: argparse._ActionsContainer) -> argparse.Action:
        """Make argparse know it; the default is not filled in by argparse."""
        how: dict[str, Any] = {"help": self.help.replace("%", "%%"), "default": argparse.SUPPRESS}
        if self.is_switch:
            return group.add_argument(f"--{self.name}", action="store_true", **how)
        how |= {"type": self.kind, "metavar": self.metavar}
        if isinstance(self.metavar, tuple):
            how["nargs"] = 2
        elif self.many:
            how |= {"nargs": "+", "action": "extend"}
        return group.add_argument(f"--{self.name}", **how)


DEBUG = Flag("debug", "show the traceback of errors")


@dataclass(frozen=True)
class Positional:
    """Words without a flag; ``name`` is that of the value, which a flag may share.

    Attributes:
        many: Any number of them, none included; else exactly one.
    """

    name: str
    text: str
    metavar: str
    kind: Callable[[str], Any] = str
    many: bool = False


class Values(dict[str, Any]):
    """The value of every flag by name, defaults filled in.

    Attributes:
        given: Names of the flags that were really given.
    """

    def __init__(self, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        super().__init__({**defaults, **given})
        self.given = frozenset(given)


class Parser(argparse.ArgumentParser):
    """A command line: positional words, groups of flags; answers mistakes with one line.

    Args:
        prog: How it is called, as ``wmreward score``.
        description: What it does, one sentence or two.
        epilog: What stands below the flags: exit codes, examples.
        positional: Words without a flag; of the last there may be many.
        groups: Flags by the title of their group.
        old: Earlier spellings of flags, with the names of now. They work and are not listed.
        elsewhere: Flags of other commands that are known and refused here.
        stray: The flag that a word without one was probably meant for; None where nobody can tell.
    """

    def __init__(
        self,
        prog: str,
        description: str,
        epilog: str,
        groups: Mapping[str, Iterable[Flag]],
        *,
        positional: Sequence[Positional] = (),
        old: Mapping[str, str] | None = None,
        elsewhere: Iterable[str] = (),
        stray: Callable[[str], str] | None = None,
    ) -> None:
        words = [f"{word.metavar} …" if word.many else word.metavar for word in positional]
        super().__init__(
            prog=prog,
            usage=" ".join([prog, *words, "[--flags]"]),
            description=fill(description, 100),
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            add_help=False,
        )
        self.positional, self.elsewhere = tuple(positional), frozenset(elsewhere)
        self.old, self.stray = dict(old or {}), stray
        self.groups = {title: tuple(flags) for title, flags in groups.items()}
        self.groups["general"] = (*self.groups.get("general", ()), DEBUG)
        self.flags = {flag.name: flag for flags in self.groups.values() for flag in flags}
        self.defaults = {
            flag.name: False if flag.is_switch else flag.default for flag in self.flags.values()
        }
        self._rare: list[tuple[argparse.Action, str]] = []
        self._add_all()

    def read(self, argv: Sequence[str]) -> Values:
        """The values of all flags.

        Raises:
            UsageError: a flag that is not known, a value that is not right, something missing.
        """
        namespace, extra = self.parse_known_args(self._spelled(argv))
        given = vars(namespace)
        if words := self._left_over(extra, given):
            name = self.positional[-1].name
            given[name] = [*given.get(name, []), *words]
        for name, value in given.items():
            flag = self.flags.get(name)
            if flag is not None and flag.many:
                try:
                    given[name] = flag.gather(value)
                except argparse.ArgumentTypeError as error:
                    self.error(f"--{name} {error}")
        for flag in self.flags.values():
            if flag.required and flag.name not in given:
                self.error(f"--{flag.name} is missing: {flag.text}")
        return Values(self.defaults, given)

    def error(self, message: str) -> NoReturn:
        """Refuse a command line, in the words of flags."""
        message = re.sub(r"^argument (\S+): ", r"\1 ", message)
        message = re.sub(r"expected (.*)argument", r"needs \1value", message)
        message = re.sub(r"ignored explicit argument .*", "takes no value", message)
        message = re.sub(r"^the following arguments are required: (.*)", r"\1 is missing", message)
        raise UsageError(f"{message} (--help lists all flags)")

    def _add_all(self) -> None:
        for words in self.positional:
            how: dict[str, Any] = {"nargs": "*", "action": "extend"} if words.many else {}
            self.add_argument(
                words.name, help=words.text, metavar=words.metavar, type=words.kind, **how
            )
        for title, flags in self.groups.items():
            group = self.add_argument_group(title)
            for flag in flags:
                action = flag.add_to(group)
                if flag.rare:
                    self._rare.append((action, action.help or ""))
                    action.help = argparse.SUPPRESS
        group.add_argument("--help", "-h", action="help", help="print this and stop")
        if self._rare:
            group.add_argument(
                "--help_all",
                action=_HelpAll,
                nargs=0,
                help=f"print {len(self._rare)} more flags, too, and stop",
            )
        group.add_argument(
            "--version",
            action="version",
            version=f"wmreward {__version__}",
            help="print the version and stop",
        )

    def show_rare(self) -> None:
        """Let the help list all flags."""
        for action, text in self._rare:
            action.help = text

    def _spelled(self, argv: Sequence[str]) -> list[str]:
        """Flags as they are spelled here, whatever dashes or names they were given with."""
        out: list[str] = []
        taking = False  # whether the word before is a flag that takes one value
        for position, word in enumerate(argv):
            if word == "--":
                return [*out, *argv[position:]]
            if word.startswith("--"):
                name, equals, value = word[2:].partition("=")
                name = name.replace("-", "_")
                name = self.old.get(name, name)
                out.append(f"--{name}{equals}{value}")
                flag = self.flags.get(name)
                taking = not equals and flag is not None and isinstance(flag.metavar, str)
                taking = taking and flag is not None and bool(flag.metavar) and not flag.many
            elif taking and _NEGATIVE.match(word):  # argparse takes most of them for flags
                out[-1] += f"={word}"
                taking = False
            else:
                out.append(word)
                taking = False
        return out

    def _left_over(self, extra: Sequence[str], given: Collection[str]) -> list[Any]:
        """The words of ``extra`` that belong to the last positional ones; the rest is refused."""
        for word in extra:
            if word.startswith("-") and word != "-":
                name = word.partition("=")[0]
                if name.removeprefix("--") in self.elsewhere:
                    raise UsageError(f"{name} has no meaning here (--help lists all flags)")
                raise UsageError(
                    f"there is no flag {quoted(name)[1:-1]}{self._hint(name)}{_meant_file(word)}"
                )
        if not extra:
            return []
        if not (self.positional and self.positional[-1].many):
            raise UsageError(f"what is {quoted(extra[0])} for?{self._meant_for(extra[0], given)}")
        last = self.positional[-1]
        try:
            return [last.kind(word) for word in extra]
        except argparse.ArgumentTypeError as error:
            self.error(f"{last.metavar} {error}")

    def _meant_for(self, word: str, given: Collection[str]) -> str:
        """What to do about a word without a flag."""
        if self.stray is None:
            return " (--help lists all flags)"
        flag = self.stray(word)
        if flag in given:
            return f' All of --{flag} stands in quotes: --{flag} "…"'
        return f" Did you mean --{flag} {quoted(word)}?"

    def _hint(self, name: str) -> str:
        """What a flag may be that there is not."""
        word, listed = name.lstrip("-").lower(), "; --help lists all flags"
        if word in MEANINGS:  # what is spelled nearly so means something else
            flag = meant(word, self.flags)
            return listed if flag is None else f"; did you mean {flag}?"
        return did_you_mean(name, [f"--{flag}" for flag in self.flags]) or listed


def _meant_file(word: str) -> str:
    """What to write for a file whose name looks like a flag."""
    if not os.path.lexists(word):
        return ""
    return f" (the file of this name is {quoted(f'./{word}')[1:-1]})"


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        assert isinstance(parser, Parser)
        parser.show_rare()
        parser.print_help()
        parser.exit()
