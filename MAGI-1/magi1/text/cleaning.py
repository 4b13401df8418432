"""The caption cleaner that MAGI-1's text was trained with.

It comes from a line of image models (DeepFloyd IF, PixArt) whose captions were scraped from web shops,
so it takes away addresses, product codes and shop talk, and all Chinese. Its rules and their order define
what the text encoder saw in training; they are kept as they are, oddities included. Ordinary English only
loses its capitals, its brackets and its slashes.

Needs the extra ``generate`` (ftfy, beautifulsoup4).
"""

from __future__ import annotations

import html
import re
import warnings
from urllib.parse import unquote_plus

from magi1.errors import MagiError

Rules = tuple[tuple[re.Pattern[str], str], ...]
"""Expressions and what replaces each match, in the order in which they apply."""

_DOMAIN = r"[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b/?(?!@)"
_FILE = r"(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)"


def _rules(*pairs: tuple[str, str]) -> Rules:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


# Before HTML is parsed, which would take a tag's angle brackets with it.
_MARKUP = _rules(
    (r"<person>", "person"),  # stands for a name in captions of people
    (rf"\b(?:https?:(?:/{{1,3}}|[a-zA-Z0-9%])|{_DOMAIN})", ""),  # addresses, but not a query's "?…"
    (
        rf"\b(?:www:(?:/{{1,3}}|[a-zA-Z0-9%])|{_DOMAIN})",
        "",
    ),  # what the first pass has brought together
)

_SYMBOLS = _rules(
    (r"@\w+", ""),  # account names
    # CJK strokes, phonetic extensions, enclosed letters, compatibility, extension A, hexagrams,
    # unified ideographs: blocks without a gap between them
    (r"[\u31c0-\u9fff]+", ""),
    # every dash, and the Japanese and Mongolian ones, is a hyphen
    (
        r"[\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0"
        r"\ufe31\ufe32\ufe58\ufe63\uff0d]+",
        "-",
    ),
    (r"[`´«»“”¨]", '"'),
    (r"[‘’]", "'"),
    (r"&quot;?", ""),
    (r"&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),  # IP addresses
    (r"\d:\d\d\s+$", ""),  # article ids at the end
    (r"\\n", " "),  # a line break written as backslash and n
    (r"#\d{1,3}\b", ""),  # "#1"
    (r"#\d{5,}\b", ""),  # "#12345"; four digits may be a year
    (r"\b\d{6,}\b", ""),  # long numbers
    (rf"\S+\.{_FILE}", ""),  # file names
    (r"[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "),
    (r"\s+\.\s+", " "),  # a lone full stop
)

_JOINT = re.compile(r"[-_]")
_MOST_JOINTS = 3  # more hyphens and underscores than these are spaces: it-is-a-file-name

_SHOP_TALK = _rules(
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # "jc6640"
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),  # "jc6640vc"
    (r"\b\d+[a-zA-Z]+\d+\b", ""),  # "6640vc231"
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b{_FILE}(?:\simages?)?", ""),  # "png image"
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),  # "j2d1a2a"
    (
        r"\b\d+\.?\d*[x\u0445\u00d7]\d+\.?\d*\b",
        "",
    ),  # "1920x1080", also with the Cyrillic and the real sign
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),  # "red,green", but "3.5" stays
    (r"\s+", " "),
    (r"^[\"']([\w\W]+)[\"']$", r"\1"),  # quotes around it all
    (r"^['_,\-:;]", ""),
    (r"['_,\-:+]$", ""),
    (r"^\.\S+$", ""),  # nothing but a file extension
)


def clean_prompt(prompt: str) -> str:
    """The prompt as MAGI-1's text encoder expects it: cleaned twice, as in its training.

    Returns:
        Lower-case text, which may be empty.

    Raises:
        MagiError: ftfy or beautifulsoup4 is not installed.
    """
    return _clean(_clean(prompt))


def _clean(text: str) -> str:
    text = unquote_plus(text).strip().lower()
    text = _apply(_MARKUP, text)
    text = _text_of_html(text)
    text = _apply(_SYMBOLS, text)
    if len(_JOINT.findall(text)) > _MOST_JOINTS:
        text = _JOINT.sub(" ", text)
    text = _repaired(text)
    return _apply(_SHOP_TALK, text).strip()


def _apply(rules: Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _text_of_html(text: str) -> str:
    """What a browser would show: no tags, entities resolved."""
    try:
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise _missing("beautifulsoup4") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "this looks like a file name": a prompt may
        return BeautifulSoup(text, features="html.parser").text


def _repaired(text: str) -> str:
    """Without mis-decoded characters, and without entities that were escaped twice."""
    try:
        from ftfy import fix_text
    except ImportError as error:
        raise _missing("ftfy") from error
    return html.unescape(html.unescape(fix_text(text))).strip()


def _missing(package: str) -> MagiError:
    return MagiError(f'cleaning prompts needs {package}: pip install -e ".[generate]" in the clone')
