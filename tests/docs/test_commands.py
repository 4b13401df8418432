"""What README and docs tell users to type: every command, link, Python block and error message.

`UPDATE_DOCS=1` lets `test_shell_blocks` rewrite what pages show as output.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
from markdown_pages import ROOT, Block, anchors, blocks, links, markdown_files, user_pages
from seen_once import seen_once

from wmreward.cli import COMMANDS, main
from wmreward.commands.flag_table import parsers
from wmreward.surprise.models import load

PAGES = user_pages()
SHELL = [block for page in PAGES for block in blocks(page) if block.language == "bash"]
PARSERS = {parser.prog: parser for parser in parsers(COMMANDS)}
SCRIPTS = {"compute_wmreward.py": "score", "generate_magi1.py": "generate"}
LENT = ("example", "prompt", "MAGI-1", "compute_wmreward.py", "generate_magi1.py")
PRINTED: dict[tuple[str, ...], str] = {}
"""By every command that was run already: several pages have the same."""
_NUMBER = re.compile(r"-?\d+\.\d+")


def name_of(value: object) -> str:
    if isinstance(value, Block):
        return f"{value.page.relative_to(ROOT)}:{value.line}"
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def as_wmreward(words: list[str]) -> list[str] | None:
    """The words after `wmreward`, however the command is spelled; None: it is another program."""
    if words[0] == "wmreward":
        return words[1:]
    if words[0] in ("python", "torchrun"):
        for place, word in enumerate(words):
            if words[place - 1 : place + 1] == ["-m", "wmreward"]:
                return words[place + 1 :]
            if word in SCRIPTS:
                return [SCRIPTS[word], *words[place + 1 :]]
    return None


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands read; what they write stays in it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in LENT:
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(autouse=True)
def in_clone(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.syspath_prepend(str(ROOT))  # example.my_reward


# --- commands -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", SHELL, ids=name_of)
def test_commands_are_spelled_right(block: Block) -> None:
    """Programs, flags and files of ours are there, also where a block is not run."""
    assert block.commands
    for words in block.commands:
        known = as_wmreward(words)
        if known is not None:
            check_flags(known)
        else:
            check_other(words)


def check_flags(words: list[str]) -> None:
    if words == ["--version"]:
        return
    prog = f"wmreward {words[0]}"
    if (longer := " ".join([prog, *words[1:2]])) in PARSERS:
        prog, words = longer, words[1:]
    PARSERS[prog].read(words[1:])


def check_other(words: list[str]) -> None:
    program, *rest = words
    named = [word for word in rest if word.startswith(("generation/", "example/", "environment"))]
    assert all((ROOT / word).exists() for word in named), words
    if program == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(f"\n{target}:" in makefile for target in rest)
    elif program == "pip":
        project = (ROOT / "pyproject.toml").read_text()
        extras = re.findall(r"\[(.*)\]", " ".join(rest))
        assert all(f"\n{extra} = [" in project for group in extras for extra in group.split(","))
    elif program == "python" and rest[0] == "-m":
        found = importlib.util.find_spec(rest[1])
        assert found is not None and found.origin is not None
        sources = "".join(f.read_text() for f in Path(found.origin).parent.rglob("*.py"))
        assert all(f'"{word}"' in sources for word in rest[2:] if word.startswith("--"))
    else:
        assert named or program == "conda", f"{words}: what is this?"


@pytest.mark.parametrize("block", [b for b in SHELL if not b.reason], ids=name_of)
def test_shell_blocks(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands work as the page has them, and print what it shows."""
    for words in block.commands:
        known = as_wmreward(words)
        assert known is not None, f"{words} cannot be run here: say why (<!-- not run: … -->)"
        if tuple(known) not in PRINTED:
            code = main(known)
            said = capsys.readouterr()
            assert code == 0, f"{words}\n{said.err}"
            PRINTED[tuple(known)] = said.out.strip() + "\n"
        out = PRINTED[tuple(known)]
    if block.printed is None:
        return
    if os.environ.get("UPDATE_DOCS"):
        page, (first, last) = block.page.read_text(encoding="utf-8"), block.span
        block.page.write_text(page[:first] + out + page[last:], encoding="utf-8")
        return
    assert _NUMBER.sub("0", block.printed) == _NUMBER.sub("0", out)
    shown, real = (
        [float(number) for number in _NUMBER.findall(text)] for text in (block.printed, out)
    )
    assert real == pytest.approx(shown, rel=0.02, abs=2e-6)


def test_reasons_name_tests_that_are_there() -> None:
    for block in SHELL:
        for name in re.findall(r"tests/[\w/]+(?:\.py)?", block.reason):
            assert (ROOT / name).exists(), f"{name_of(block)}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one namespace, as a reader would type them."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look there
    for block in blocks(page):
        if block.language == "python" and not block.reason:
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            exec(code, vars(module))


@pytest.mark.parametrize("name", ["my_world_model", "my_generator"])
def test_the_examples_stand_in_the_page(name: str) -> None:
    """The page shows them whole; they are files so that commands can take them."""
    docstring, _, code = (ROOT / "example" / f"{name}.py").read_text().partition('"""\n\n')
    assert docstring.startswith('"""')
    assert f"```python\n{code.strip()}\n```" in (ROOT / "docs" / "extending.md").read_text()


# --- pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", markdown_files(), ids=name_of)
def test_links(page: Path) -> None:
    for target in links(page):
        if re.match(r"https?://|mailto:", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.relative_to(ROOT)}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.relative_to(ROOT)}: {target}"


def test_the_readme_is_short_and_the_index_knows_every_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    index = set(links(ROOT / "docs/README.md"))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= index, f"not in docs/README.md: {sorted(pages - index)}"


def test_messages_of_the_troubleshooting_page_exist() -> None:
    """Each piece between … is in a text of the code."""
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)`(?: \| |,)", text, re.MULTILINE)
    assert len(messages) > 40
    texts = "\n".join(_texts_of_code())
    foreign = "wmreward: command not found"  # the shell says that
    for message in messages:
        pieces = [piece.strip() for piece in message.split("…") if piece.strip()]
        assert message == foreign or all(piece in texts for piece in pieces), message


def _texts_of_code() -> set[str]:
    found: set[str] = set()
    for package in ("wmreward", "vjepa2", "wmfiles", "wmweights", "MAGI-1/magi1"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (n.value if isinstance(n, ast.Constant) else "…" for n in node.values)
                    found.add("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


@pytest.fixture(scope="module", autouse=True)
def model_once() -> Iterator[None]:
    """The embedded model is loaded once for all blocks, looks at a clip once, and is gone afterwards."""
    with seen_once():
        yield
    load.cache_clear()
