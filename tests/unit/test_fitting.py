"""Tables on narrow terminals."""

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from offsim.results.fitting import FittedTable, fitted, line_spans, pieces
from offsim.results.layout import new_table

WORDS = st.lists(st.text("abc-_./", min_size=1, max_size=30), min_size=1, max_size=8).map(" ".join)
NUMBERS = st.floats(-1e3, 1e3).map("{:.2f} %".format)


def shown(rows: list[tuple[str, ...]], width: int, optional: tuple[str, ...] = ()) -> list[str]:
    """Lines of a table with a name, words and a number in each row."""
    table = new_table("", "name", "words", "number", optional=optional)
    table.columns[1].justify = "left"
    for row in rows:
        table.add_row(*row)
    console = Console(width=width, markup=False)
    with console.capture() as captured:
        console.print(fitted(table, width))
    return captured.get().splitlines()


@given(st.lists(st.tuples(WORDS, WORDS, NUMBERS), min_size=1, max_size=4), st.integers(20, 120))
def test_what_cannot_be_broken_stands_on_one_line_and_lines_are_no_wider_than_the_terminal(rows, width):
    lines = shown(rows, width)
    assert all(len(line) <= width for line in lines)
    longest = [max(len(p) for row in rows for word in row[i].split() for p in pieces(word)) for i in (0, 1)]
    if sum(max(5, piece) for piece in longest) + max(len(row[2]) for row in rows) + 4 <= width:
        said = "\n".join(lines)
        parts = [part for row in rows for cell in row[:2] for word in cell.split() for part in pieces(word)]
        assert all(part in said for part in (*parts, *(row[2] for row in rows)))


def test_names_break_at_their_joints_only_where_words_do_not_fit():
    row = ("scheduled-layerwise", "after all-to-alls", "+1.25 %")
    assert shown([row], 60)[2:] == ["scheduled-layerwise   after all-to-alls   +1.25 %"]
    assert [line.rstrip() for line in shown([row], 43)[2:]] == [
        "scheduled-layerwise   after         +1.25 %",
        "                      all-to-alls",
    ]
    assert [line.rstrip() for line in shown([row], 36)[2:]] == [
        "scheduled-     after         +1.25 %",
        "layerwise      all-to-alls",
    ]


def test_an_optional_column_goes_only_where_the_others_do_not_fit():
    row = ("name", "unbreakableword", "+1.25 %")
    assert "unbreakableword" in "\n".join(shown([row], 30, optional=("words",)))
    assert "unbreakableword" not in "\n".join(shown([row], 25, optional=("words",)))


def test_characters_of_two_columns_count_as_two():
    assert list(line_spans("\u65e5\u672c \u65e5\u672c", 5)) == [(0, 2), (3, 5)]


def test_what_would_move_the_cursor_counts_as_what_is_shown_for_it():
    table = FittedTable("\x1b[31m")
    table.add_row("\x07", Text("\u202e"))
    assert [(column.header, list(column.cells)) for column in table.columns] == [
        (r"\x1b[31m", [r"\x07"]),
        ("", [r"\u202e"]),
    ]
