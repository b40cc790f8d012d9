"""Reading rows: what comes out of files of every kind, and what is refused in which words."""

import csv
import datetime
import decimal
import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbert.corpus import fields, rows, tables
from jaxbert.corpus.rows import BadRow, Reading, Row, Source
from jaxbert.errors import InputError, InputTypeError

BOM = b"\xef\xbb\xbf"
KINDS = ("text", "jsonl", "csv", "parquet")
SUFFIX = {"text": ".txt", "jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet"}


def read(*paths, **reading):
    """All rows of the files."""
    return list(Source([str(path) for path in paths], Reading(**reading)).rows())


def file(folder, name, content):
    """A file of these bytes, or of these lines."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else "\n".join(content).encode())
    return path


def texts(found):
    return [row.text for row in found]


def bad(found):
    """Place and reason of every bad row."""
    return [(row.where, row.reason) for row in found if isinstance(row, BadRow)]


def until_error(source, match):
    """The rows before an InputError."""
    found = []
    with pytest.raises(InputError, match=match):
        found.extend(source.rows())
    return found


def parquet(path, columns, **options):
    """A Parquet file of these columns."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, **options)
    return path


def write(path, kind, values):
    """(id, text, title) in a file of any kind; text files hold the text alone."""
    if kind == "text":
        path.write_bytes(b"".join(text.encode() + b"\n" for _, text, _ in values))
    elif kind == "jsonl":
        names = ("id", "text", "title")
        lines = [json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in values]
        path.write_text("".join(lines))
    elif kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("title", "text", "id"), *values_for_csv(values)])
    else:
        arrow = pytest.importorskip("pyarrow")
        ids, lines, titles = zip(*values, strict=True) if values else ((), (), ())
        string = arrow.string()
        columns = {"title": arrow.array(titles, string), "text": arrow.array(lines, string)}
        parquet(path, {**columns, "id": arrow.array(ids, string)})
    return path


def values_for_csv(values):
    return [(title, text, own) for own, text, title in values]


# --- what is written comes back ----------------------------------------------------------------

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=13)
LINE = UNICODE.filter(lambda text: "\n" not in text and text[-1:] != "\r" and text[:1] != "\ufeff")
VALUES = st.lists(st.tuples(UNICODE, UNICODE, UNICODE), max_size=7)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@given(values=VALUES)
def test_what_is_written_comes_back(kind, packed, values):
    if kind == "parquet" and packed:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"in{SUFFIX[kind]}", kind, values)
        if packed:
            data, path = path.read_bytes(), path.with_name(path.name + ".gz")
            path.write_bytes(gzip.compress(data))
        found = read(path, carry=("title",))
    expected = [(own or None, text, title) for own, text, title in values]
    assert [(row.id, row.text, *row.carried) for row in found] == expected


@given(values=st.lists(LINE, max_size=7), end=st.sampled_from([b"\n", b"\r\n"]), last=st.booleans())
def test_lines_come_back(values, end, last):
    content = end.join(text.encode() for text in values) + end * (last and bool(values))
    if values and not last and not values[-1]:
        values = values[:-1]  # what is not ended and holds nothing is no line
    with tempfile.TemporaryDirectory() as folder:
        found = read(file(Path(folder), "in.txt", content))
    assert [row[:4] for row in found] == [(None, text, (), text.encode()) for text in values]


FEW = st.sampled_from(["", "a", "a,b", '"', "é", "null", "a\nb"])


@pytest.mark.parametrize("kind", KINDS)
@given(values=st.lists(st.tuples(FEW, FEW, FEW), max_size=7))
def test_raw_is_the_same_exactly_where_the_row_is(kind, values):
    carry = ()
    if kind == "text":
        values = [(own, text.replace("\n", " "), title) for own, text, title in values]
    else:
        carry = ("title",)
    with tempfile.TemporaryDirectory() as folder:
        found = read(write(Path(folder) / f"in{SUFFIX[kind]}", kind, values), carry=carry)
    assert len(found) == len(values)
    for one, other in itertools.combinations(found, 2):
        assert (one.raw == other.raw) == (one[:3] == other[:3])


def test_raw_of_tables_tells_types_and_fields_apart(tmp_path):
    known = [
        (1, "a", ["b"]),
        ("1", "a", ["b"]),
        (1, "a", [None]),
        (1, "a", ["null"]),
        (1, "a", [b"b"]),
        (1, "a", [b"\xff"]),
        (1, "a", [0.1]),
        (1, "a", [decimal.Decimal("0.10")]),
        (1, "a", [datetime.date(2000, 1, 2)]),
        (1, "a", [datetime.datetime(2000, 1, 2)]),
        (1, "a", [["b"]]),
        (1, "a", [{"b": 1, "c": 2}]),
        (None, "a", []),
        (None, "ab", []),
    ]
    assert len({fields.canonical(row) for row in known}) == len(known)
    swapped = fields.canonical((1, "a", [{"c": 2, "b": 1}]))
    assert swapped == fields.canonical((1, "a", [{"b": 1, "c": 2}]))


def test_raw_of_a_table_ignores_columns_that_are_not_read(tmp_path):
    one = file(tmp_path, "one.csv", ["text,other", "a,b"])
    two = file(tmp_path, "two.csv", ["other,text", '"c",a'])
    assert read(one)[0].raw == read(two)[0].raw


def test_raw_of_lines_is_the_line(tmp_path):
    line = '{ "text": "a",  "id": 2 }'
    (row,) = read(file(tmp_path, "in.jsonl", [line, ""]))
    assert row == Row(2, "a", (), line.encode(), "in.jsonl, row 1")


# --- the ends of lines and files ---------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["text", "jsonl", "csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [False, True])
def test_marks_and_ends_of_lines(tmp_path, kind, end, last, packed):
    lines = {"text": ["a", "b c"], "jsonl": ['{"text": "a"}', '{"text": "b c"}']}
    lines["csv"] = ["text", "a", "b c"]
    content = BOM + (end.join(lines[kind]) + end * last).encode()
    path = file(tmp_path, "in" + ".gz" * packed, gzip.compress(content) if packed else content)
    assert texts(read(path, kind=kind)) == ["a", "b c"]


def test_empty_lines_are_rows_of_text(tmp_path):
    found = read(file(tmp_path, "in.txt", b"\n\na\n\r\n\r\r\n \nb\r"))
    assert texts(found) == ["", "", "a", "", "\r", " ", "b\r"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_of_white_space_are_no_rows_elsewhere(tmp_path, end):
    lines = [b"", b'{"text": "a"}', b"", b" \t", b'{"text": "b"}', b"{}", b"", b""]
    found = read(file(tmp_path, "in.jsonl", BOM + end.join(lines)))
    assert [row.text for row in found if isinstance(row, Row)] == ["a", "b"]
    places = ["row 1 (line 2)", "row 2 (line 5)", "row 3 (line 6)"]
    assert [row.where for row in found] == [f"in.jsonl, {place}" for place in places]
    lines = [
        b"",
        b" ",
        b"id,text",
        b"",
        b"1,a",
        b"\t",
        b'2,"b',
        b'c"',
        b"",
        b"3",
        b"4,d",
        b"",
        b" ",
    ]
    found = read(file(tmp_path, "in.csv", BOM + end.join(lines)))
    good = [(row.id, row.text) for row in found if isinstance(row, Row)]
    assert good == [("1", "a"), ("2", f"b{end.decode()}c"), ("4", "d")]
    places = ["row 1 (line 5)", "row 2 (line 7)", "row 3 (line 10)", "row 4 (line 11)"]
    assert [row.where for row in found] == [f"in.csv, {place}" for place in places]
    assert bad(found)[0][1] == "has 1 fields where the header has 2"


def test_an_empty_cell_in_quotes_is_a_row(tmp_path):
    found = read(file(tmp_path, "in.csv", ["text", "a", "", '""', "b"]))
    assert texts(found) == ["a", "", "b"]


def test_lines_of_text_that_end_in_cr_alone_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"in\.txt has lines that end in CR alone; convert them"):
        read(file(tmp_path, "in.txt", b"a\rb\rc"))
    assert texts(read(file(tmp_path, "in.txt", b"50%\r100%\nb\r"))) == ["50%\r100%", "b\r"]


@pytest.mark.parametrize("size", [2**16 - 1, 2**16, 2**16 + 1, 2**17])
def test_ends_of_lines_where_a_piece_ends(tmp_path, size):
    for end in (b"\r", b"\r\n", b"\n", b"\r\r"):
        first = b'{"text": "' + b"a" * (size - 12) + b'"}'
        found = read(file(tmp_path, "in.jsonl", first + end + b'{"text": "b"}' + end))
        assert [len(row.text) for row in found] == [size - 12, 1]


@pytest.mark.parametrize("content", [b"", BOM])
@pytest.mark.parametrize("name", ["in.txt", "in.jsonl"])
def test_empty_files_have_no_rows(tmp_path, name, content):
    source = Source([str(file(tmp_path, name, content))])
    assert list(source.rows()) == []
    assert source.fraction() == 1
    packed = file(tmp_path, f"{name}.gz", gzip.compress(content))
    assert read(packed) == []


def test_empty_tables(tmp_path):
    with pytest.raises(InputError, match=r"in\.csv is empty; a CSV file begins with a header$"):
        read(file(tmp_path, "in.csv", b""))
    assert read(file(tmp_path, "in.csv", b"id,text\n")) == []
    source = Source([str(write(tmp_path / "in.parquet", "parquet", []))])
    assert list(source.rows()) == []
    assert source.fraction() == 1


def test_csv_with_quotes_and_newlines(tmp_path):
    content = b'id,text\r\n1,"a ""b"", c\r\nd\ne"\r\n2,\xc3\xa9 "f"\r\n3,"g"'
    found = read(file(tmp_path, "in.csv", content))
    assert [row[:2] for row in found] == [("1", 'a "b", c\r\nd\ne'), ("2", 'é "f"'), ("3", "g")]


def test_csv_fields_may_be_long(tmp_path):
    text = "long " * 40_000  # the csv module refuses 131,072 characters unless told otherwise
    assert texts(read(file(tmp_path, "in.csv", ["text", text]))) == [text]


def test_a_line_of_fifty_megabytes(tmp_path):
    text = "a" * 50_000_000
    assert texts(read(file(tmp_path, "in.txt", ["b", text, "c"]))) == ["b", text, "c"]
    found = read(file(tmp_path, "in.jsonl", [json.dumps({"text": text})]))
    assert texts(found) == [text]


@pytest.mark.parametrize("kind", ["text", "jsonl", "csv"])
def test_memory_is_bounded(tmp_path, kind):
    values = [(str(i), f"row {i} " * 13, "title") for i in range(20_011)]
    path = write(tmp_path / f"in{SUFFIX[kind]}", kind, values)
    assert path.stat().st_size > 2_000_000
    tracemalloc.start()
    assert sum(1 for _ in Source([str(path)]).rows()) == len(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


def test_memory_is_bounded_for_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    values = {"text": [os.urandom(5_003).hex() for _ in range(5_003)]}
    path = parquet(tmp_path / "in.parquet", values, use_dictionary=False)
    assert path.stat().st_size > 25_000_000
    del values
    before = most = arrow.total_allocated_bytes()
    tracemalloc.start()
    for _ in Source([str(path)]).rows():
        most = max(most, arrow.total_allocated_bytes())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most - before < 20_000_000
    assert peak < 20_000_000


# --- ids and carried fields --------------------------------------------------------------------


def test_ids(tmp_path):
    values = [7, "seven", -(2**63), 2**63 - 1]
    lines = [json.dumps({"id": value, "text": "a"}) for value in values]
    found = read(file(tmp_path, "in.jsonl", lines))
    assert [row.id for row in found] == values
    found = read(file(tmp_path, "in.csv", ["key,text", "7,a", ",b"]), id_field="key")
    assert [row.id for row in found] == ["7", None]
    assert [row.id for row in read(file(tmp_path, "in.csv", ["key,text", "7,a"]))] == [None]


NO_IDS = [
    ("null", None, None),
    ('""', None, None),
    ("true", None, "true"),
    ("1.0", None, "1.0"),
    ("NaN", None, "NaN"),
    ('{"$oid": "5f"}', None, '{"$oid": "5f"}'),
    ("[]", None, "[]"),
    (str(2**63), str(2**63), str(2**63)),
    (str(-(2**63) - 1), str(-(2**63) - 1), str(-(2**63) - 1)),
    ("7" * 5003, "7" * 5003, "7" * 5003),
]


@pytest.mark.parametrize(("value", "by_default", "asked_for"), NO_IDS)
def test_no_row_is_bad_because_of_its_id(tmp_path, value, by_default, asked_for):
    path = file(tmp_path, "in.jsonl", [f'{{"text": "a", "id": {value}}}', '{"text": "b"}'])
    assert [row.id for row in read(path)] == [by_default, None]
    assert [row.id for row in read(path, id_field="id")] == [asked_for, None]
    assert [row.id for row in read(path, id_field="")] == [None, None]


def test_ids_of_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    lines = ["a", "b", "c"]
    for kind in (arrow.int8(), arrow.int64(), arrow.uint64()):
        ids = arrow.array([3, 5, 7], kind)
        path = parquet(tmp_path / "in.parquet", {"id": ids, "text": lines})
        assert [row.id for row in read(path)] == [3, 5, 7]
        assert [row.id for row in read(path, id_field="")] == [None] * 3
    ids = arrow.array([3, 2**63, None], arrow.uint64())
    found = read(parquet(tmp_path / "in.parquet", {"id": ids, "text": lines}))
    assert [row.id for row in found] == [3, str(2**63), None]
    ids = arrow.array(["p", None, ""]).dictionary_encode()
    found = read(parquet(tmp_path / "in.parquet", {"id": ids, "text": lines}))
    assert [row.id for row in found] == ["p", None, None]
    path = parquet(tmp_path / "in.parquet", {"text": lines})
    assert [row.id for row in read(path)] == [None] * 3


def test_a_uuid_is_its_text(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    uuid = "30313233-3435-3637-3839-414243444546"
    ids = arrow.array([b"0123456789ABCDEF", None], arrow.uuid())
    path = parquet(tmp_path / "in.parquet", {"id": ids, "text": ["a", "b"]})
    for asked in (None, "id"):
        assert [row.id for row in read(path, id_field=asked)] == [uuid, None]


@pytest.mark.parametrize("kind", ["float64", "bool_", "binary", "date32"])
def test_parquet_columns_that_are_no_ids(tmp_path, kind):
    arrow = pytest.importorskip("pyarrow")
    ids = arrow.array([None], getattr(arrow, kind)())
    path = parquet(tmp_path / "in.parquet", {"id": ids, "text": ["a"]})
    assert [row.id for row in read(path)] == [None]
    match = r"parquet has \w+.* in the column 'id', .* used for ids$"
    with pytest.raises(InputError, match=match):
        Source([str(path)], Reading(id_field="id")).check()


def test_a_column_of_ids_is_demanded_only_where_it_is_named(tmp_path):
    for header in ("text", "id,text,id"):
        path = file(tmp_path, "in.csv", [header, ",".join("abc"[: header.count(",") + 1])])
        assert [row.id for row in read(path)] == [None]
        with pytest.raises(InputError, match=r"in\.csv has (no column|2 columns) 'id'"):
            Source([str(path)], Reading(id_field="id")).check()


def test_tables_are_checked_before_any_row_is_read(tmp_path):
    first = file(tmp_path, "a.csv", ["text", "a"])
    last = file(tmp_path, "b.csv.gz", gzip.compress(b"body\nb\n"))
    with pytest.raises(InputError, match=r"b\.csv\.gz has no column 'text', but 'body'"):
        Source([str(first), str(last)]).check()
    damaged = file(tmp_path, "c.parquet", b"PAR1")
    with pytest.raises(InputError, match=r"c\.parquet cannot be read as Parquet"):
        Source([str(first), str(damaged)]).check()


def test_carried_fields(tmp_path):
    value = {"b": [1, None, 2.5, "é"]}
    lines = [json.dumps({"text": "a", "x": value, "y": 2}), '{"y": null, "text": "b"}']
    found = read(file(tmp_path, "in.jsonl", lines), carry=("y", "x"))
    assert [row.carried for row in found] == [(2, value), (None, None)]
    found = read(file(tmp_path, "in.csv", ["x,text,y", "1,a,2"]), carry=("y", "x"))
    assert [row.carried for row in found] == [("2", "1")]


def test_the_same_field_may_serve_twice(tmp_path):
    for path in (
        file(tmp_path, "in.jsonl", ['{"text": "a", "id": "b"}']),
        file(tmp_path, "in.csv", ["text,id", "a,b"]),
        parquet(tmp_path / "in.parquet", {"text": ["a"], "id": ["b"]}),
    ):
        (row,) = read(path, id_field="text", carry=("id", "text", "id"))
        assert row[:3] == ("a", "a", ("b", "a", "b"))


def test_carried_columns_of_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    day, moment = datetime.date(2000, 1, 2), datetime.datetime(2000, 1, 2, 3, 4, 5, 6)
    columns = {
        "number": [1.5, None],
        "bytes": [b"\xff", b""],
        "day": [day, None],
        "moment": arrow.array([moment, None], arrow.timestamp("ns")),
        "price": [decimal.Decimal("0.10"), None],
        "list": [["a", None], []],
        "record": [{"p": 1, "q": "é"}, None],
        "a.b": ["dotted", None],
    }
    path = parquet(tmp_path / "in.parquet", {**columns, "text": ["a", "b"]})
    first, second = read(path, carry=tuple(columns))
    record = {"p": 1, "q": "é"}
    expected = (1.5, b"\xff", "2000-01-02", "2000-01-02T03:04:05.000006", "0.10", ["a", None])
    assert [value_of(value) for value in first.carried] == [*expected, record, "dotted"]
    assert [value_of(value) for value in second.carried] == [None, b"", *[None] * 3, [], None, None]
    assert json.loads(first.raw)[2][1] == {"binary": {"bytes": "ff"}}


def value_of(value):
    """A carried value, in what JSON knows."""
    return value.value if isinstance(value, fields.Cell) else value


def times():
    """(Arrow array, what its first value is as text)."""
    arrow = pytest.importorskip("pyarrow")
    moment = arrow.array([1_700_000_000_123_456_789])
    return [
        (moment.cast(arrow.timestamp("ns")), "2023-11-14T22:13:20.123456789"),
        (moment.cast(arrow.timestamp("ns", "UTC")), "2023-11-14T22:13:20.123456789+00:00"),
        (moment.cast(arrow.timestamp("ns", "+02:00")), "2023-11-15T00:13:20.123456789+02:00"),
        (arrow.array([1_000], arrow.timestamp("ns")), "1970-01-01T00:00:00.000001"),
        (arrow.array([-1], arrow.timestamp("ns")), "1969-12-31T23:59:59.999999999"),
        (arrow.array([400_000_000_000_000], arrow.timestamp("ms")), "14645-06-30T15:06:40"),
        (arrow.array([1], arrow.time64("ns")), "00:00:00.000000001"),
        (arrow.array([3_000_000], arrow.date32()), "10183-09-21"),
        (arrow.array([-1], arrow.duration("ns")), "-PT0.000000001S"),
        (arrow.array([1_500], arrow.duration("ms")), "PT1.5S"),
    ]


def test_times_are_carried_with_all_their_digits(tmp_path):
    for column, text in times():
        path = parquet(tmp_path / "in.parquet", {"text": ["a"], "when": column})
        (row,) = read(path, carry=("when",))
        assert value_of(row.carried[0]).removesuffix(".000") == text, column.type
        assert row.carried[0].column.type == column.type


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "reading", [{"text_field": "body"}, {"id_field": "body"}, {"carry": ("title", "body")}]
)
def test_columns_that_are_not_there(tmp_path, kind, reading):
    path = write(tmp_path / f"in{SUFFIX[kind]}", kind, [("1", "a", "b")])
    match = rf"in\.{kind} has no column 'body', but 'title', 'text', 'id'$"
    with pytest.raises(InputError, match=match):
        read(path, **reading)


def test_columns_that_are_there_twice(tmp_path):
    path = file(tmp_path, "in.csv", ["text,a,a", "b,c,d"])
    assert texts(read(path)) == ["b"]
    with pytest.raises(InputError, match="has 2 columns 'a'"):
        read(path, carry=("a",))


# --- bad rows ----------------------------------------------------------------------------------

JSONL = [
    (b'{"body": "a"}', "has no field 'text'"),
    (b'{"text": null}', "holds null in 'text', not text"),
    (b'{"text": 5}', "holds int in 'text', not text"),
    (b'{"text": ["a"]}', "holds list in 'text', not text"),
    (b'["text"]', "is no JSON object but list"),
    (b"null", "is no JSON object but null"),
    (b'"text"', "is no JSON object but str"),
    (b'{"text": "a"', "is no JSON (Expecting ',' delimiter at character 12)"),
    (b'{"text": "a"} {}', "is no JSON (Extra data at character 14)"),
    (b'{"text": "\xff"}', "is not UTF-8 (invalid start byte at byte 10)"),
    (b'{"text": "a", "x": "\xe9"}', "is not UTF-8 (invalid continuation byte at byte 20)"),
    (b'{"text": "\xed\xa0\x80"}', "is not UTF-8 (invalid continuation byte at byte 10)"),
    (rb'{"text": "ab\ud800"}', "holds no valid Unicode in 'text' (character 2)"),
    (rb'{"text": "a", "id": "\udfff"}', "holds no valid Unicode in 'id' (character 0)"),
    (rb'{"text": "a", "x": "\udfff"}', "holds no valid Unicode in 'x' (character 0)"),
    (rb'{"text": "a", "x": [{"\ud900": 1}]}', "holds no valid Unicode in 'x' (character 3)"),
    (b'{"text": "a", "x": NaN}', "holds a number in 'x' that is not finite"),
    (b'{"text": "a", "x": [{"y": -Infinity}]}', "holds a number in 'x' that is not finite"),
    (b'{"text": "a", "x": 1e999}', "holds a number in 'x' that is not finite"),
    (BOM + b'{"text": "a"}', "is no JSON (Expecting value at character 0)"),
]


@pytest.mark.parametrize(("line", "reason"), JSONL, ids=[reason for _, reason in JSONL])
def test_bad_lines_of_jsonl(tmp_path, line, reason):
    good = b'{"text": "\xf0\x9f\x98\x80 \\ud83d\\ude00"}\n'
    found = read(file(tmp_path, "notes.jsonl", good + line + b"\r\n" + good), carry=("x",))
    assert [type(row) for row in found] == [Row, BadRow, Row]
    assert found[0].text == "😀 😀"
    assert found[1] == BadRow("notes.jsonl, row 2", reason, line)


@pytest.mark.parametrize(
    "line", [b"NaN", b"[-Infinity]", b"1e999", b'"\xe9"', rb'"\ud800"', b"9" * 5003]
)
def test_only_what_is_used_must_be_valid(tmp_path, line):
    path = file(tmp_path, "in.jsonl", b'{"text": "a", "other": ' + line + b"}")
    assert texts(read(path)) == ["a"]


def test_json_that_is_too_deep_or_has_too_many_digits(tmp_path):
    lines = ["[" * 100_003, '{"text": "a", "id": ' + "7" * 5_003 + "}", '{"text": "a"}']
    deep, long, good = read(file(tmp_path, "in.jsonl", lines))
    assert deep.reason.startswith("is no JSON (maximum recursion")
    assert long.id == "7" * 5_003
    assert good.text == "a"


def test_bad_lines_of_text(tmp_path):
    found = read(file(tmp_path, "in.txt", b"a\n\xe9t\xe9\r\n\xc3\xa9\n\xf0\x9f"))
    assert [row.text for row in found if isinstance(row, Row)] == ["a", "é"]
    assert bad(found) == [
        ("in.txt, row 2", "is not UTF-8 (invalid continuation byte at byte 0)"),
        ("in.txt, row 4", "is not UTF-8 (unexpected end of data at byte 0)"),
    ]
    assert [row.raw for row in found] == [b"a", b"\xe9t\xe9", "é".encode(), b"\xf0\x9f"]


def test_bad_rows_of_csv(tmp_path):
    lines = [b"id,text", b"1,a", b"2", b"3,a,b", b'4,"\xe9\nb"', b"6,c", b"\xff,d"]
    found = read(file(tmp_path, "in.csv", b"\r\n".join(lines)))
    assert [row.id for row in found if isinstance(row, Row)] == ["1", "6"]
    assert bad(found) == [
        ("in.csv, row 2 (line 3)", "has 1 fields where the header has 2"),
        ("in.csv, row 3 (line 4)", "has 3 fields where the header has 2"),
        ("in.csv, row 4 (line 5)", "holds no valid Unicode in 'text' (character 0)"),
        ("in.csv, row 6 (line 8)", "holds no valid Unicode in 'id' (character 0)"),
    ]
    assert [row.raw for row in found][1:3] == lines[2:4]


def test_a_header_that_cannot_be_read_names_its_file(tmp_path, monkeypatch):
    def broken(feed):
        next(feed)
        raise csv.Error("no line like this")
        yield

    monkeypatch.setattr(csv, "reader", broken)
    match = r"in\.csv has a header that is no CSV \(no line like this\)$"
    with pytest.raises(InputError, match=match):
        read(file(tmp_path, "in.csv", ["text", "a"]))


def test_bad_rows_of_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    broken = arrow.array([b"\xff", b"a", None, b"", b"\xc3\xa9"]).cast(arrow.binary())
    broken = arrow.StringArray.from_buffers(5, *broken.buffers()[1:], broken.buffers()[0])
    path = parquet(tmp_path / "in.parquet", {"text": broken, "x": list("abcde")})
    found = read(path, carry=("x",))
    assert [row.text for row in found if isinstance(row, Row)] == ["a", "", "é"]
    assert bad(found) == [
        ("in.parquet, row 1", "holds no valid Unicode in 'text' (character 0)"),
        ("in.parquet, row 3", "holds null in 'text', not text"),
    ]
    assert len({row.raw for row in found}) == 5
    carried = read(parquet(tmp_path / "in.parquet", {"text": list("abcde"), "x": broken}))
    assert texts(carried) == list("abcde")
    found = read(tmp_path / "in.parquet", carry=("x",))
    assert bad(found) == [("in.parquet, row 1", "holds no valid Unicode in 'x' (character 0)")]


def test_bad_dictionaries_of_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    words = arrow.array([b"\xff", b"a"])
    words = arrow.StringArray.from_buffers(2, *words.buffers()[1:])
    column = arrow.DictionaryArray.from_arrays(arrow.array([1, 0, None, 1]), words)
    path = parquet(tmp_path / "in.parquet", {"text": column})
    # Arrow checks words before it gives out a row of them.
    with pytest.raises(InputError, match=r"in\.parquet is damaged \(Invalid UTF8"):
        read(path)


def test_cells_of_csv_that_are_not_read_need_not_be_utf8(tmp_path):
    path = file(tmp_path, "in.csv", b"text,other,caf\xe9\na,\xe9,1\nb,c,2")
    assert texts(read(path)) == ["a", "b"]
    found = read(path, carry=("other",))
    reason = "holds no valid Unicode in 'other' (character 0)"
    assert bad(found) == [("in.csv, row 1 (line 2)", reason)]


def test_rows_are_counted_in_each_file(tmp_path):
    one = file(tmp_path, "one.jsonl", ["{}", '{"text": "a"}'])
    two = file(tmp_path, "two.jsonl", ['{"text": "a"}', "{}"])
    places = ["one.jsonl, row 1", "two.jsonl, row 2", "one.jsonl, row 1"]
    assert [where for where, _ in bad(read(one, two, one))] == places


# --- Parquet's types ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_parquet_strings_of_every_type(tmp_path, kind):
    arrow = pytest.importorskip("pyarrow")
    values = ["a", None, "é", "", "a"]
    if kind == "dictionary":
        column = arrow.array(values).dictionary_encode()
    else:
        column = arrow.array(values, getattr(arrow, kind)())
    path = parquet(tmp_path / "in.parquet", {"text": column, "id": list("pqrst"), "x": column})
    found = read(path, carry=("x",))
    assert bad(found) == [("in.parquet, row 2", "holds null in 'text', not text")]
    good = [(*row[:2], tuple(map(value_of, row.carried))) for row in found if isinstance(row, Row)]
    assert good == [("p", "a", ("a",)), ("r", "é", ("é",)), ("s", "", ("",)), ("t", "a", ("a",))]


@pytest.mark.parametrize("value", [b"a", 5, ["a"], {"a": "b"}])
def test_parquet_columns_that_are_no_text(tmp_path, value):
    path = parquet(tmp_path / "in.parquet", {"text": [value]})
    with pytest.raises(InputError, match=r"parquet has .* in the column 'text', .* used for text$"):
        read(path)


def test_parquet_with_nothing_but_nulls(tmp_path):
    found = read(parquet(tmp_path / "in.parquet", {"text": [None, None]}))
    assert [where for where, _ in bad(found)] == ["in.parquet, row 1", "in.parquet, row 2"]


def test_parquet_of_many_row_groups_and_batches(tmp_path):
    count = 3 * tables.BATCH + 5
    values = {"text": [f"row {i}" for i in range(count)], "id": range(count)}
    for size in (7, tables.BATCH + 1, count):
        path = parquet(tmp_path / "in.parquet", values, row_group_size=size)
        assert [row[:2] for row in read(path)] == [(i, f"row {i}") for i in range(count)]


def test_without_pyarrow(tmp_path, monkeypatch):
    path = file(tmp_path, "in.parquet", b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r'pip install "jaxbert\[parquet\]"'):
        Source([str(path)])


# --- damaged files -----------------------------------------------------------------------------

LINES = "".join(f"row {i} {i * i % 8191}\n" for i in range(50_021)).encode()


def test_gzip_of_several_members(tmp_path):
    half = LINES.index(b"\n", len(LINES) // 2) - 3  # a line may go on in the next member
    packed = gzip.compress(LINES[:half]) + gzip.compress(b"") + gzip.compress(LINES[half:])
    found = read(file(tmp_path, "in.txt.gz", packed + bytes(13)))
    assert texts(found) == LINES.decode().splitlines()


@pytest.mark.parametrize("cut", [1, 5, 8, 9, 1_009, 100_003])
def test_gzip_that_ends_early(tmp_path, cut):
    packed = gzip.compress(LINES)[:-cut]
    path = file(tmp_path, "in.txt.gz", packed)
    known = zlib.decompressobj(31).decompress(packed).split(b"\n")[:-1]
    match = rf"in\.txt\.gz is a damaged gzip file \(.*ended.*\), after row {len(known)}$"
    found = until_error(Source([str(path)]), match)
    assert [row.raw for row in found] == known


@pytest.mark.parametrize("cut", [0, 1, 3, 10])
def test_gzip_that_ends_before_it_began(tmp_path, cut):
    path = file(tmp_path, "in.txt.gz", gzip.compress(b"a")[:cut])
    with pytest.raises(InputError, match=r"in\.txt\.gz is (empty; a|a damaged) gzip file"):
        read(path)


def test_gzip_whose_content_or_checksum_is_damaged(tmp_path):
    packed = bytearray(gzip.compress(LINES))
    packed[len(packed) // 2] ^= 255
    source = Source([str(file(tmp_path, "in.txt.gz", bytes(packed)))])
    until_error(source, r"in\.txt\.gz is a damaged gzip file")
    packed = bytearray(gzip.compress(LINES))
    packed[-5] ^= 1
    source = Source([str(file(tmp_path, "in.txt.gz", bytes(packed)))])
    found = until_error(source, r"in\.txt\.gz is a damaged gzip file \(CRC.*\), after row 50021$")
    assert [row.raw for row in found] == LINES.splitlines()


def test_gzip_with_something_behind_it(tmp_path):
    source = Source([str(file(tmp_path, "in.txt.gz", gzip.compress(b"a\n") + b"b\n"))])
    assert texts(until_error(source, "is a damaged gzip file.*, after row 1$")) == ["a"]


def test_names_that_lie_about_gzip(tmp_path):
    with pytest.raises(InputError, match="is a damaged gzip file"):
        read(file(tmp_path, "in.txt.gz", b"a\n"))
    with pytest.raises(InputError, match=r"is gzip without \.gz at the end of its name"):
        read(file(tmp_path, "in.txt", gzip.compress(b"a\n")))
    assert texts(read(file(tmp_path, "IN.TXT.GZ", gzip.compress(b"a\n")))) == ["a"]


def test_damaged_parquet(tmp_path):
    values = [(str(i), f"row {i} {i * i % 8191}", "a") for i in range(5_003)]
    data = write(tmp_path / "in.parquet", "parquet", values).read_bytes()
    for damaged in (b"", b"PAR1", data[:-13], data[:100], b"text\n" * 100):
        with pytest.raises(InputError, match=r"in\.parquet cannot be read as Parquet \("):
            read(file(tmp_path, "in.parquet", damaged))
    middle = len(data) // 2
    damaged = data[: middle - 5_000] + bytes(10_000) + data[middle + 5_000 :]
    until_error(Source([str(file(tmp_path, "in.parquet", damaged))]), r"in\.parquet is damaged \(")


def test_a_quote_that_is_never_closed(tmp_path, monkeypatch):
    source = Source([str(file(tmp_path, "in.csv", ["text", "a", '"b', "c", "d"]))])
    match = r"in\.csv opens a quote that is never closed, after row 1$"
    assert texts(until_error(source, match)) == ["a"]
    monkeypatch.setattr(fields, "LONGEST", 101)
    assert len(read(file(tmp_path, "in.csv", ["text", *["a" * 83] * 5]))) == 5
    source = Source([str(file(tmp_path, "in.csv", ["text", "a" * 83, '"b', *["c" * 31] * 5, '"']))])
    match = "has a row of more than 101 bytes, perhaps by an open quote, after row 1$"
    assert texts(until_error(source, match)) == ["a" * 83]


@pytest.mark.parametrize("size", [99, 70_001])
@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_a_line_that_is_too_long_is_a_bad_row(tmp_path, monkeypatch, kind, size):
    monkeypatch.setattr(fields, "LONGEST", 97)
    path = file(tmp_path, "in", ['{"text": "a"}', "b" * size, '{"text": "c"}', "d" * size])
    first, long, last, other = read(path, kind=kind)
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    ended = size + 1
    assert long[:2] == ("in, row 2", f"has {ended} bytes, and a row may have 97; cut it up")
    assert other[:2] == ("in, row 4", f"has {size} bytes, and a row may have 97; cut it up")
    assert long.raw != other.raw
    assert len(long.raw) == 32


def test_a_line_of_csv_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(fields, "LONGEST", 97)
    source = Source([str(file(tmp_path, "in.csv", ["text", "a", "b" * 97, "c"]))])
    assert len(until_error(source, r"in\.csv has a line that is too long.*, after row 1$")) == 1


def test_a_value_of_parquet_that_is_too_long_is_a_bad_row(tmp_path, monkeypatch):
    monkeypatch.setattr(fields, "LONGEST", 97)
    path = parquet(tmp_path / "in.parquet", {"text": ["a", "b" * 98, "c" * 97]})
    reason = "has 98 bytes in 'text', and a row may have 97"
    assert bad(read(path)) == [("in.parquet, row 2", reason)]


def test_a_parquet_file_that_unpacks_to_a_thousand_times_its_size(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    words = arrow.array(["a" * 7_000_003])
    column = arrow.DictionaryArray.from_arrays(arrow.array([0] * 101, arrow.int32()), words)
    path = parquet(tmp_path / "in.parquet", {"text": column}, compression="zstd")
    assert path.stat().st_size < 100_000
    del words, column
    before = most = arrow.total_allocated_bytes()
    count = 0
    for row in Source([str(path)]).rows():
        count += len(row.text)
        most = max(most, arrow.total_allocated_bytes())
    assert count == 101 * 7_000_003
    assert most - before < 150_000_000


@pytest.mark.parametrize("kind", ["text", "jsonl", "csv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16(tmp_path, kind, encoding):
    content = ("\ufeff" * (encoding != "utf-16") + "text\na\n").encode(encoding)
    with pytest.raises(InputError, match=r"in is UTF-16; convert it to UTF-8$"):
        read(file(tmp_path, "in", content), kind=kind)


# --- which files -------------------------------------------------------------------------------


def test_patterns_are_sorted(tmp_path):
    names = ["b.txt", "a.txt", "B.txt", "a10.txt", "a9.txt", "c.md"]
    (tmp_path / "deep.txt").mkdir()
    for name in names:
        file(tmp_path, name, [name])
    file(tmp_path / "deep.txt", "d.txt", ["deep"])
    found = read(tmp_path / "*.txt")
    assert texts(found) == ["B.txt", "a.txt", "a10.txt", "a9.txt", "b.txt"]
    found = read(tmp_path / "c.*", tmp_path / "a.txt", tmp_path / "a.*")
    assert texts(found) == ["c.md", "a.txt", "a.txt"]
    assert texts(read(tmp_path / "**" / "d.txt")) == ["deep"]


def test_names_that_look_like_patterns(tmp_path):
    path = file(tmp_path, "a[1].txt", ["a"])
    file(tmp_path, "a1.txt", ["b"])
    assert texts(read(path)) == ["a"]
    assert texts(read(tmp_path / "a[1-2].txt")) == ["b"]


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match=r"no file matches .*nothing-\*\.txt$"):
        read(tmp_path / "nothing-*.txt")
    with pytest.raises(InputError, match=r"no file matches .*f\*\.txt$"):
        read(tmp_path / "f*.txt")
    with pytest.raises(InputError, match=r"nothing\.txt does not exist$"):
        read(tmp_path / "nothing.txt")
    with pytest.raises(InputError, match=r"folder\.txt is a folder; name its files"):
        read(tmp_path / "folder.txt")


def test_mixed_kinds(tmp_path):
    file(tmp_path, "a.txt", ["a"])
    file(tmp_path, "b.jsonl", ['{"text": "b", "id": 5}'])
    file(tmp_path, "c.NDJSON.gz", gzip.compress(b'{"text": "c"}'))
    file(tmp_path, "d.csv.gz", gzip.compress(b"text,id\nd,x\n"))
    parquet(tmp_path / "e.parquet", {"text": ["e"]})
    file(tmp_path, "f", ["f"])
    found = read(tmp_path / "*")
    assert [row[:2] for row in found] == [
        (None, "a"), (5, "b"), (None, "c"), ("x", "d"), (None, "e"), (None, "f"),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"a\.txt is text, which has no field 'x' to carry"):
        Source([str(tmp_path / "*")], Reading(carry=("x",)))


@pytest.mark.parametrize("name", ["a.json", "a.tsv", "a.zip", "a.json.gz", "a.gz.gz", "a.npy"])
def test_names_that_promise_no_lines(tmp_path, name):
    path = file(tmp_path, name, gzip.compress(b"a") if name.endswith("gz") else b"a")
    with pytest.raises(InputError, match=r"is neither text, JSONL, CSV nor Parquet by its name"):
        Source([str(path)])
    assert texts(read(path, kind="text")) == ["a"]


def test_what_is_no_list_of_names_or_no_kind(tmp_path):
    with pytest.raises(InputTypeError, match="inputs is one name"):
        Source("in.txt")
    with pytest.raises(InputError, match="kind is 'xml'; choose one of text, jsonl"):
        Reading(kind="xml")
    assert list(Source([]).rows()) == []
    assert texts(Source([file(tmp_path, "in.txt", ["a"])]).rows()) == ["a"]


def test_names(tmp_path):
    one = file(tmp_path, "one.txt", b"abc\n")
    two = file(tmp_path, "two.jsonl.gz", gzip.compress(b""))
    assert Source([str(one), "-", str(two)]).names() == [
        {"name": "one.txt", "bytes": 4},
        {"name": "stdin", "bytes": None},
        {"name": "two.jsonl.gz", "bytes": two.stat().st_size},
    ]


# --- stdin -------------------------------------------------------------------------------------


def feed(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_stdin(monkeypatch, tmp_path):
    feed(monkeypatch, BOM + b"a\n\xff\n")
    source = Source(["-"])
    assert source.fraction() is None
    good, wrong = source.rows()
    assert (good.text, wrong.where) == ("a", "stdin, row 2")
    assert source.fraction() is None
    assert not sys.stdin.buffer.closed
    with pytest.raises(InputError, match="stdin was read before"):
        list(source.rows())


@pytest.mark.parametrize(("kind", "content"), [("jsonl", b'{"text": "b"}'), ("csv", b"text\nb")])
def test_stdin_among_files(monkeypatch, tmp_path, kind, content):
    feed(monkeypatch, content)
    lines = {"jsonl": ['{"text": "a"}'], "csv": ["text", "a"]}[kind]
    path = file(tmp_path, "in", lines)
    assert texts(read(path, "-", path, kind=kind)) == ["a", "b", "a"]


def test_stdin_that_cannot_be(monkeypatch):
    with pytest.raises(InputError, match="stdin is named twice"):
        Source(["-", "-"])
    feed(monkeypatch, gzip.compress(b"a"))
    with pytest.raises(InputError, match=r"^stdin is gzip"):
        read("-")
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="stdin cannot be read as Parquet"):
        read("-", kind="parquet")


def test_parquet_must_be_a_plain_file(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match=r"in\.parquet\.gz cannot be read as Parquet, which must"):
        read(file(tmp_path, "in.parquet.gz", gzip.compress(b"a")))


def test_a_named_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    source = Source([str(tmp_path / "pipe.jsonl")])
    assert source.names() == [{"name": "pipe.jsonl", "bytes": None}]
    lines = b'{"text": "a"}\n{"text": "b"}\n'
    writer = threading.Thread(target=(tmp_path / "pipe.jsonl").write_bytes, args=(lines,))
    writer.start()
    assert texts(source.rows()) == ["a", "b"]
    writer.join()
    assert source.fraction() is None


def test_a_pipe_gives_its_rows_while_it_is_written():
    code = (
        "from jaxbert.corpus.rows import Source\n"
        "for row in Source(['-']).rows(): print(row.text, flush=True)"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        for line in (b"a b\n", b"\n", b"c\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        process.stdin.write(b"d")
        process.stdin.close()
        assert process.stdout.read() == b"d\n"
        assert process.wait(60) == 0


def test_reading_lines_imports_nothing_heavy():
    code = (
        "import sys, jaxbert.corpus.rows\n"
        "print([m for m in ('jax', 'numpy', 'pyarrow', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


# --- how far -----------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_fraction_grows_to_one(tmp_path, kind, packed):
    values = [(str(i), f"row {i} {os.urandom(31).hex()}", "a") for i in range(10_007)]
    path = write(tmp_path / f"in{SUFFIX[kind]}", kind, values)
    if packed and kind != "parquet":
        data, path = path.read_bytes(), path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress(data))
    small = file(tmp_path, "small.jsonl", ['{"text": "a"}'])
    source = Source([str(path), str(path), str(small)])
    for _ in range(2):
        found = [source.fraction() for _ in source.rows()]
        assert len(found) == 2 * len(values) + 1
        assert found == sorted(found)
        assert 0 <= found[0] < 0.2
        assert abs(found[len(values)] - 0.5) < 0.1
        assert 0.65 < found[len(values) * 3 // 2] < 0.85
        assert source.fraction() == 1


def test_fraction_of_a_reading_that_stopped(tmp_path):
    path = file(tmp_path, "in.txt", LINES)
    source = Source([str(path)])
    assert source.fraction() == 0
    found = source.rows()
    for _ in range(50_021 // 2):
        next(found)
    before = source.fraction()
    found.close()
    assert source.fraction() == before
    assert 0.4 < before < 0.6


def test_every_kind_has_a_reader():
    assert set(rows.SUFFIXES.values()) | {"text"} == set(fields.KINDS)
