"""Sentences of texts, and samples of them."""

import pytest

from jaxbert.train.sentences import sample, sentences
from jaxbert.train.texts import Texts

LINES = [Texts(f"row {i}", f"text {i}") for i in range(23)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two three four. Five six 7 8!", ["One two three four.", "Five six 7 8!"]),
        ('"One two three 4?" five six 7 8', ['"One two three 4?', "five six 7 8"]),
        ("One two three 4\n\nfive six 7 8", ["One two three 4", "five six 7 8"]),
        ("Mrs. Two three four five", ["Two three four five"]),
        ("1 2 3 4 5 6 7 8 9", ["1 2 3 4 5 6"]),
        ("1 2  3\t4 5 6 7 8 9 10", ["1 2 3 4 5 6", "7 8 9 10"]),
        ("A b c d. A b c d. A b c d", ["A b c d.", "A b c d"]),
        ("A b c 3.5 d", ["A b c 3.5 d"]),
        ("", []),
    ],
)
def test_sentences(text, expected):
    assert [own.text for own in sentences([Texts("here", text)], 6)] == expected


def test_a_sentence_comes_once_and_says_where_it_stands():
    rows = [Texts("row 1", "a b c d. e f g h."), Texts("row 2", "e f g h. i j k l.")]
    assert [(own.where, own.text) for own in sentences(rows, 9)] == [
        ("row 1", "a b c d."),
        ("row 1", "e f g h."),
        ("row 2", "i j k l."),
    ]


def test_a_sample_is_drawn_at_random_and_keeps_the_order():
    first, again, fewer = (sample(iter(LINES), number) for number in (11, 11, 7))
    assert first == again
    assert len(set(first)) == 11
    assert first == sorted(first, key=LINES.index)
    assert first != LINES[:11]
    assert set(fewer) < set(first)
    assert sample(LINES, 40) == LINES
