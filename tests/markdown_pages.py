"""The Markdown files of the repository, and the code blocks in them.

A block is run by the tests unless a comment stands right before it and says why not:

    <!-- not run: needs weights -->
    ```bash
    wmreward score clip.mp4
    ```

A ``text`` block right after a run one is what that prints.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_ELSEWHERE = {"outputs", "build", "checkpoints", "shared", "runs", "node_modules"}
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]*) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```\n",
    re.MULTILINE | re.DOTALL,
)
_ANY_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Code in a page.

    Attributes:
        page: The file.
        line: Where its code begins, from 1.
        language: As the page says.
        text: The code.
        reason: Why it is not run; empty if it is.
        printed: What the page says that it prints, or None.
        span: Where ``printed`` stands in the page.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str
    printed: str | None
    span: tuple[int, int] = (0, 0)

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block; settings of the environment are left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        split = [shlex.split(line, comments=True) for line in lines]
        return [words for line in split for words in _between_ands(line)]


def markdown_files() -> list[Path]:
    """All of them, in order."""
    found: list[Path] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(f for f in folders if f not in _ELSEWHERE and not f.startswith("."))
        found += [Path(folder, name) for name in sorted(files) if name.endswith(".md")]
    return found


def user_pages() -> list[Path]:
    """Those that are written for users: their commands are tested."""
    docs = sorted((ROOT / "docs").glob("*.md"))
    return [ROOT / "README.md", *docs, ROOT / "example/README.md", ROOT / "prompt/README.md"]


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, without those that show what others print."""
    text = page.read_text(encoding="utf-8")
    out: list[Block] = []
    end = 0
    for match in _BLOCK.finditer(text):
        shows = match["language"] == "text"
        if shows and out and not text[end : match.start()].strip():
            before = out.pop()
            span = match.span("text")
            out.append(Block(*_first(before), before.reason, match["text"], span))
        elif not shows:
            line = text.count("\n", 0, match.start("text")) + 1
            reason = match["reason"] or ""
            out.append(Block(page, line, match["language"], match["text"], reason, None))
        end = match.end()
    return out


def links(page: Path) -> Iterator[str]:
    """Targets of links and pictures, code left out."""
    yield from _LINK.findall(_ANY_BLOCK.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """Names of its headings, as links spell them."""
    headings = _HEADING.findall(_ANY_BLOCK.sub("", page.read_text(encoding="utf-8")))
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


def _first(block: Block) -> tuple[Path, int, str, str]:
    return block.page, block.line, block.language, block.text


def _between_ands(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, "&&"]:
        if word != "&&":
            command.append(word)
            continue
        while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
            command = command[1:]
        if command:
            yield command
        command = []
