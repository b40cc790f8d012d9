"""Rows of token ids: what is cut where, what a batch holds, and what is refused in which words."""

import gzip
import json

import numpy as np
import pytest
from tokenizers import models, pre_tokenizers

from jaxbert import Embedder
from jaxbert.corpus.fields import Reading
from jaxbert.errors import InputError
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.train.data import FEWEST, Pairs, pairs, taught, windows
from jaxbert.train.ragged import Ragged
from jaxbert.train.teacher import teacher_vectors
from jaxbert.train.texts import OnBadRow, PairFields, Texts, plain, read_pairs, read_texts
from tests.models import word_tokenizer, write_folder

CLS, SEP = 2, 3


def letters():
    """A tokenizer whose words are of several letters, a token each."""
    backend = word_tokenizer()
    vocabulary = backend.get_vocab()
    more = {f"##{chr(97 + i)}": len(vocabulary) + i for i in range(26)}
    backend.model = models.WordPiece(vocabulary | more, unk_token="[UNK]")
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Tokenizer(backend, "right")


def texts_of(path, **reading):
    found = read_texts([str(path)], Reading(**reading), OnBadRow())
    return [own.text for own in found]


# --- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [5, 7, 11])
def test_windows_hold_every_token_once_in_order(length):
    texts = ["abc de fghi", "a b c", "abcdefghijklmnopqrstuvw xyz" * 2]
    tokenizer = letters()
    found = windows(plain(texts), tokenizer, length)
    inner = [found.ids[i][1:-1] for i in range(len(found.ids))]
    left = iter(inner)
    for ids in tokenizer(texts):
        own, wanted = [], ids[1:-1]
        while len(own) < len(wanted) - FEWEST + 1:
            own.extend(next(left))
        np.testing.assert_array_equal(own, wanted[: len(own)])
        assert len(wanted) - len(own) < FEWEST
    assert next(left, None) is None
    assert found.lengths.max() == length
    for i in range(len(found.ids)):
        assert (found.ids[i][0], found.ids[i][-1]) == (CLS, SEP)


def test_words_are_numbered_from_zero_in_each_window():
    found = windows(plain(["abc de fghi j"]), letters(), 8)
    assert [found.words[i].tolist() for i in range(2)] == [
        [-1, 0, 0, 0, 1, 1, 2, -1],
        [-1, 0, 0, 0, 1, -1],
    ]
    batch = found.batch(np.array([1, 0]), 8)
    assert batch["words"].tolist()[0] == [-1, 0, 0, 0, 1, -1, -1, -1]
    assert batch["segments"].tolist()[0] == [1, 1, 1, 1, 1, 1, 0, 0]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}
    assert found.tokens(np.array([1, 0])) == 14


def test_texts_too_short_to_mask_are_bad_rows():
    texts = list(plain(["a b c", "ab", "d e f"]))
    with pytest.raises(InputError, match=r"^text 1 has 2 tokens, and masking needs 3; correct it"):
        windows(texts, letters(), 9)
    told = []
    found = windows(texts, letters(), 9, OnBadRow(skip=True, tell=told.append))
    assert len(found.ids) == 2
    assert told == ["text 1 has 2 tokens, and masking needs 3"]


def test_a_length_without_room_is_refused():
    with pytest.raises(InputError, match="room for 2 tokens beside 2 special ones"):
        windows(plain(["a b c"]), letters(), 4)


def test_the_sum_tells_texts_apart():
    def sum_of(*texts):
        return windows(plain(texts), letters(), 9).sha256

    assert sum_of("a b c", "d e f") == sum_of("a b c", "d e f")
    assert (
        len({sum_of(*own) for own in (("a b c d e f",), ("a b c", "d e f"), ("abc", "def"))}) == 3
    )


# --- files ---------------------------------------------------------------------------------------


def test_texts_come_from_every_format(tmp_path):
    texts = ["a b", "c, d", "é"]
    (tmp_path / "in.txt").write_text("a b\n\nc, d\n  \né\n", "utf-8")
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"body": text}) + "\n" for text in texts)
    (tmp_path / "in.csv").write_text('body,n\na b,1\n"c, d",2\né,3\n', "utf-8")
    assert texts_of(tmp_path / "in.txt") == texts
    assert texts_of(tmp_path / "in.jsonl.gz", text_field="body") == texts
    assert texts_of(tmp_path / "in.csv", text_field="body") == texts


def test_a_bad_row_is_named(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": 3}\n{"text": "b"}\n')
    with pytest.raises(InputError, match=r"in.jsonl, row 2 holds int in 'text', not text; correct"):
        texts_of(tmp_path / "in.jsonl")
    bad = OnBadRow(skip=True)
    found = list(read_texts([str(tmp_path / "in.jsonl")], Reading(), bad))
    assert [own.text for own in found] == ["a", "b"]
    assert bad.skipped == 1


def test_evaluation_texts_are_left_out(tmp_path):
    (tmp_path / "in.txt").write_text("a\nb\nc\n")
    found = read_texts([str(tmp_path / "in.txt")], Reading(), OnBadRow(), frozenset({"b"}))
    assert [own.text for own in found] == ["a", "c"]
    (tmp_path / "in.csv").write_text("anchor,positive\na,x\nb,y\nc,z\n")
    rows = read_pairs(
        [str(tmp_path / "in.csv")], None, PairFields(), OnBadRow(), frozenset({"b", "z"})
    )
    assert [own.text for own in rows] == ["a"]


# --- pairs ---------------------------------------------------------------------------------------


def rows_of(folder, rows, names=None, **more):
    file = folder / "in.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_pairs([str(file)], None, names or PairFields(), OnBadRow(**more)))


def test_pairs_with_and_without_negatives(tmp_path):
    row = {"anchor": "a", "positive": "b"}
    (one,) = rows_of(tmp_path, [row])
    assert one == Texts("in.jsonl, row 1", "a", ("b",))
    (one,) = rows_of(tmp_path, [row | {"negative": "c"}])
    assert one.others == ("b", "c")
    (one,) = rows_of(tmp_path, [row | {"negative": ["c", "d"]}])
    assert one.others == ("b", "c", "d")
    names = PairFields(positive="negative", negative=None, score="n")
    (one,) = rows_of(tmp_path, [row | {"negative": "c", "n": "2.5"}], names)
    assert (one.others, one.score) == (("c",), 2.5)


def test_tables_need_no_column_of_negatives(tmp_path):
    (tmp_path / "in.csv").write_text("anchor,positive\na,b\n")
    (one,) = read_pairs([str(tmp_path / "in.csv")], None, PairFields(), OnBadRow())
    assert one.others == ("b",)
    (tmp_path / "in.csv").write_text("anchor,positive,negative\na,b,c\n")
    (one,) = read_pairs([str(tmp_path / "in.csv")], None, PairFields(), OnBadRow())
    assert one.others == ("b", "c")


def test_parquet_may_hold_lists_of_negatives(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"anchor": ["a"], "positive": ["b"], "negative": [["c", "d"]]})
    pq.write_table(table, tmp_path / "in.parquet")
    (one,) = read_pairs([str(tmp_path / "in.parquet")], None, PairFields(), OnBadRow())
    assert one.others == ("b", "c", "d")


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"anchor": "a", "positive": " "}], "row 1 holds no text in 'positive'; correct it"),
        ([{"anchor": "a"}], "row 1 holds no text in 'positive'"),
        ([{"anchor": "a", "positive": "b", "negative": [3]}], "row 1 holds no text in 'negative'"),
        ([{"positive": "b"}], "row 1 has no field 'anchor'"),
        (
            [{"anchor": "a", "positive": "b"}, {"anchor": "a", "positive": "b", "negative": "c"}],
            "row 2 has 1 negatives, and the rows before it 0; give all rows the same number",
        ),
    ],
)
def test_pairs_of_no_use(tmp_path, rows, match):
    with pytest.raises(InputError, match=match):
        rows_of(tmp_path, rows)


def test_a_score_must_be_a_number(tmp_path):
    row = {"anchor": "a", "positive": "b", "n": "x"}
    with pytest.raises(InputError, match="row 1 holds no number in 'n'"):
        rows_of(tmp_path, [row], PairFields(score="n"))


def test_the_arrays_of_pairs():
    rows = [Texts("", "abc", ("de", "f", "gh"), 0.5), Texts("", "i", ("jklm", "n", "o"), 1.5)]
    found = pairs(rows, letters(), 5)
    assert found.lengths.tolist() == [5, 5]  # jklm is cut to jkl
    batch = found.batch(np.array([1, 0]), 7)
    shapes = {name: array.shape for name, array in batch.items()}
    text = {f"{kind}_{name}" for kind in ("anchor", "positive") for name in ("ids", "segments")}
    assert {name for name, shape in shapes.items() if shape == (2, 7)} == text
    assert shapes["negative_ids"] == shapes["negative_segments"] == (2, 2, 7)
    assert batch["scores"].tolist() == [1.5, 0.5]
    assert batch["anchor_segments"].sum(axis=1).tolist() == [3, 5]
    assert batch["negative_segments"].sum(axis=2).tolist() == [[3, 3], [3, 4]]
    assert found.tokens(np.array([0])) == 5 + 4 + 3 + 4
    assert len(pairs([], letters(), 5).lengths) == 0
    assert found.sha256 != Pairs(found.anchor, found.positive).sha256


# --- a teacher's vectors -------------------------------------------------------------------------


def test_a_teacher_is_asked_once(tmp_path):
    folder = write_folder(tmp_path / "model")
    asked = []

    def make():
        asked.append(1)
        return Embedder.from_pretrained(folder)

    texts = ["a b c d e", "f g"]
    (tmp_path / "run").mkdir()
    given = (texts, 5, tmp_path / "run", {"name": "model"})
    first = teacher_vectors(make, *given)
    expected = Embedder.from_pretrained(folder).encode(texts, max_length=5)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(teacher_vectors(make, *given), first)
    assert len(asked) == 1
    teacher_vectors(make, texts[::-1], *given[1:])
    teacher_vectors(make, *given)
    file = tmp_path / "run" / "teacher.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    np.testing.assert_array_equal(teacher_vectors(make, *given), first)
    assert len(asked) == 4
    batch = taught(texts, letters(), 5, first).batch(np.array([1]), 5)
    np.testing.assert_array_equal(batch["teacher"], first[1:])
    assert batch["ids"].tolist() == [[CLS, 10, 11, SEP, 0]]


def test_ragged_rows():
    rows = [np.arange(n, dtype=np.int32) for n in (3, 0, 2)]
    found = Ragged.of(rows)
    assert (len(found), found.lengths.tolist()) == (3, [3, 0, 2])
    assert found[2].tolist() == [0, 1]
    assert found.filled(np.array([2, 1]), 3, 7).tolist() == [[0, 1, 7], [7, 7, 7]]
    assert found.mask(np.array([2, 1]), 3).tolist() == [[True, True, False], [False] * 3]
