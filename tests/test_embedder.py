"""Embedder.encode from the outside: shapes, order, prompts, determinism, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbert import Embedder, JaxbertError
from jaxbert.errors import ComputationError, InputError, InputTypeError
from jaxbert.model import reference
from tests.models import CONFIGS, encoder, published, raw_config, write_folder
from tests.tolerances import COMPANY, ENCODER, FUNCTION, MINILM, VISIBLE, close, norms, off

TEXTS = st.lists(st.text(alphabet="abcdef AZé\x00", max_size=40), max_size=9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("jina"),
        "jinabert-geglu",
        sentence_bert_config={"max_seq_length": 29},
        config_sentence_transformers={"prompts": {"query": "a b "}},
    )


@pytest.fixture(scope="module")
def embedder(folder):
    return Embedder.from_pretrained(folder)


@pytest.fixture(scope="module")
def fixed(folder):
    return Embedder.from_pretrained(folder, deterministic=True)


def by_reference(embedder, text):
    """The mean-pooled vector of one text, in float64."""
    ids = embedder.tokenizer([text], embedder.max_seq_length)[0][None]
    model, config = encoder("jinabert-geglu"), CONFIGS["jinabert-geglu"]
    mask = np.ones_like(ids)
    states = reference.encode(published(model), raw_config(config), ids, mask)
    return reference.mean_pool(states[-1], mask)[0]


@settings(max_examples=30)
@given(texts=TEXTS)
def test_vectors_are_the_references_in_the_order_of_the_texts(embedder, texts):
    got = embedder.encode(texts, batch_size=4)
    assert got.shape == (len(texts), 15)
    assert got.dtype == np.float32
    for text, vector in zip(texts, got, strict=True):
        close(vector, by_reference(embedder, text), ENCODER)


def test_shapes(embedder):
    assert embedder.encode("a").shape == (15,)
    assert embedder.encode(["a"]).shape == (1, 15)
    assert embedder.encode([]).shape == (0, 15)
    assert embedder.encode(("a", "b")).shape == (2, 15)
    assert embedder.encode(np.array(["a", "b"])).shape == (2, 15)
    assert embedder.encode(text for text in "abc").shape == (3, 15)
    assert embedder.encode("").shape == (15,)


@settings(max_examples=25)
@given(texts=TEXTS, others=TEXTS, data=st.data())
def test_deterministic_means_the_same_bits_in_any_company(fixed, texts, others, data):
    alone = {text: fixed.encode(text).tobytes() for text in texts}
    company = data.draw(st.permutations(texts + others))
    size = data.draw(st.integers(1, 40))
    for text, vector in zip(company, fixed.encode(company, batch_size=size), strict=True):
        if text in alone:
            assert vector.tobytes() == alone[text]


@settings(max_examples=25)
@given(texts=TEXTS.filter(len), size=st.integers(1, 40))
def test_by_default_company_moves_a_vector_by_less_than_is_promised(embedder, texts, size):
    together = embedder.encode(texts, batch_size=size)
    for text, vector in zip(texts, together, strict=True):
        alone = embedder.encode(text)
        close(vector, alone, COMPANY, norms)


def test_real_weights_keep_the_promises_too(minilm):
    texts = ["river", "a stone in the river", "words " * 90, "", "words " * 20] * 3
    default = Embedder.from_pretrained(minilm)
    together, alone = default.encode(texts), np.stack([default.encode(text) for text in texts])
    close(together, alone, MINILM, norms)
    fixed = Embedder.from_pretrained(minilm, deterministic=True)
    together, alone = fixed.encode(texts), np.stack([fixed.encode(text) for text in texts])
    assert together.tobytes() == alone.tobytes()


def test_duplicates_get_the_same_vector(embedder):
    a, b, c = embedder.encode(["a b", "c", "a b"])
    np.testing.assert_array_equal(a, c)
    assert off(a, b) > VISIBLE
    (batch,) = embedder.planner.plan([4, 3, 4])
    assert batch.rows == 1, "texts that differ share a row, in which equal ones would not be equal"


def test_compilations_are_few_and_counted(folder):
    embedder = Embedder.from_pretrained(folder)
    assert embedder.compilations == 0
    for length in range(1, 27):
        embedder.encode("a " * length)
    assert embedder.compilations == 2  # 16 and 32 tokens, one row
    embedder.encode(["a " * length for length in range(1, 27)])
    assert embedder.compilations <= 6


def test_max_length_overrides_the_folder(embedder):
    text = "a b c d e f " * 9
    assert embedder.max_seq_length == 29
    folder = embedder.encode(text)
    np.testing.assert_array_equal(folder, embedder.encode(text, max_length=29))
    np.testing.assert_array_equal(folder, embedder.encode(text + "x y z"))
    shorter, longer = (embedder.encode(text, max_length=n) for n in (28, 30))
    assert off(shorter, folder) > VISIBLE
    assert off(longer, folder) > VISIBLE
    exact = embedder.encode("a b c d", max_length=6)
    close(embedder.encode("a b c d e f", max_length=6), exact, ENCODER)


def test_max_seq_length_can_be_set(folder):
    embedder = Embedder.from_pretrained(folder)
    cut = embedder.encode("a b c d e f", max_length=5)
    embedder.max_seq_length = 5
    np.testing.assert_array_equal(embedder.encode("a b c d e f"), cut)


def test_learned_positions_refuse_beyond_their_table(tmp_path):
    embedder = Embedder.from_pretrained(write_folder(tmp_path))
    assert embedder.encode("a " * 50).shape == (15,)  # cut at 19
    assert embedder.encode("a b", max_length=20).shape == (15,)  # no text is as long as that
    with pytest.raises(InputError, match="learned positions for 19"):
        embedder.encode(["a", "a " * 50], max_length=20)


def test_a_table_that_ends_between_two_rungs_is_used_to_its_end(tmp_path):
    embedder = Embedder.from_pretrained(write_folder(tmp_path))  # 19 lies between 16 and 32
    assert np.isfinite(embedder.encode("a " * 50)).all()


def test_normalize_embeddings_and_truncate_dim(embedder):
    raw = embedder.encode(["a", "b c"])
    unit = embedder.encode(["a", "b c"], normalize_embeddings=True)
    close(np.linalg.norm(unit, axis=1), 1.0, FUNCTION)
    close(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), FUNCTION)
    np.testing.assert_array_equal(embedder.encode(["a", "b c"], truncate_dim=7), raw[:, :7])
    both = embedder.encode(["a", "b c"], truncate_dim=7, normalize_embeddings=True)
    close(np.linalg.norm(both, axis=1), 1.0, FUNCTION)


def test_prompts(embedder):
    with_prompt = embedder.encode("a b c d")
    np.testing.assert_array_equal(embedder.encode("c d", prompt="a b "), with_prompt)
    np.testing.assert_array_equal(embedder.encode("c d", prompt_name="query"), with_prompt)
    np.testing.assert_array_equal(
        embedder.encode("c d", prompt_name="document"), embedder.encode("c d")
    )
    with pytest.raises(InputError, match="no prompt named 'code'; it has: 'query', 'document'"):
        embedder.encode("c d", prompt_name="code")


def test_a_prompt_may_be_left_out_of_pooling(tmp_path):
    folder = write_folder(
        tmp_path,
        "jinabert-geglu",
        modules=[
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1", "type": "sentence_transformers.models.Pooling"},
        ],
        **{"1__config": {"pooling_mode": "mean", "include_prompt": False}},
        config_sentence_transformers={"prompts": {"p": "a b "}, "default_prompt_name": "p"},
    )
    embedder = Embedder.from_pretrained(folder)
    ids = embedder.tokenizer(["a b c d"])[0][None]
    states = np.asarray(embedder.encoder(ids))[0]
    expected = states[3:].mean(axis=0)  # without [CLS] a b
    close(embedder.encode("c d"), expected, ENCODER)
    full = embedder.encode("c d", prompt="a b c d e f g", max_length=5)  # only [SEP] is left
    ids = embedder.tokenizer(["a b c"])[0][None]
    close(full, np.asarray(embedder.encoder(ids))[0, 4], ENCODER)


def test_similarity(embedder, folder):
    a, b = np.array([[3.0, 4.0]]), np.array([[4.0, 3.0], [0.0, 0.0]])
    close(embedder.similarity(a, b), [[0.96, 0.0]], FUNCTION, 1.0)
    expected = {"dot": 24.0, "euclidean": -np.sqrt(2.0), "manhattan": -2.0}
    for name, value in expected.items():
        config = {"similarity_fn_name": name}
        other = write_folder(folder.parent / name, config_sentence_transformers=config)
        got = Embedder.from_pretrained(other).similarity(a[0], b[0])
        close(got, [[value]], FUNCTION)
    with pytest.raises(InputError, match="width 2 and 3"):
        embedder.similarity(np.ones((1, 2)), np.ones((1, 3)))


def test_a_progress_bar_is_shown_when_asked_for(embedder, capsys):
    embedder.encode(["a", "b"])
    assert capsys.readouterr().err == ""
    embedder.encode(["a", "b"], show_progress_bar=True)
    assert "2/2" in capsys.readouterr().err


REFUSED = {
    "a number": (lambda e: e.encode(3), InputTypeError, "inputs is a int"),
    "bytes": (lambda e: e.encode(b"a"), InputTypeError, "inputs is a bytes"),
    "a dict": (lambda e: e.encode({"a": 1}), InputTypeError, "inputs is a dict"),
    "None in the list": (lambda e: e.encode(["a", None]), InputTypeError, "text 1 is a NoneType"),
    "surrogate": (lambda e: e.encode(["a", "\udfff"]), InputError, "text 1 has a lone surrogate"),
    "batch_size": (lambda e: e.encode("a", batch_size=0), InputError, "batch_size is 0"),
    "max_length": (lambda e: e.encode("a", max_length=1), InputError, "max_length 1"),
    "truncate_dim": (lambda e: e.encode("a", truncate_dim=16), InputError, "truncate_dim is 16"),
    "batch_size 2.5": (lambda e: e.encode("a", batch_size=2.5), InputTypeError, "batch_size is a"),
    "batch_size text": (lambda e: e.encode("a", batch_size="3"), InputTypeError, "batch_size is a"),
    "max_length 5.5": (lambda e: e.encode("a", max_length=5.5), InputTypeError, "max_length is a"),
    "max_length huge": (lambda e: e.encode("a", max_length=10**30), InputError, "max_length is 1"),
    "truncate_dim text": (lambda e: e.encode("a", truncate_dim="2"), InputTypeError, "truncate_d"),
    "prompt": (lambda e: e.encode("a", prompt=3), InputTypeError, "prompt is a int"),
    "None behind a prompt": (lambda e: e.encode([None], prompt="a"), InputTypeError, "text 0 is a"),
    "prompt_name": (lambda e: e.encode("a", prompt_name=["x"]), InputTypeError, "prompt_name is a"),
    "a set": (lambda e: e.encode({"a", "b"}), InputTypeError, "inputs is a set"),
    "no axes": (lambda e: e.encode(np.array("a")), InputTypeError, "array without axes"),
    "keyword": (lambda e: e.encode("a", precison="int8"), TypeError, "precison"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case, embedder):
    call, kind, sentence = REFUSED[case]
    with pytest.raises(kind, match=sentence):
        call(embedder)


def test_any_whole_number_will_do(embedder):
    options = {"batch_size": np.int64(4), "max_length": np.int32(9), "truncate_dim": np.uint8(3)}
    assert embedder.encode(["a"], **options).shape == (1, 3)


def test_parts_that_are_compiled_in_cannot_be_exchanged(embedder):
    for name in ("encoder", "stack"):
        with pytest.raises(AttributeError):
            setattr(embedder, name, None)


def test_a_vector_that_is_not_finite_is_an_error(tmp_path):
    tensors = published(encoder("bert-gelu"))
    huge = tensors["encoder.layer.1.output.LayerNorm.weight"] * 0 + 1e6
    tensors["encoder.layer.1.output.LayerNorm.weight"] = huge
    folder = write_folder(tmp_path, tensors=tensors)
    embedder = Embedder.from_pretrained(folder)
    assert np.isfinite(embedder.encode("a")).all()  # large, and still a number
    scale = embedder.encoder.layers.output_norm.scale
    scale[...] = scale[...] * 1e38
    with pytest.raises(ComputationError, match="the vector of text 1 is not finite"):
        Embedder(embedder.encoder, OneWrong(embedder.tokenizer), embedder.stack).encode(["a", "b"])


class OneWrong:
    """A tokenizer whose second text alone has tokens."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, texts, *more):
        first, *others = self.inner(texts, *more)
        return [first[:0], *others]


def test_ids_beyond_the_vocabulary(folder, tmp_path):
    config = CONFIGS["bert-gelu"]
    raw = raw_config(config) | {"vocab_size": 9}
    tensors = published(encoder("bert-gelu"))
    tensors["embeddings.word_embeddings.weight"] = tensors["embeddings.word_embeddings.weight"][:9]
    folder = write_folder(tmp_path, config=raw, tensors=tensors)
    embedder = Embedder.from_pretrained(folder, ignore_config=("vocab",))
    assert embedder.encode("a b c d").shape == (15,)
    with pytest.raises(JaxbertError, match=r"text 1 has the token id 30, but the model has 9 "):
        embedder.encode(["a", "z"])


def test_huge_and_odd_texts(embedder):
    texts = ["a " * 50_000, "a" * 100_000, "\x00", "\x00a\x00", "\u200b", "é" * 1000, "\n\t "]
    vectors = embedder.encode(texts)
    assert np.isfinite(vectors).all()
    close(vectors[2], embedder.encode("\x00"), ENCODER)
