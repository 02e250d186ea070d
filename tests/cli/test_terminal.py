"""Lines on a terminal: `clew.cli._terminal`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from clew.cli._render import HANGING_CELLS, folded
from clew.cli._text import visible


@given(st.text(st.characters(exclude_categories=["Cs", "Mn", "Me", "Cf"]), max_size=300), st.integers(10, 60))
def test_a_long_line_goes_on_indented_and_loses_nothing(text: str, width: int) -> None:
    """No piece is wider than the terminal, and only the first begins at its left edge."""
    line = Text(visible(text))
    pieces = [piece.plain for piece in folded(line, width)]
    assert [] == [piece for piece in pieces if cell_len(piece) > width]
    assert [] == [piece for piece in pieces[1:] if not piece.startswith(" " * HANGING_CELLS)]
    assert line.plain == pieces[0] + "".join(piece[HANGING_CELLS:] for piece in pieces[1:])


def test_text_padded_to_the_width_cannot_look_like_a_line_of_its_own() -> None:
    """What a service logs does not become a line of another service."""
    forged = "ok" + " " * 38 + "14:15:03.120 payments  ERROR app: card stolen"
    assert ["ok" + " " * 38, "    14:15:03.120 payments  ERROR app: ca", "    rd stolen"] == [
        piece.plain for piece in folded(Text(forged), 40)
    ]
