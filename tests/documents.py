"""The documents as data: their fenced blocks with the marks before them, headings, tables, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
GUIDES = ("docs/client.md", "docs/collector.md", "docs/kafka.md", "docs/search.md", "docs/api.md", "docs/cli.md")
_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, its text, and the words of the comment right before it."""

    document: str
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def read(document: str) -> str:
    """Return a document's text; the path is seen from the repository's root."""
    return (REPOSITORY / document).read_text(encoding="utf-8")


def blocks(document: str, language: str = "") -> list[Block]:
    """Return the fenced blocks, all of them or those of one language."""
    text = read(document)
    found = [
        Block(document, text.count("\n", 0, match.start()) + 1, match["language"], match["text"], match["mark"] or "")
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if language in ("", block.language)]


def prose(document: str) -> str:
    """Return a document without its fenced blocks."""
    return _BLOCK.sub("", read(document))


def headings(document: str) -> list[tuple[int, str]]:
    """Return level and text of each heading."""
    return [(len(marks), text) for marks, text in re.findall(r"^(#+) (.+)$", prose(document), re.M)]


def anchor(heading: str) -> str:
    """Return the name by which a heading is linked to, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(document: str) -> list[str]:
    """Return the targets of links and pictures, in order."""
    return re.findall(r"\]\(([^)]+)\)", prose(document))


def first_cells(document: str) -> list[str]:
    """Return the first cell of each table row, in order; what is not code is a heading and differs by language."""
    rows = re.findall(r"^\| (.+?) \|", prose(document), re.M)
    return [cell for cell in rows if "`" in cell or set(cell) <= {"-"}]
