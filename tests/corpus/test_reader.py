"""Rows in numbered parts: where a part ends, what is hashed, and what is known at the end."""

import hashlib
import json

import pytest

from jaxbert.corpus import reader as module
from jaxbert.corpus.reader import InputSummary, Reader
from jaxbert.corpus.rows import Source
from jaxbert.errors import InputChangedError, InputError

LINES = [
    '{"text": "a"}',
    "{",
    '{"id": "x", "text": "b"}',
    '{"text": "c"}',
    '{"text": "d", "id": 4}',
]


def reader(tmp_path, lines=LINES, size=2, on_bad_row=lambda number, row: None):
    (tmp_path / "in.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return Reader(Source([str(tmp_path / "in.jsonl")]), size, on_bad_row)


def hashed(lines):
    """The hash of rows, each with its length before it."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(len(line).to_bytes(8, "little") + line.encode())
    return digest


def test_rows_and_places_of_each_part(tmp_path):
    bad = []
    found = reader(tmp_path, on_bad_row=lambda number, row: bad.append((number, row.where)))
    parts = list(found)
    assert [[row.text for row in part.rows] for part in parts] == [["a"], ["b", "c"], ["d"]]
    assert [part.places for part in parts] == [[0], [2, 3], [4]]
    assert [(part.number, part.first, part.count) for part in parts] == [
        (0, 0, 2),
        (1, 2, 2),
        (2, 4, 1),
    ]
    assert bad == [(0, "in.jsonl, row 2")]


def test_what_is_known_at_the_end(tmp_path):
    found = reader(tmp_path)
    parts = [hashed(LINES[:2]), hashed(LINES[2:4]), hashed(LINES[4:])]
    assert [part.sha256 for part in found] == [part.hexdigest() for part in parts]
    whole = hashlib.sha256(b"".join(part.digest() for part in parts)).hexdigest()
    assert (found.summary.rows, found.summary.parts) == (5, 3)
    assert found.summary.metadata == {"input_sha256": whole, "id_type": "string"}
    json.dumps(found.summary.metadata)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_full_parts_are_followed_by_no_empty_one(tmp_path, number):
    found = reader(tmp_path, [LINES[0]] * number)
    assert [part.count for part in found] == [2] * (number // 2) + [1] * (number % 2)
    assert (found.summary.rows, found.summary.id_type) == (number, "int64")


def test_a_part_ends_after_so_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BYTES", 3 * len(LINES[0]))
    assert [part.count for part in reader(tmp_path, [LINES[0]] * 7, size=100)] == [3, 3, 1]


def test_nothing_is_known_before_the_end_or_after_a_stop(tmp_path):
    with reader(tmp_path) as found:
        parts = iter(found)
        next(parts)
    assert list(parts) == []
    with pytest.raises(RuntimeError, match="not been read to its end"):
        _ = found.summary


def test_a_bad_row_may_end_the_reading(tmp_path):
    def refuse(number, row):
        raise InputError(f"{row.where} of part {number}")

    with pytest.raises(InputError, match="row 2 of part 0"):
        list(reader(tmp_path, on_bad_row=refuse))


def test_parts_of_another_input_are_refused():
    summary = InputSummary(rows=3, id_type="int64", sums=("aa", "bb"))
    summary.check({0: {"input_sha256": "aa"}})
    with pytest.raises(InputChangedError, match=r"since part 1 was made .its rows are others"):
        summary.check({0: {"input_sha256": "aa"}, 1: {"input_sha256": "cc"}})
    with pytest.raises(InputChangedError, match=r"since part 2 was made .it has fewer rows"):
        summary.check({2: {"input_sha256": "aa"}})
