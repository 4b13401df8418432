"""All flags of all commands as a page of Markdown: `python -m wmreward.commands.flag_table > docs/flags.md`.

A test holds the page to what the parsers say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from wmreward.commands.dispatch import Command, found
from wmreward.commands.flags import Flag, Parser
from wmreward.commands.kinds import Number, OneOf, Whole

_HEAD = """\
# Flags

One flag means one thing, with the same syntax, in every command that has it. Every flag may also be written
with dashes (`--max-frames`). All numbers are finite and lie in the range given here. `COMMAND --help` lists
the flags that matter most, `--help-all` all of them; every command also has `--debug` (show the traceback of
errors), `--help` and `--version`.

This page is made from the commands themselves: `python -m wmreward.commands.flag_table > docs/flags.md`.
"""


def parsers(commands: Sequence[Command]) -> list[Parser]:
    """Of all commands."""
    return [found(place)() for command in commands for place in command.parsers]


def page(commands: Sequence[Command]) -> str:
    """The whole page."""
    every = parsers(commands)
    parts = [_HEAD, "## What several commands have\n", _rows(_shared(every), every), ""]
    told = {flag.name for flag in _shared(every)}
    for parser in every:
        own = [flag for flag in _listed(parser) if flag.name not in told]
        told |= {flag.name for flag in own}
        parts += [f"## {parser.prog}\n", *_also(parser, own), *_own(own)]
    return "\n".join([*parts, *_old(every)])


def _listed(parser: Parser) -> list[Flag]:
    return [flag for flag in parser.flags.values() if flag.name != "debug"]


def _shared(every: Iterable[Parser]) -> list[Flag]:
    """Flags that several parsers have, as no command changed them, by name."""
    seen: dict[str, list[Flag]] = {}
    for parser in every:
        for flag in _listed(parser):
            seen.setdefault(flag.name, []).append(flag)
    plain = [replace(flags[0], note="", required=False) for flags in seen.values() if flags[1:]]
    return sorted(plain, key=lambda flag: flag.name)


def _rows(flags: Iterable[Flag], every: Sequence[Parser]) -> str:
    lines = ["| flag | meaning | default | commands |", "| --- | --- | --- | --- |"]
    for flag in flags:
        default = _default(every, flag.name)
        names = [_short(parser) for parser in every if flag.name in parser.flags]
        lines.append(f"| {_called(flag)} | {_meaning(flag)} | {default} | {', '.join(names)} |")
    return "\n".join(lines)


def _own(flags: Sequence[Flag]) -> list[str]:
    if not flags:
        return []
    lines = ["| flag | meaning | default |", "| --- | --- | --- |"]
    lines += [f"| {_called(f)} | {_meaning(f)} | {_cell(f.shown_default)} |" for f in flags]
    return [*lines, ""]


def _also(parser: Parser, own: Sequence[Flag]) -> Iterator[str]:
    """What the command adds to the meaning of flags that are told elsewhere."""
    others = [flag for flag in _listed(parser) if flag not in own]
    if others:
        yield f"Also {', '.join(f'`--{flag.name}`' for flag in others)}.\n"
    for flag in others:
        if flag.note:
            yield f"- `--{flag.name}`: {flag.note}."
    if any(flag.note for flag in others):
        yield ""


def _old(every: Iterable[Parser]) -> Iterator[str]:
    yield "## Earlier spellings\n"
    yield "They still work, in the commands where they were, and are listed nowhere else."
    yield "`--mode`, `--fps` and `--workers` mean something else in commands where they are listed above.\n"
    yield "| command | earlier | now |"
    yield "| --- | --- | --- |"
    for parser in every:
        for old, new in parser.old.items():
            if new in parser.flags:
                yield f"| {_short(parser)} | `--{old}` | `--{new}` |"
    yield ""


def _default(every: Iterable[Parser], name: str) -> str:
    """The same for all, or by command."""
    by_default: dict[str, list[str]] = {}
    for parser in every:
        if (flag := parser.flags.get(name)) is not None:
            by_default.setdefault(flag.shown_default, []).append(_short(parser))
    if len(by_default) == 1:
        return _cell(next(iter(by_default)))
    told = [f"{_cell(text)} ({', '.join(names)})" for text, names in by_default.items() if text]
    return "; ".join(told)


def _called(flag: Flag) -> str:
    metavar = flag.metavar if isinstance(flag.metavar, str) else " ".join(flag.metavar)
    more = " …" if flag.many else ""
    return f"`--{flag.name}{f' {metavar}' if metavar else ''}{more}`"


def _meaning(flag: Flag) -> str:
    ranged = f"; {flag.kind}" if isinstance(flag.kind, Whole | Number) else ""
    named = f"; one of {flag.kind}" if _names_are_new(flag) else ""
    needed = " (required)" if flag.required else ""
    told = f"{flag.text}; {flag.note}" if flag.note else flag.text
    return _cell(f"{told}{ranged}{named}{needed}")


def _names_are_new(flag: Flag) -> bool:
    return isinstance(flag.kind, OneOf) and not all(name in flag.text for name in flag.kind.names)


def _short(parser: Parser) -> str:
    return parser.prog.removeprefix("wmreward ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(found("wmreward.cli:COMMANDS")))
