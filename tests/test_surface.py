"""What code written for sentence-transformers calls: every argument, output and attribute."""

import inspect
import warnings

import numpy as np
import pytest

from jaxbert import Embedder, Ranges
from jaxbert.errors import InputError, InputTypeError
from jaxbert.inference.outputs import LongTextWarning
from tests.models import write_folder
from tests.tolerances import COMPANY, FUNCTION, close, norms

TEXTS = ["a b c", "", "abc de fgh ijk lmn", "z " * 40, "C d", "É", "q"]
WIDTH = 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("jina"),
        "jinabert-geglu",
        sentence_bert_config={"max_seq_length": 29},
        config_sentence_transformers={
            "prompts": {"query": "a b ", "passage": "x ", "other": "y y "},
            "default_prompt_name": "other",
        },
    )


@pytest.fixture
def embedder(folder, shared):
    """Fresh settings around programs that are compiled once."""
    own = Embedder.from_pretrained(folder)
    own.engine = shared.engine
    return own


@pytest.fixture(scope="module")
def shared(folder):
    return Embedder.from_pretrained(folder)


def alike(a, b):
    """The same vectors, in whatever batches they were computed."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype
    close(a, b, COMPANY, norms)


# --- arguments ---------------------------------------------------------------------------------


def test_positional_arguments_are_in_sentence_transformers_order():
    names = list(inspect.signature(Embedder.encode).parameters)
    assert (
        names[1:15]
        == (
            "inputs prompt_name prompt batch_size show_progress_bar output_value precision "
            "convert_to_numpy convert_to_tensor device normalize_embeddings truncate_dim pool "
            "chunk_size"
        ).split()
    )


def test_query_and_document_take_their_own_prompts(embedder):
    alike(embedder.encode_query(TEXTS), embedder.encode(TEXTS, prompt="a b "))
    alike(embedder.encode_query(TEXTS, "passage"), embedder.encode(TEXTS, prompt="x "))
    alike(embedder.encode_document(TEXTS), embedder.encode(TEXTS, prompt="", prompt_name=None))
    embedder.prompts = {"passage": "x ", "other": "y y "}
    alike(embedder.encode_document(TEXTS), embedder.encode(TEXTS, prompt="x "))
    alike(embedder.encode_query(TEXTS), embedder.encode(TEXTS, prompt_name="other"))
    alike(embedder.encode_query(TEXTS, "passage"), embedder.encode(TEXTS, prompt="x "))
    alike(embedder.encode_document(TEXTS, None, "b"), embedder.encode(TEXTS, prompt="b"))


def test_query_hands_everything_on(embedder):
    found = embedder.encode_query(
        TEXTS, None, None, 3, False, normalize_embeddings=True, truncate_dim=7, max_length=11
    )
    expected = embedder.encode(
        TEXTS, "query", normalize_embeddings=True, truncate_dim=7, max_length=11
    )
    alike(found, expected)


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_an_unknown_keyword_is_a_type_error_that_names_it(embedder, method):
    with pytest.raises(TypeError, match="normalise_embeddings"):
        getattr(embedder, method)(TEXTS, normalise_embeddings=True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"convert_to_tensor": True}, "torch.from_numpy"),
        ({"convert_to_numpy": False}, "torch.from_numpy"),
        ({"device": "cuda:1"}, "JAX_PLATFORMS"),
        ({"device": ["cpu", "cpu"]}, "JAX_PLATFORMS"),
        ({"pool": {}}, "processes"),
        ({"chunk_size": 9}, "processes"),
        ({"output_value": "tokens"}, "token_embeddings"),
        ({"output_value": "token_embeddings", "precision": "int8"}, "for sentence embeddings"),
        ({"output_value": None, "normalize_embeddings": True}, "for sentence embeddings"),
        ({"precision": "int4"}, "one of: float32"),
        ({"precision": "int8"}, "7 vectors are too few"),
        ({"precision": "int8", "ranges": np.zeros((2, 7))}, "for 7 features"),
        ({"ranges": np.zeros((2, WIDTH))}, "leave them out"),
        ({"truncate_dim": 16}, "from 1 to 15"),
        ({"prompt_name": "none"}, "'query', 'document', 'passage', 'other'"),
        ({"on_long": "explode"}, "truncate, warn, error"),
    ],
)
def test_refusals(embedder, options, reason):
    with pytest.raises(InputError, match=reason):
        embedder.encode(TEXTS, **options)


def test_too_few_texts_for_ranges_are_refused_before_anything_runs(folder):
    fresh = Embedder.from_pretrained(folder)
    with pytest.raises(InputError, match="7 vectors are too few"):
        fresh.encode(TEXTS, precision="uint8")
    assert fresh.compilations == 0


def test_what_says_nothing_new_is_accepted(embedder):
    alike(
        embedder.encode(TEXTS, device="cpu", convert_to_numpy=True, precision="float32"),
        embedder.encode(TEXTS),
    )


# --- truncation, then length one, then precision -------------------------------------------------


def test_the_order_of_the_last_steps(embedder):
    full = embedder.encode(TEXTS)
    short = embedder.encode(TEXTS, truncate_dim=7, normalize_embeddings=True)
    alike(short, full[:, :7] / np.linalg.norm(full[:, :7], axis=1, keepdims=True))
    ranges = Ranges.of(short)
    embedder.truncate_dim = 7
    found = embedder.encode(TEXTS, normalize_embeddings=True, precision="uint8", ranges=ranges)
    again = embedder.encode(TEXTS, normalize_embeddings=True, precision="uint8", ranges=ranges)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, again)
    assert np.abs(found - (short - ranges.low) / (ranges.high - ranges.low) * 255).max() <= 1 + 1e-2
    binary = embedder.encode(TEXTS, precision="ubinary")
    assert binary.shape == (len(TEXTS), 1)


def test_precision_of_one_text_and_of_none(embedder):
    assert embedder.encode("a", precision="binary").shape == (2,)
    ranges = np.stack([np.full(WIDTH, -3.0), np.full(WIDTH, 3.0)])
    assert embedder.encode("a", precision="int8", ranges=ranges).shape == (WIDTH,)
    assert embedder.encode([], precision="int8").shape == (0, WIDTH)
    assert embedder.encode([], precision="int8").dtype == np.int8


# --- tokens ------------------------------------------------------------------------------------


def test_token_embeddings_are_the_encoders_states(embedder):
    for text, own in zip(TEXTS, embedder.encode_tokens(TEXTS, prompt=""), strict=True):
        ids = embedder.tokenizer([text], 29)[0]
        np.testing.assert_array_equal(own.ids, ids)
        states = np.asarray(embedder.encoder(ids[None])[0])
        assert own.embeddings.shape == (len(ids), WIDTH)
        alike(own.embeddings, states)
        assert own.mask.all()
        np.testing.assert_array_equal(own.offsets[[0, -1]], 0)


def test_offsets_are_places_in_the_text_without_its_prompt(embedder):
    text = "A  é, fG"
    own = embedder.encode_tokens(text, prompt="b c ")
    found = [text[start:stop] for start, stop in own.offsets]
    assert found == ["", "", "", "A", "é", ",", "fG", ""]


def test_a_prompt_that_grows_together_with_the_text(embedder):
    own = embedder.encode_tokens("b c", prompt="a")
    assert [tuple(pair) for pair in own.offsets] == [(0, 0), (0, 1), (2, 3), (0, 0)]


@pytest.mark.parametrize("include", [True, False])
def test_the_mean_of_masked_tokens_is_the_vector(embedder, include):
    embedder.set_pooling_include_prompt(include)
    vectors = embedder.encode(TEXTS, "query")
    for own, vector in zip(embedder.encode_tokens(TEXTS, "query"), vectors, strict=True):
        assert own.mask.sum() == len(own.ids) - (0 if include else 3)
        alike(own.embeddings[own.mask].mean(axis=0), vector)


def test_output_values(embedder):
    tokens = embedder.encode(TEXTS, output_value="token_embeddings")
    own = embedder.encode_tokens(TEXTS)
    assert [len(states) for states in tokens] == [len(one.ids) for one in own]
    for states, one in zip(tokens, own, strict=True):
        np.testing.assert_array_equal(states, one.embeddings)
    everything = embedder.encode(TEXTS, output_value=None, truncate_dim=7)
    alike(
        np.stack([one["sentence_embedding"] for one in everything]),
        embedder.encode(TEXTS, truncate_dim=7),
    )
    assert set(everything[0]) == {
        "input_ids",
        "attention_mask",
        "offset_mapping",
        "token_embeddings",
        "sentence_embedding",
    }
    assert embedder.encode("a", output_value="token_embeddings").shape == (5, WIDTH)
    assert embedder.encode([], output_value="token_embeddings") == []


# --- long texts --------------------------------------------------------------------------------


def test_counts_are_those_before_the_cut(embedder):
    np.testing.assert_array_equal(
        embedder.count_tokens(TEXTS, prompt=""), [len(ids) for ids in embedder.tokenizer(TEXTS)]
    )
    assert embedder.count_tokens("z " * 40) == 44  # with the default prompt
    assert embedder.count_tokens([]).shape == (0,)


def test_long_texts_are_cut_named_or_refused(embedder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut = embedder.encode(TEXTS, prompt="")
        embedder.encode(TEXTS[:3], prompt="", on_long="error")
    with pytest.warns(LongTextWarning, match="1 texts were cut to 29 .* text 3 with 42") as caught:
        alike(embedder.encode(TEXTS, prompt="", on_long="warn"), cut)
    assert caught[0].filename == __file__
    with pytest.raises(InputError, match="text 3 has 42 tokens, and the maximum is 29"):
        embedder.encode(TEXTS, prompt="", on_long="error")
    with pytest.raises(InputError, match="text 0 has 5 tokens, and the maximum is 4"):
        embedder.encode_tokens(TEXTS, prompt="", max_length=4, on_long="error")


def test_a_text_that_just_fits_is_not_long(embedder):
    for tokens in (28, 29):
        embedder.encode("z " * (tokens - 2), prompt="", on_long="error")
    with pytest.raises(InputError, match="30 tokens"):
        embedder.encode("z " * 28, prompt="", on_long="error")


# --- attributes --------------------------------------------------------------------------------


def test_dimensions_and_lengths(embedder):
    assert embedder.get_embedding_dimension() == embedder.get_sentence_embedding_dimension() == 15
    embedder.truncate_dim = 7
    assert embedder.get_embedding_dimension() == 7
    assert embedder.encode("a").shape == (7,)
    assert embedder.encode("a", truncate_dim=9).shape == (9,)
    embedder.truncate_dim = None
    embedder.max_seq_length = 3
    alike(embedder.encode("a b c", prompt=""), embedder.encode("a", prompt=""))


def test_prompts_may_be_set(embedder):
    assert embedder.default_prompt_name == "other"
    alike(embedder.encode(TEXTS), embedder.encode(TEXTS, prompt="y y "))
    embedder.default_prompt_name = None
    alike(embedder.encode(TEXTS), embedder.encode(TEXTS, prompt=""))
    embedder.prompts = {"new": "z "}
    alike(embedder.encode(TEXTS, "new"), embedder.encode(TEXTS, prompt="z "))


def test_settings_that_are_refused(embedder):
    with pytest.raises(InputError, match="no prompt named 'nothing'"):
        embedder.default_prompt_name = "nothing"
    with pytest.raises(InputError, match="'other' is not among the new"):
        embedder.prompts = {"new": "z "}
    with pytest.raises(InputTypeError, match="'new' is a int"):
        embedder.prompts = {"new": 3, "other": ""}
    with pytest.raises(InputError, match="cosine, dot"):
        embedder.similarity_fn_name = "maxsim"
    with pytest.raises(InputError, match="from 1 to 15"):
        embedder.truncate_dim = 16
    with pytest.raises(InputTypeError, match="True or False"):
        embedder.set_pooling_include_prompt("no")


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_pairs_are_the_diagonal(embedder, name):
    embedder.similarity_fn_name = name
    assert embedder.similarity_fn_name == name
    a, b = (np.random.default_rng(i).normal(size=(5, 7)).astype(np.float32) for i in (1, 2))
    pairs = embedder.similarity_pairwise(a, b)
    assert pairs.dtype == np.float32
    close(pairs, np.diag(embedder.similarity(a, b)), FUNCTION)
    assert embedder.similarity_pairwise(a[0], b[0]).shape == (1,)


def test_pairs_of_other_lengths_are_refused(embedder):
    with pytest.raises(InputError, match="3 vectors cannot be paired with 2"):
        embedder.similarity_pairwise(np.zeros((3, 5)), np.zeros((2, 5)))
