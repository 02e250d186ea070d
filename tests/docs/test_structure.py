"""The documents hang together: links resolve, commands exist, generated files are fresh, the languages agree."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from clew.cli._root import cli
from documents import GUIDES, READMES, REPOSITORY, anchor, blocks, first_cells, headings, links, prose

DOCUMENTS = (*READMES, *GUIDES)


@pytest.mark.parametrize("document", [*DOCUMENTS, "RATIONALE.md", "CHANGELOG.md"])
def test_links_resolve(document: str) -> None:
    """A link to a file names one that is there, and a link to a section one that the file has."""
    broken = []
    for target in links(document):
        if target.startswith(("http://", "https://")):
            continue
        path, _, section = target.partition("#")
        file = (REPOSITORY / document).parent / path if path else REPOSITORY / document
        if not file.exists() or (section and section not in anchors(file)):
            broken.append(target)
    assert [] == broken


def anchors(file: Path) -> set[str]:
    """Return the sections of a document that can be linked to."""
    return {anchor(text) for _, text in headings(str(file))}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_shown_can_be_typed(document: str) -> None:
    """Each `clew` command of a console or unit file parses: the command exists, its options and values are right."""
    shown = [
        line
        for block in blocks(document)
        if block.language in ("console", "ini")
        for line in re.findall(r"^(?:\$ |ExecStart=\S*/)(clew .*)$", block.text, re.M)
    ]
    for line in shown:
        words = shlex.split(line, comments=True)
        parse(words[1 : words.index("|")] if "|" in words else words[1:])
    assert shown or document in ("docs/cli.md", "docs/search.md", "docs/api.md")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_named_in_the_text_exist(document: str) -> None:
    """A command named in a sentence exists and has the options named with it."""
    unknown = []
    for text in re.findall(r"`clew ([a-z][^`]*)`", prose(document)):
        name, *words = text.split()
        command = cli.get_command(root(), name)
        options = (
            {option for param in command.params for option in (*param.opts, *param.secondary_opts)} if command else ()
        )
        own = words[: words.index("--")] if "--" in words else words
        unknown += [text] if command is None else []
        unknown += [word for word in own if word.startswith("--") and word not in {*options, "--help"}]
    assert [] == unknown


def root() -> click.Context:
    """Return the context of `clew` itself."""
    return click.Context(cli, info_name="clew")


def parse(words: list[str]) -> None:
    """Parse a command without running it; click's exceptions say what is wrong."""
    command = cli.get_command(root(), words[0])
    assert command is not None, f"there is no command {words[0]}"
    command.make_context(words[0], words[1:], parent=root())


def test_generated_files_are_fresh() -> None:
    """`make docs` would change nothing."""
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_picture_calls_nobody() -> None:
    """The picture loads nothing from anywhere: the one address in it is the name of its format."""
    picture = (REPOSITORY / "docs/waterfall.svg").read_text(encoding="utf-8")
    assert ["http://www.w3.org/2000/svg"] == re.findall(r"\w+://[^\s\"')]+", picture)
    assert [] == re.findall(r"@import|@font-face|<script|<image|href=", picture)


def test_languages_have_the_same_sections() -> None:
    """The READMEs have as many headings of the same levels, in the same order."""
    english, chinese = ([level for level, _ in headings(document)] for document in READMES)
    assert english == chinese


def test_languages_have_the_same_code() -> None:
    """The READMEs show the same blocks with the same marks; only comments behind commands are translated."""
    english, chinese = (
        [(block.language, block.mark, re.sub(r" +# .*$", "", block.text, flags=re.M)) for block in blocks(document)]
        for document in READMES
    )
    assert english == chinese


def test_languages_have_the_same_tables_and_links() -> None:
    """The READMEs describe the same options, and lead to the same places."""
    english, chinese = READMES
    assert first_cells(english) == first_cells(chinese)
    assert sorted(links(english)) == sorted(links(chinese))


def test_languages_show_the_same_names() -> None:
    """What is set as code in the English text is there in the Chinese text as well: options, commands, headers."""
    english, chinese = ({" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(name))} for name in READMES)
    assert english == chinese
