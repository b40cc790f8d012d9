"""Vectors become files: exact, the same bytes however they came to be, never more than a part."""

import datetime
import decimal
import gc
import io
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from jaxbert.corpus import formats, parquet
from jaxbert.corpus.columns import as_json
from jaxbert.corpus.formats import Columns, format_of
from jaxbert.errors import InputError

DTYPES = ("float32", "float16", "int8", "uint8")
SUFFIXES = (".npy", ".jsonl", ".parquet")
WIDTH = 7
LENGTHS = (5, 0, 3, 11)  # rows of each part; one has none


def need(suffix):
    """Skip where the optional library is missing."""
    return pytest.importorskip("pyarrow.parquet") if suffix == ".parquet" else None


def vectors_of(rows, dtype="float32", seed=0):
    """Numbers of all sizes, zeros of both signs and the limits among them."""
    rng = np.random.default_rng(seed)
    if dtype in ("int8", "uint8"):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max + 1, (rows, WIDTH), dtype)
    size = 10.0 ** rng.integers(-4 if dtype == "float16" else -30, 4, (rows, WIDTH))
    found = (rng.standard_normal((rows, WIDTH)) * size).astype(dtype)
    found[:1, :4] = [0.0, -0.0, np.finfo(dtype).max, np.finfo(dtype).tiny]
    return found


def metadata_of(dtype="float32", **more):
    return {"model": "é/model", "vectors": {"dtype": dtype, "width": WIDTH}, **more}


def ids_of(kind, start, rows):
    """Ids of a kind, the row numbers of a run with and without a rejected row among them."""
    numbers = range(start, start + rows)
    return {
        "row": list(numbers),
        "gap": [number + 1 for number in numbers],
        "int": [(-1) ** number * 2**63 // (number + 1) - (number == 0) for number in numbers]
        if kind == "int"
        else [],
        "str": [f'ü "{number}"\n' for number in numbers],
    }[kind]


def part_of(i, kind="row", dtype="float32", carried=None):
    """Part i of the run; carried(number) makes the carried values of a row."""
    start, rows = sum(LENGTHS[:i]), LENGTHS[i]
    each = [carried(start + j) if carried else {} for j in range(rows)]
    names = list(carried(0)) if carried else []
    return Columns(
        ids_of(kind, start, rows),
        [f"text {start + j} \u2028 é" for j in range(rows)],
        {name: [row[name] for row in each] for name in names},
        vectors_of(rows, dtype, seed=i),
    )


def made(folder, suffix, parts, metadata, order=None):
    """The output of these parts, written in some order."""
    own = format_of(folder / f"out{suffix}")
    files = [folder / f"part-{i}{suffix}" for i in range(len(parts))]
    for i in order or range(len(parts)):
        own.write(files[i], parts[i], metadata)
    own.assemble(files, folder / f"out{suffix}", metadata)
    for file in files:
        file.unlink()
    return folder / f"out{suffix}"


def lines_of(file):
    """The values of a file with one value of JSON a line."""
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def read(file):
    """(ids or None, vectors) of an output, by other people's readers."""
    if file.suffix == ".npy":
        beside = file.with_name(file.name + ".ids.jsonl")
        ids = lines_of(beside) if beside.exists() else None
        return ids, np.load(file, mmap_mode="r")
    if file.suffix == ".jsonl":
        rows = lines_of(file)
        return [row["id"] for row in rows], [row["embedding"] for row in rows]
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    column = table["embedding"].combine_chunks()
    numbers = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, WIDTH)
    return table["id"].to_pylist(), numbers


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["row", "gap", "int", "str"])
def test_what_was_written_is_read(tmp_path, suffix, dtype, kind):
    need(suffix)
    metadata = metadata_of(dtype, id_type="string" if kind == "str" else "int64")
    parts = [part_of(i, kind, dtype) for i in range(len(LENGTHS))]
    ids, vectors = read(made(tmp_path, suffix, parts, metadata))
    expected = np.concatenate([part.vectors for part in parts])
    if suffix != ".jsonl":
        assert vectors.dtype == expected.dtype
        assert vectors.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(np.array(vectors, dtype), expected)
    if suffix == ".npy" and kind == "row":
        assert ids is None
    else:
        assert ids == [own for part in parts for own in part.ids]
        assert {type(own) for own in ids} == {str if kind == "str" else int}


def test_metadata_are_in_the_schema_of_parquet(tmp_path):
    suffix = ".parquet"
    need(suffix)
    metadata = metadata_of(revision=None, versions={"jax": "0.10"}, with_text=False)
    file = made(tmp_path, suffix, [part_of(0)], metadata)
    import pyarrow.parquet as pq

    assert json.loads(pq.read_schema(file).metadata[b"jaxbert"]) == metadata


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_rows_and_no_parts(tmp_path, suffix, lengths):
    need(suffix)
    empty = Columns([], [], {}, vectors_of(0, "int8"))
    file = made(tmp_path, suffix, [empty] * len(lengths), metadata_of("int8"))
    ids, vectors = read(file)
    assert not ids
    assert len(vectors) == 0
    if suffix == ".npy":
        assert vectors.shape == (0, WIDTH)
        assert vectors.dtype == np.int8
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        assert pq.read_schema(file).field("embedding").type.list_size == WIDTH


# --- the bytes ---------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from tests.corpus.test_formats import LENGTHS, made, metadata_of, part_of
suffix, order = sys.argv[1], [int(i) for i in sys.argv[2]]
extra = {"b": [1, {"z": 1, "a": 2}], "a": "é"}
carried = None if suffix == ".npy" else lambda i: {"z": i, "c": ["x"] * (i % 3)}
types = [] if carried is None else [{"name": "z", "type": "int64"}, {"name": "c", "type": "text"}]
metadata = metadata_of(carried=types, with_text=carried is not None, **dict.fromkeys(extra, extra))
metadata["id_type"] = "string"
if order[0]:
    metadata = {key: metadata[key] for key in reversed(metadata)}
parts = [part_of(i, "str", carried=carried) for i in range(len(LENGTHS))]
folder = Path(sys.argv[3])
folder.mkdir()
made(folder, suffix, parts, metadata, order)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_depend_on_the_content_alone(tmp_path, suffix):
    need(suffix)
    root = Path(__file__).parents[2]
    outputs = []
    for seed, order, name in (("0", "0123", "first-place"), ("1234", "3120", "other/deeper")):
        folder = tmp_path / name
        folder.parent.mkdir(exist_ok=True)
        environment = os.environ | {"PYTHONPATH": str(root), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", PROGRAM, suffix, order, str(folder)]
        subprocess.run(command, check=True, env=environment, cwd=folder.parent, timeout=120)
        outputs.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert outputs[0] == outputs[1]
    beside = {".npy": {".ids.jsonl"}, ".jsonl": set(), ".parquet": set()}[suffix]
    assert set(outputs[0]) == {f"out{suffix}"} | {f"out{suffix}{ending}" for ending in beside}
    for name, held in outputs[0].items():
        for part in (tmp_path.name, "first-place", "deeper", "part-"):
            assert part.encode() not in held, (name, part)


def test_npy_is_what_numpy_writes(tmp_path):
    parts = [part_of(i) for i in range(len(LENGTHS))]
    file = made(tmp_path, ".npy", parts, metadata_of())
    expected = io.BytesIO()
    np.save(expected, np.concatenate([part.vectors for part in parts]))
    assert file.read_bytes() == expected.getvalue()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("step", [1, 2])
def test_vectors_of_any_strides_are_written(tmp_path, suffix, step):
    need(suffix)
    vectors = np.asfortranarray(vectors_of(5).repeat(step, axis=1))[:, ::step]
    columns = Columns(list(range(5)), ["a"] * 5, {}, vectors)
    _, found = read(made(tmp_path, suffix, [columns], metadata_of()))
    np.testing.assert_array_equal(np.array(found, np.float32), vectors)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_digits_of_jsonl_name_the_number(tmp_path, dtype):
    """Every bit pattern of float16; float32s of all sizes, and their neighbours."""
    if dtype == "float16":
        numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    else:
        rng = np.random.default_rng(0)
        numbers = rng.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    rows = numbers[: len(numbers) // WIDTH * WIDTH].reshape(-1, WIDTH)
    columns = Columns(list(range(len(rows))), [""] * len(rows), {}, rows)
    file = made(tmp_path, ".jsonl", [columns], metadata_of(dtype))
    for line, row in zip(file.read_bytes().splitlines(), rows, strict=True):
        texts = json.loads(line, parse_float=str, parse_int=str)["embedding"]
        assert [np.dtype(dtype).type(text) for text in texts] == row.tolist()


def test_jsonl_has_its_columns_in_order(tmp_path):
    parts = [part_of(0, "str", carried=lambda i: {"z": i, "a": [None, {"k": "é"}]})]
    types = [{"name": "z", "type": "text"}, {"name": "a", "type": "text"}]
    file = made(tmp_path, ".jsonl", parts, metadata_of(carried=types, with_text=True))
    rows = lines_of(file)
    assert [list(row) for row in rows] == [["id", "text", "z", "a", "embedding"]] * 5
    assert [row["text"] for row in rows] == parts[0].texts
    assert rows[3]["a"] == [None, {"k": "é"}]
    assert "é" in file.read_text("utf-8")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime.date(2024, 2, 29), '"2024-02-29"'),
        ([datetime.datetime(2024, 2, 29, 1, tzinfo=datetime.UTC)], '["2024-02-29T01:00:00+00:00"]'),
        (decimal.Decimal("1.50"), '"1.50"'),
        ({"a": (float("nan"), 1.5)}, '{"a": [null, 1.5]}'),
        ("a\ud800é", '"a\\ud800\\u00e9"'),
        ("é", '"é"'),
    ],
)
def test_values_that_json_lacks(value, text):
    assert as_json(value, "it") == text


@pytest.mark.parametrize("value", [b"a", float("inf"), [-float("inf")], {1, 2}])
def test_values_that_cannot_be_json_are_refused(value):
    with pytest.raises(InputError, match=r"the column 'x' cannot be JSON .*; leave it out"):
        as_json(value, "the column 'x'")


# --- Parquet -----------------------------------------------------------------------------------


def test_parquet_columns_have_the_types_of_the_run(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), need(".parquet")
    types = {
        "when": "timestamp[us]",
        "score": "double",
        "tags": "list<item: string>",
        "any": "text",
    }

    def carried(i):
        day = datetime.datetime(2024, 1, 1 + i)
        return {
            "when": day if i else None,
            "score": None if i < 5 else i / 7,  # a whole part of nothing
            "tags": ["a", "é"] if i % 2 else None,
            "any": [1, "plain", None, 2.5, {"b": 1}][i % 5],
        }

    metadata = metadata_of(
        "float16",
        id_type="string",
        with_text=True,
        carried=[{"name": name, "type": kind} for name, kind in types.items()],
    )
    parts = [part_of(i, "str", "float16", carried) for i in range(len(LENGTHS))]
    table = pq.read_table(made(tmp_path, ".parquet", parts, metadata))
    found = {field.name: (str(field.type), field.nullable) for field in table.schema}
    assert found == {
        "id": ("string", False),
        "text": ("string", False),
        "when": ("timestamp[us]", True),
        "score": ("double", True),
        "tags": ("string", True),
        "any": ("string", True),
        "embedding": (f"fixed_size_list<element: halffloat not null>[{WIDTH}]", False),
    }
    rows = [carried(i) for i in range(sum(LENGTHS))]
    assert table["when"].to_pylist() == [row["when"] for row in rows]
    assert table["score"].to_pylist() == [row["score"] for row in rows]
    assert table["tags"][:2].to_pylist() == [None, '["a", "é"]']
    assert table["any"][:5].to_pylist() == ["1", "plain", None, "2.5", '{"b": 1}']
    assert table["text"].to_pylist() == [text for part in parts for text in part.texts]
    assert pa.types.is_float16(table.schema.field("embedding").type.value_type)


def test_a_part_is_a_row_group_without_statistics_of_vectors(tmp_path):
    pq = need(".parquet")
    parts = [part_of(i) for i in range(len(LENGTHS))]
    found = pq.ParquetFile(made(tmp_path, ".parquet", parts, metadata_of())).metadata
    groups = [found.row_group(i) for i in range(found.num_row_groups)]
    assert [group.num_rows for group in groups] == [rows for rows in LENGTHS if rows]
    for group in groups:
        ids, embedding = group.column(0), group.column(1)
        assert ids.is_stats_set
        assert not embedding.is_stats_set
        assert embedding.compression == "ZSTD"
        assert "PLAIN_DICTIONARY" not in embedding.encodings
        assert "RLE_DICTIONARY" not in embedding.encodings


def test_bytes_take_about_a_byte_in_parquet(tmp_path):
    """Parquet has no type of one byte: without a dictionary each number would take four."""
    pq = need(".parquet")
    rows = 1009
    columns = Columns(list(range(rows)), [""] * rows, {}, vectors_of(rows, "int8"))
    found = pq.ParquetFile(made(tmp_path, ".parquet", [columns], metadata_of("int8"))).metadata
    assert found.row_group(0).column(1).total_uncompressed_size < 2 * rows * WIDTH


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_are_not_copied_on_their_way_to_arrow(dtype):
    need(".parquet")
    vectors = vectors_of(5, dtype)
    kind = parquet.schema(parquet.Layout.of(metadata_of(dtype))).field("embedding").type
    array = parquet.embedding(vectors, kind)
    assert len(array) == 5
    assert np.shares_memory(array.values.to_numpy(), vectors)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_get_their_type_when_the_parts_are_put_together(tmp_path, suffix):
    need(suffix)
    groups = [[7, -(2**63)], [3, "a"], ['"b",\n', "2"]]
    parts = [Columns(ids, ["", ""], {}, vectors_of(2)) for ids in groups]
    out = made(tmp_path, suffix, parts, metadata_of(id_type="string"))
    expected = [str(own) for ids in groups for own in ids]
    assert read_ids(out) == expected
    (tmp_path / "numbers").mkdir()
    out = made(tmp_path / "numbers", suffix, parts[:1], metadata_of(id_type="int64"))
    assert read_ids(out) == groups[0]


def read_ids(out):
    """The ids in an output of any format."""
    if out.suffix == ".parquet":
        return need(".parquet").read_table(out)["id"].to_pylist()
    if out.suffix == ".npy":
        lines = out.with_name(f"{out.name}.ids.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]
    return [json.loads(line)["id"] for line in out.read_text().splitlines()]


def test_an_id_beyond_64_bits_is_refused(tmp_path):
    need(".parquet")
    columns = Columns([1, 2**63], ["", ""], {}, vectors_of(2))
    with pytest.raises(InputError, match=r"write \.jsonl"):
        format_of(tmp_path / "out.parquet").write(tmp_path / "part", columns, metadata_of())


def test_a_value_of_another_type_than_its_column_is_refused(tmp_path):
    need(".parquet")
    columns = Columns([1], [""], {"score": ["much"]}, vectors_of(1))
    metadata = metadata_of(carried=[{"name": "score", "type": "double"}])
    with pytest.raises(InputError, match="the column 'score' holds a value that is no double"):
        format_of(tmp_path / "out.parquet").write(tmp_path / "part", columns, metadata)


def test_without_pyarrow_parquet_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"jaxbert\[parquet\]"):
        format_of(tmp_path / "out.parquet")
    assert format_of(tmp_path / "out.npy").suffix == ".npy"


# --- memory ------------------------------------------------------------------------------------


class Counting(io.BytesIO):
    """Remembers the largest read and write."""

    largest = 0
    name = "counted"

    def read(self, size=-1):
        found = super().read(size)
        self.largest = max(self.largest, len(found))
        return found

    def write(self, data):
        self.largest = max(self.largest, len(data))
        return super().write(data)


def test_copies_are_made_in_pieces(monkeypatch):
    monkeypatch.setattr(formats, "CHUNK", 13)
    source, target = Counting(bytes(range(100))), Counting()
    formats.copy(source, target, 71)
    assert target.getvalue() == bytes(range(71))
    assert (source.largest, target.largest) == (13, 13)
    with pytest.raises(InputError, match="counted ends early"):
        formats.copy(source, target, 71)


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_vectors_are_assembled_by_copying_in_pieces(tmp_path, monkeypatch, suffix):
    """Nothing but `copy` moves rows: without it no part is in the output."""
    moved = []
    monkeypatch.setattr(formats, "copy", lambda source, target, size: moved.append(size))
    parts = [part_of(i) for i in range(len(LENGTHS))]
    file = made(tmp_path, suffix, parts, metadata_of())
    assert len(moved) == len(LENGTHS)
    assert file.stat().st_size == (128 if suffix == ".npy" else 0)


def test_parquet_is_assembled_with_one_part_in_memory(tmp_path, monkeypatch):
    need(".parquet")
    seen, most = [], []
    read_part = parquet.read_part

    def counted(part):
        gc.collect()
        most.append(sum(one() is not None for one in seen))
        rows = read_part(part)
        seen.append(weakref.ref(rows))
        return rows

    monkeypatch.setattr(parquet, "read_part", counted)
    made(tmp_path, ".parquet", [part_of(i) for i in range(len(LENGTHS))], metadata_of())
    assert most == [0] * len(LENGTHS)


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["out.txt", "out", "-", "out.npy.gz", "nowhere/out.npy", "dir.npy"]
)
def test_outputs_that_cannot_be_written_are_refused_before_any_work(tmp_path, name):
    (tmp_path / "dir.npy").mkdir()
    with pytest.raises(InputError, match=r"choose one|make it first|name a file"):
        format_of(tmp_path / name)


def test_npy_has_no_place_for_columns(tmp_path):
    own = format_of(tmp_path / "out.npy")
    own.check((), with_text=False)
    with pytest.raises(InputError, match="vectors alone, so text, title has no place"):
        own.check(("title",), with_text=True)
    with pytest.raises(InputError, match="vectors alone"):
        own.write(tmp_path / "part", part_of(0), metadata_of(with_text=True))
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_two_columns_of_one_name_are_refused(tmp_path, suffix):
    need(suffix)
    own = format_of(tmp_path / f"out{suffix}")
    own.check(("text", "title"), with_text=False)
    for carry, with_text in ((("id",), False), (("a", "a"), False), (("text",), True)):
        with pytest.raises(InputError, match=f"two columns '{carry[0]}'"):
            own.check(carry, with_text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ids": [1]}, "column 'id' has 1 rows beside 3"),
        ({"texts": ["a"] * 4}, "column 'text' has 4 rows beside 3"),
        ({"carried": {"title": []}}, "column 'title' has 0 rows beside 3"),
        ({"vectors": np.zeros((3, 2))}, "vectors are float64"),
        ({"vectors": np.zeros(3, np.float32)}, r"vectors are float32 \[3\]"),
        ({"vectors": np.full((3, 2), np.nan, np.float32)}, "NaN"),
        ({"vectors": np.full((3, 2), np.inf, np.float16)}, "too large for float16"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, reason):
    good = {"ids": [1, 2, 3], "texts": ["a"] * 3, "carried": {}, "vectors": vectors_of(3)}
    Columns(**good)
    with pytest.raises(InputError, match=reason):
        Columns(**(good | change))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("vectors", [{"width": 5}, {"dtype": "float16"}, {"dtype": "bfloat16"}])
def test_a_part_of_another_run_is_refused(tmp_path, suffix, vectors):
    need(suffix)
    metadata = metadata_of()
    metadata["vectors"] |= vectors
    own = format_of(tmp_path / f"out{suffix}")
    with pytest.raises(InputError, match=r"same settings|cannot be written"):
        own.write(tmp_path / "part", part_of(0), metadata)


def test_a_part_of_another_width_is_not_assembled(tmp_path):
    own = format_of(tmp_path / "out.npy")
    own.write(tmp_path / "part", part_of(0), metadata_of())
    other = metadata_of()
    other["vectors"]["width"] = 5
    with pytest.raises(InputError, match=r"and the run float32 \[n, 5\]"):
        own.assemble([tmp_path / "part"], tmp_path / "out.npy", other)
    assert not (tmp_path / "out.npy").exists()


def test_old_ids_do_not_outlive_their_output(tmp_path):
    made(tmp_path, ".npy", [part_of(0, "str")], metadata_of())
    assert (tmp_path / "out.npy.ids.jsonl").exists()
    made(tmp_path, ".npy", [part_of(0, "row")], metadata_of())
    assert not (tmp_path / "out.npy.ids.jsonl").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_that_cannot_be_finished_leaves_the_old_one(tmp_path, suffix):
    need(suffix)
    file = made(tmp_path, suffix, [part_of(0, "str")], metadata_of(id_type="string"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    part = tmp_path / f"part{suffix}"
    own = format_of(file)
    own.write(part, part_of(3), metadata_of(model="another"))
    if suffix == ".jsonl":  # any number of lines is a part
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-200])
    with pytest.raises((OSError, ValueError)):
        own.assemble([part], file, metadata_of(model="another"))
    part.unlink(missing_ok=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


FULL = """
import resource, sys
from pathlib import Path
from jaxbert.errors import JaxbertError
from tests.corpus.test_formats import *
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
folder, suffix = Path(sys.argv[1]), sys.argv[2]
own = format_of(folder / f"out{suffix}")
parts = []
for i in range(2):
    parts.append(folder / f"part-{i}{suffix}")
    columns = Columns(list(range(400)), [""] * 400, {}, vectors_of(400, seed=i + 1))
    if suffix == ".jsonl":
        columns = Columns([1] * 120, [""] * 120, {}, vectors_of(120, seed=i + 1))
    own.write(parts[-1], columns, metadata_of())
try:
    own.assemble(parts, folder / f"out{suffix}", metadata_of())
except JaxbertError as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_that_may_not_grow_is_one_sentence(tmp_path, suffix):
    """Whose parts were small enough; with a mapped file it would be a signal."""
    need(suffix)
    command = [sys.executable, "-c", FULL, str(tmp_path), suffix]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, env=environment, text=True, timeout=120)
    assert done.stdout == (
        f"{tmp_path}/out{suffix} could not be written (File too large); nothing is lost, so mend "
        "that and run the same command again\n"
    ), done.stderr
    assert sorted(os.listdir(tmp_path)) == [f"part-0{suffix}", f"part-1{suffix}"]
