"""MultiVectorEncoder from the outside: recorded ColBERTs, MaxSim, lengths, folders, bad input."""

import json
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxbert import CrossEncoder, Embedder, Encoder, MaskedLM, MultiVectorEncoder
from jaxbert.errors import CheckpointError, ComputationError, InputError, InputTypeError
from jaxbert.inference.late_interaction import TOKENS, maxsim
from jaxbert.model import reference
from jaxbert.model.attention import blockwise, dense
from jaxbert.model.reference import late_interaction as reference_late
from tests.models import CONFIGS, GOLDEN, late, raw_config, write_folder, write_late
from tests.tolerances import (
    BFLOAT16,
    COMPANY,
    ENCODER,
    FUNCTION,
    GOLDEN_ENCODER,
    GOLDEN_REFERENCE,
    VISIBLE,
    close,
    norms,
    off,
)

NAMES = ("bert-colbert", "jinabert-colbert")
SKIPPED = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


@pytest.fixture(scope="module")
def models():
    return {name: MultiVectorEncoder.from_pretrained(GOLDEN / name) for name in NAMES}


@pytest.fixture(scope="module")
def model(models):
    return models["bert-colbert"]


def recorded(name):
    """The texts, and what torch gave for them with ids made as ColBERT makes them."""
    known = json.loads((GOLDEN / name / "texts.json").read_text(encoding="utf-8"))
    return known["queries"], known["documents"], load_file(GOLDEN / name / "golden.safetensors")


def kept(golden):
    """The recorded vectors of each document's tokens that count."""
    parts = zip(golden["document.vectors"], golden["document.kept"].astype(bool), strict=True)
    return [vectors[keep] for vectors, keep in parts]


def each_close(got, expected, bound, scale=norms):
    """As many arrays of the same shapes, close to each other."""
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        close(a, b, bound, scale)


# --- vectors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_recorded_vectors_and_scores(models, name):
    queries, documents, golden = recorded(name)
    asked, read = models[name].encode_query(queries), models[name].encode_document(documents)
    each_close(asked, golden["query.vectors"], GOLDEN_ENCODER)
    each_close(read, kept(golden), GOLDEN_ENCODER)
    assert {x.dtype for x in (*asked, *read)} == {np.dtype(np.float32)}
    close(models[name].similarity(asked, read), golden["scores"], GOLDEN_ENCODER)
    assert models[name].get_embedding_dimension() == asked[0].shape[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_has_the_recorded_vectors(name):
    *_, golden = recorded(name)
    tensors = load_file(GOLDEN / name / "model.safetensors")
    plain = {key.removeprefix("bert."): value for key, value in tensors.items()}
    raw = json.loads((GOLDEN / name / "config.json").read_text())
    ids, mask = golden["query.input_ids"], golden["query.attention_mask"]
    states = reference.encode(plain, raw, ids, mask)[-1]
    asked = reference_late.token_vectors(tensors["linear.weight"], states)
    close(golden["query.vectors"], asked, GOLDEN_REFERENCE, norms)
    ids, mask = golden["input_ids"], golden["attention_mask"]
    states = reference.encode(plain, raw, ids, mask)[-1]
    read = reference_late.token_vectors(tensors["linear.weight"], states)
    vocabulary = (GOLDEN / name / "vocab.txt").read_text().splitlines()
    skipped = [vocabulary.index(symbol) for symbol in SKIPPED if symbol in vocabulary]
    keep = reference_late.kept(ids, mask, skipped)
    np.testing.assert_array_equal(keep, golden["document.kept"].astype(bool))
    close(golden["document.vectors"][keep], read[keep], GOLDEN_REFERENCE, norms)
    documents = [row[own] for row, own in zip(read, keep, strict=True)]
    scores = [[reference_late.maxsim(q, d) for d in documents] for q in asked]
    close(golden["scores"], np.array(scores), GOLDEN_REFERENCE)


def test_one_text_and_none(models):
    for model in models.values():
        queries, documents, _ = recorded("bert-colbert")
        one = model.encode_query(queries[0])
        assert one.shape == model.encode_query(queries[:1])[0].shape
        close(one, model.encode_query(queries)[0], COMPANY, norms)
        assert model.encode_query([]) == model.encode_document([]) == []
    assert model.encode_document(documents[0]).ndim == 2


def test_queries_are_filled_up_and_documents_are_not(model):
    length = model.query_length
    assert {len(x) for x in model.encode_query(["", "a", "a b " * 50])} == {length}
    # [CLS], marker and [SEP] have a vector also where all others are punctuation.
    assert [len(x) for x in model.encode_document(["", "?!.", "a", "a?"])] == [3, 3, 4, 4]


def test_what_fills_a_query_up_is_not_seen_by_it(model):
    """The vectors of the query's own tokens are those of the same tokens without the rest."""
    query = "how many people"
    (tokens,) = model.sides["query"]([query])
    own = int((tokens[1] == 0).sum())
    states = model.encoder(tokens[:1, :own])
    alone = np.asarray(model.head(states))[0]
    vectors = model.encode_query(query)
    close(vectors[:own], alone, COMPANY, norms)
    seen = np.asarray(model.head(model.encoder(tokens[:1])))[0]
    assert off(vectors[:own], seen[:own], norms) > VISIBLE
    # What fills it up does see the query.
    other = model.encode_query("how many rivers")
    assert off(vectors[own:], other[own:], norms) > VISIBLE


def test_queries_that_attend_to_what_fills_them_up(tmp_path):
    folder = write_late(tmp_path, metadata={"attend_to_mask_tokens": True})
    model = MultiVectorEncoder.from_pretrained(folder)
    (ids,) = model.sides["query"](["a b"])
    assert ids.tolist() == [2, 28, 5, 6, 3, *[4] * 6]
    states = reference.encode(published_of(folder), raw_of(folder), ids[None], ids[None] >= 0)
    expected = reference_late.token_vectors(late()["linear.weight"], states[-1])[0]
    close(model.encode_query("a b"), expected, ENCODER, norms)


def published_of(folder):
    tensors = load_file(folder / "model.safetensors")
    return {name.removeprefix("bert."): value for name, value in tensors.items()}


def raw_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_texts_beyond_the_length_are_cut(model):
    words = "how many people live in berlin ".split() * 9
    lengths = model.query_length, model.document_length
    assert lengths == (12, 17)
    cut = model.encode_document(" ".join(words))
    assert len(cut) == 17
    close(model.encode_document(" ".join(words[:14])), cut, COMPANY, norms)
    assert model.sides["query"]([" ".join(words)])[0].shape == (2, 12)


def test_lengths_can_be_set():
    model = MultiVectorEncoder.from_pretrained(GOLDEN / "bert-colbert")
    model.document_length, model.query_length = 29, 23
    text = "how many people live in berlin " * 9
    assert (len(model.encode_document(text)), len(model.encode_query("a"))) == (29, 23)
    with pytest.raises(InputError, match="document_length is 65; it must be from 1 to 64"):
        model.document_length = 65
    model.query_length = 3
    with pytest.raises(InputError, match="leaves no room"):
        model.encode_query("a")


WORDS = ("the", "city", "river", "people", "of", "berlin", "live", "museum", ",", "!")


def drawn(number, seed=0):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(0, 15))) for _ in range(number)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("task", ["query", "document"])
def test_other_texts_of_a_batch_do_not_matter(models, name, task):
    texts, model = drawn(61), models[name]
    together = model.encode(texts, task=task)
    each_close([model.encode(text, task=task) for text in texts[:7]], together[:7], COMPANY)
    each_close(model.encode(texts[::-1], batch_size=3, task=task)[::-1], together, COMPANY)
    assert off(together[1][:3], together[2][:3], norms) > VISIBLE


@pytest.mark.parametrize("task", ["query", "document"])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_text_has_the_same_bits_with_deterministic(name, task):
    model = MultiVectorEncoder.from_pretrained(GOLDEN / name, deterministic=True)
    texts = drawn(37)
    together = model.encode(texts, task=task)
    again = model.encode(texts[::-1], batch_size=2, task=task)[::-1]
    for i, vectors in enumerate(together):
        assert again[i].tobytes() == vectors.tobytes()
    assert model.encode(texts[5], task=task).tobytes() == together[5].tobytes()


def test_bits_are_the_same_on_several_devices(model):
    there = MultiVectorEncoder.from_pretrained(GOLDEN / "bert-colbert", devices=jax.devices()[:2])
    for task in ("query", "document"):
        texts = drawn(41)
        a, b = (own.encode(texts, task=task) for own in (there, model))
        each_close(a, b, COMPANY)


def test_bfloat16_is_near(model):
    half = MultiVectorEncoder.from_pretrained(GOLDEN / "bert-colbert", dtype=jnp.bfloat16)
    for task in ("query", "document"):
        a, b = (own.encode("the city of berlin", task=task) for own in (half, model))
        assert 0 < off(a, b, norms) < BFLOAT16


def test_other_implementations_of_attention(model):
    for attention in (dense, blockwise):
        own = MultiVectorEncoder.from_pretrained(GOLDEN / "bert-colbert", attention=attention)
        each_close(own.encode_query(drawn(5)), model.encode_query(drawn(5)), COMPANY)

    def mine(q, k, v, bias, positions, segments):
        return v

    with pytest.raises(InputError, match="takes an attention of the package"):
        MultiVectorEncoder.from_pretrained(GOLDEN / "bert-colbert", attention=mine)


def test_truncation_makes_unit_vectors_of_what_is_left(model):
    texts = drawn(9)
    whole, cut = model.encode_document(texts), model.encode_document(texts, truncate_dim=5)
    for a, b in zip(whole, cut, strict=True):
        close(b, a[:, :5] / np.linalg.norm(a[:, :5], axis=1, keepdims=True), FUNCTION, norms)
    with pytest.raises(InputError, match="truncate_dim is 12; it must be from 1 to 11"):
        model.encode_query("a", truncate_dim=12)


def test_fewer_bits(model):
    (whole,) = model.encode_document(["the city of berlin"])
    bits = {
        kind: model.encode_document("the city of berlin", precision=kind)
        for kind in ("float16", "int8", "ubinary")
    }
    np.testing.assert_array_equal(bits["float16"], whole.astype(np.float16))
    assert bits["int8"].dtype == np.int8
    np.testing.assert_array_equal(bits["int8"], np.rint(127 * whole))
    np.testing.assert_array_equal(bits["ubinary"], np.packbits(whole > 0, axis=1))
    # Half a step of 1/127 in each of 11 components, at the most.
    close(bits["int8"] / 127, whole, 0.5 / 127 * 11**0.5 + FUNCTION, norms)
    asked, texts = model.encode_query(["river"]), drawn(9)
    exact = model.similarity(asked, model.encode_document(texts))
    near = model.similarity(asked, model.encode_document(texts, precision="int8"))
    assert 0 < off(near, exact) < 0.5 / 127 * 11**0.5
    with pytest.raises(InputError, match="is uint8, which MaxSim cannot compare"):
        model.similarity(asked, [bits["ubinary"]])
    with pytest.raises(InputError, match="precision is 'binary'; it must be one of: float32"):
        model.encode_query("a", precision="binary")


def test_pickles_have_the_same_bits(model):
    own = MultiVectorEncoder.from_pretrained(GOLDEN / "bert-colbert", deterministic=True)
    own.document_length, own.similarity_fn_name = 23, "meanmaxsim"
    again = pickle.loads(pickle.dumps(own))
    assert (again.document_length, again.similarity_fn_name) == (23, "meanmaxsim")
    for a, b in zip(own.encode_query(drawn(5)), again.encode_query(drawn(5)), strict=True):
        assert a.tobytes() == b.tobytes()


def test_what_was_done_is_counted(model):
    before = model.stats
    model.encode_query(["a", "b"])
    done = model.stats - before
    assert (done.texts, done.tokens) == (2, 2 * model.query_length)
    assert model.compilations == model.stats.compilations > 0


# --- MaxSim ---------------------------------------------------------------------------------------


def vectors(counts, width=7, seed=0):
    random = np.random.default_rng(seed)
    drawn = [random.normal(size=(number, width)).astype(np.float32) for number in counts]
    return [x / np.linalg.norm(x, axis=1, keepdims=True) for x in drawn]


def test_maxsim_is_that_of_the_reference(model):
    queries, documents = vectors((32, 3, 17, 1)), vectors((5, 1, 180, 33, 500, 2), seed=1)
    expected = np.array([[reference_late.maxsim(q, d) for d in documents] for q in queries])
    close(model.similarity(queries, documents), expected, FUNCTION)
    close(model.similarity_pairwise(queries, documents[:4]), np.diag(expected), FUNCTION)
    close(model.similarity(queries[0], documents[0])[0, 0], expected[0, 0], FUNCTION)
    assert model.similarity(queries, []).shape == (4, 0)
    assert model.similarity([], documents).shape == (0, 6)


def test_padding_never_wins():
    """All products are negative, so that padding of zeros would be the best token."""
    (query,) = vectors((5,))
    query = np.abs(query)
    scores = maxsim([query], [-query[:2], -query])
    expected = [reference_late.maxsim(query, -query[:2]), reference_late.maxsim(query, -query)]
    close(scores[0], np.array(expected), FUNCTION)
    assert (scores < 0).all()


def test_sides_without_tokens():
    (some,), none = vectors((3,)), np.zeros((0, 7), np.float32)
    np.testing.assert_array_equal(maxsim([some, none], [none])[:, 0], [-np.inf, 0])
    assert maxsim([none], [some])[0, 0] == 0
    np.testing.assert_array_equal(maxsim([none], [some], mean=True), [[0]])


def test_scores_have_bits_of_their_own():
    number = 2 * TOKENS // 48 + 3  # more than one block of documents of one length
    documents = vectors([40 + i % 5 for i in range(number)])
    queries = vectors((9, 12, 31), seed=1)
    together = maxsim(queries, documents)
    alone = [maxsim(queries[2], documents[i])[0, 0] for i in range(60)]
    np.testing.assert_array_equal(alone, together[2, :60])
    expected = [reference_late.maxsim(queries[2], x) for x in documents]
    close(together[2], np.array(expected), FUNCTION)


def test_meanmaxsim_divides_by_the_tokens_of_the_query():
    model = MultiVectorEncoder.from_pretrained(GOLDEN / "bert-colbert")
    queries, documents = vectors((5, 3)), vectors((7, 2), seed=1)
    whole = model.similarity(queries, documents)
    model.similarity_fn_name = "meanmaxsim"
    close(model.similarity(queries, documents), whole / np.array([[5], [3]]), FUNCTION)
    with pytest.raises(InputError, match="similarity_fn_name is 'dot'"):
        model.similarity_fn_name = "dot"


def test_rank(model):
    queries, documents, golden = recorded("bert-colbert")
    got = model.rank(queries[0], documents)
    order = np.argsort(-golden["scores"][0], kind="stable").tolist()
    assert [row["corpus_id"] for row in got] == order
    close([row["score"] for row in got], golden["scores"][0][order], GOLDEN_ENCODER)
    best = model.rank(queries[0], documents, top_k=2, return_documents=True)
    assert [row["text"] for row in best] == [documents[i] for i in order[:2]]
    assert model.rank("a", []) == []
    assert [row["corpus_id"] for row in model.rank("a", ["b", "b", "b"])] == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (3, InputTypeError, "documents is a int; pass arrays"),
        (["a"], InputTypeError, "item 0 of documents has dtype"),
        (np.zeros(7, np.float32), InputError, r"item 0 of documents has shape \(\)"),
        ([np.zeros((2, 5), np.float32)], InputError, "vectors of width 5 and 7"),
        ([np.full((2, 7), np.nan)], InputError, "item 0 of documents holds a number"),
    ],
)
def test_what_cannot_be_compared(model, value, error, words):
    with pytest.raises(error, match=words):
        model.similarity(vectors((3,)), value)
    with pytest.raises(InputError, match="2 queries cannot be paired with 1 documents"):
        model.similarity_pairwise(vectors((3, 2)), vectors((3,)))


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"task": None}, InputError, "task is None; it must be one of: query, document"),
        ({"output_value": None}, InputError, "output_value is None"),
        ({"convert_to_numpy": False}, InputError, "vectors are NumPy arrays here"),
        ({"token_pooling": 3}, InputError, "token_pooling is for modules of"),
        ({"prompt_name": "x"}, InputError, "no prompt named 'x'; it has: none"),
        ({"prompt": 3}, InputTypeError, "prompt is a int"),
        ({"batch_size": 0}, InputError, "batch_size is 0"),
        ({"normalize_embeddings": "no"}, InputTypeError, "normalize_embeddings is 'no'"),
    ],
)
def test_options_that_are_refused(model, options, error, words):
    with pytest.raises(error, match=words):
        model.encode(["a"], **{"task": "query"} | options)


def test_a_prompt_stands_behind_the_marker(model):
    with_prompt = model.encode_document("of berlin", prompt="the city ")
    np.testing.assert_array_equal(with_prompt, model.encode_document("the city of berlin"))


# --- folders --------------------------------------------------------------------------------------


def test_defaults_of_a_colbert_without_metadata(tmp_path):
    folder = shutil.copytree(GOLDEN / "jinabert-colbert", tmp_path / "model")
    (folder / "artifact.metadata").unlink()
    model = MultiVectorEncoder.from_pretrained(folder)
    assert (model.query_length, model.document_length) == (32, 220)
    assert model.sides["query"].marker == 1
    assert model.sides["document"].marker == 2
    assert not model.sides["query"].attended


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"similarity": "l2"}, "similarity = 'l2'; only 'cosine' is understood"),
        ({"interaction": "flipr"}, "interaction = 'flipr'; only 'colbert'"),
        ({"dim": 8}, "dim = 8, but linear.weight has 7 rows"),
        ({"doc_maxlen": 20}, "doc_maxlen = 20, but the model takes 1 to 19 tokens"),
        ({"query_maxlen": "32"}, "query_maxlen = '32', which is no"),
        ({"query_token_id": "[Q]"}, r"the marker is '\[Q\]', which is no token of the model"),
        ({"attend_to_mask_tokens": 1}, "attend_to_mask_tokens = 1, which is no"),
    ],
)
def test_metadata_that_is_not_understood(tmp_path, metadata, words):
    with pytest.raises(CheckpointError, match=words):
        MultiVectorEncoder.from_pretrained(write_late(tmp_path, metadata=metadata))


def test_punctuation_may_have_vectors(tmp_path, model):
    folder = shutil.copytree(GOLDEN / "bert-colbert", tmp_path / "model")
    file = folder / "artifact.metadata"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mask_punctuation": False}))
    own = MultiVectorEncoder.from_pretrained(folder)
    assert len(own.encode_document("a?!")) == len(model.encode_document("a?!")) + 2


def as_modules(folder, name="bert-gelu", *, bias=False, activation="Identity", kinds=None):
    """The folder of sentence-transformers' class, with query_length 11 and document_length 13."""
    package = "sentence_transformers.base.modules"
    kinds = ("Transformer", "Dense", "MultiVectorMask", "Normalize") if kinds is None else kinds
    listed = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"{package}.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    reads = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    expansion = {"strategy": "fixed", "attend": False, "token": None, "length": 11}
    d = CONFIGS[name].hidden_size
    write_folder(
        folder,
        name,
        tensors=published_with_prefix(name),
        modules=listed,
        sentence_bert_config={"query_expansion": expansion, "document_length": 13},
        config_sentence_transformers={
            "model_type": "MultiVectorEncoder",
            "prompts": {"query": "x ", "document": "y "},
            "similarity_fn_name": "maxsim",
        },
        **{
            "1_Dense__config": reads
            | {
                "in_features": d,
                "out_features": 7,
                "bias": bias,
                "activation_function": f"torch.nn.modules.linear.{activation}",
            },
            "2_MultiVectorMask__config": {"skiplist_words": ["c"], "keep_only_token_ids": None},
            "3_Normalize__config": reads,
        },
    )
    linear = {"linear.weight": late(name)["linear.weight"]}
    linear |= {"linear.bias": np.zeros(7, np.float32)} if bias else {}
    save_file(linear, folder / "1_Dense" / "model.safetensors")
    return folder


def published_with_prefix(name):
    return {key: value for key, value in late(name).items() if key != "linear.weight"}


def test_a_folder_of_modules_is_the_same_model(tmp_path):
    colbert = MultiVectorEncoder.from_pretrained(write_late(tmp_path / "a"))
    modules = MultiVectorEncoder.from_pretrained(as_modules(tmp_path / "b"))
    assert modules.prompts == {"query": "x ", "document": "y "}
    texts = ["a b", "", "c d e f " * 5, "a c"]
    each_close(modules.encode_query(texts), colbert.encode_query(texts), COMPANY)
    read = modules.encode_document(texts)
    assert [len(x) for x in read] == [5, 3, 10, 4]  # c has no vector
    close(read[0], colbert.encode_document(texts)[0], COMPANY, norms)


def changed(file, **keys):
    """Set keys of a JSON file."""
    contents = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(contents | keys))


def test_expansion_to_a_least_length_and_none(tmp_path):
    folder = as_modules(tmp_path)
    file = folder / "sentence_bert_config.json"
    lowest = {"strategy": "min", "length": 6}
    changed(file, query_expansion=lowest, query_length=9)
    model = MultiVectorEncoder.from_pretrained(folder)
    queries = ["a", "a b c d e", "a b " * 9]
    assert [len(x) for x in model.encode_query(queries)] == [6, 8, 9]
    changed(file, query_expansion=None)
    model = MultiVectorEncoder.from_pretrained(folder)
    assert [len(x) for x in model.encode_query(queries)] == [4, 8, 9]
    changed(folder / "2_MultiVectorMask" / "config.json", skiplist_tasks=["query", "document"])
    model = MultiVectorEncoder.from_pretrained(folder)
    assert [len(x) for x in model.encode_query(queries)] == [4, 7, 9]


def test_a_folder_of_pylate(tmp_path):
    folder = as_modules(tmp_path / "b", kinds=("Transformer", "Dense"))
    listed = json.loads((folder / "modules.json").read_text())
    listed[1]["type"] = "pylate.models.Dense.Dense"
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").unlink()
    settings = {
        "model_type": "ColBERT",
        "query_prefix": "x",
        "document_prefix": "y",
        "query_length": 11,
        "document_length": 13,
        "attend_to_expansion_tokens": False,
        "skiplist_words": ["c"],
        "similarity_fn_name": "cosine",
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    pylate = MultiVectorEncoder.from_pretrained(folder)
    native = MultiVectorEncoder.from_pretrained(as_modules(tmp_path / "c"))
    texts = ["a b", "", "c d e f " * 5, "a c"]
    for task in ("query", "document"):
        each_close(pylate.encode(texts, task=task), native.encode(texts, task=task), COMPANY)
    changed(folder / "config_sentence_transformers.json", do_query_expansion=False)
    own = MultiVectorEncoder.from_pretrained(folder)
    assert len(own.encode_query("a")) == 4
    with pytest.raises(
        CheckpointError, match=r"late-interaction model .it has model_type ColBERT."
    ):
        Embedder.from_pretrained(folder)


@pytest.mark.parametrize(
    ("file", "keys", "words"),
    [
        ("1_Dense/config.json", {"use_residual": True}, "use_residual = True"),
        (
            "1_Dense/config.json",
            {"module_input_name": "sentence_embedding"},
            "module_input_name = 'sentence_embedding'",
        ),
        (
            "3_Normalize/config.json",
            {"module_input_name": "sentence_embedding"},
            "module_input_name",
        ),
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": [3]}, "keep_only_token_ids"),
        ("2_MultiVectorMask/config.json", {"skiplist_words": [3]}, "which are no words"),
        ("2_MultiVectorMask/config.json", {"skiplist_tasks": ["x"]}, "skiplist_tasks"),
        (
            "sentence_bert_config.json",
            {"query_expansion": {"strategy": "other", "length": 7}},
            "the strategy 'other'; understood are fixed and min",
        ),
        ("sentence_bert_config.json", {"document_length": 20}, "takes 1 to 19 tokens"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "dot"}, "understood: maxsim"),
        ("config_sentence_transformers.json", {"model_type": "SentenceTransformer"}, "Embedder"),
        (
            "config_sentence_transformers.json",
            {"requirements": {"sentence-transformers": ">=999"}},
            "requires sentence-transformers>=999",
        ),
    ],
)
def test_modules_that_are_not_understood(tmp_path, file, keys, words):
    folder = as_modules(tmp_path)
    changed(folder / file, **keys)
    with pytest.raises(CheckpointError, match=words):
        MultiVectorEncoder.from_pretrained(folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bias": True}, "has a bias or the activation Identity"),
        ({"kinds": ("Transformer", "Dense", "Normalize")}, "lists Transformer, Dense, Normalize;"),
        ({"kinds": ("Transformer", "Pooling")}, "lists Transformer, Pooling; understood for late"),
    ],
)
def test_other_modules(tmp_path, options, words):
    with pytest.raises(CheckpointError, match=words):
        MultiVectorEncoder.from_pretrained(as_modules(tmp_path, **options))


def test_each_kind_of_folder_names_the_class_that_opens_it(minilm, tmp_path):
    for folder, name in (
        (minilm, "Embedder"),
        (GOLDEN / "bert-cross-encoder", "CrossEncoder"),
        (GOLDEN / "bert-mlm", "MaskedLM"),
    ):
        with pytest.raises(
            CheckpointError, match=rf"MultiVectorEncoder does not open it; open it with {name}"
        ):
            MultiVectorEncoder.from_pretrained(folder)
    for folder in (GOLDEN / "jinabert-colbert", as_modules(tmp_path)):
        for kind in (Embedder, CrossEncoder, MaskedLM):
            with pytest.raises(CheckpointError, match="MultiVectorEncoder"):
                kind.from_pretrained(folder)
        assert Encoder.from_pretrained(folder)([[1, 2]]).ndim == 3


def test_a_projection_that_is_not_whole(tmp_path):
    folder = write_late(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    good = tensors["linear.weight"]
    for wrong, words in (
        (good[:, :-1], "linear.weight has shape"),
        (np.full_like(good, np.nan), "linear.weight holds NaN"),
        (good.astype(np.int32), "linear.weight is stored as I32"),
        (good[0], r"linear.weight has shape \(15,\); it must be .width, d."),
    ):
        save_file(tensors | {"linear.weight": wrong}, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=words):
            MultiVectorEncoder.from_pretrained(folder)
    del tensors["linear.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"says that it is a ColBERT, but has no linear\.we"):
        MultiVectorEncoder.from_pretrained(folder)


def test_a_linear_that_nobody_calls_a_colbert(tmp_path):
    folder = write_folder(tmp_path, tensors=late(), config=raw_config(CONFIGS["bert-gelu"]))
    with pytest.raises(CheckpointError, match="nothing says that it is a ColBERT"):
        MultiVectorEncoder.from_pretrained(folder)
    (folder / "artifact.metadata").write_text('{"query_token_id": "x", "doc_token_id": "y"}')
    with pytest.raises(CheckpointError, match="query_maxlen = 32, but the model takes"):
        MultiVectorEncoder.from_pretrained(folder)


def test_a_second_head_is_not_left_out_in_silence(tmp_path):
    folder = write_late(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    more = {"classifier.weight": np.ones((1, 15), np.float32)}
    save_file(tensors | more, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has classifier\.weight beside its projection"):
        MultiVectorEncoder.from_pretrained(folder)


def test_a_vector_without_direction_is_not_returned(tmp_path):
    folder = write_late(tmp_path)
    model = MultiVectorEncoder.from_pretrained(folder)
    model.head.linear.weight[...] *= 0.0
    again = MultiVectorEncoder(model.encoder, model.head, model.tokenizer, model.settings)
    with pytest.raises(ComputationError, match="the vector of text 0 has a token whose vector"):
        again.encode_query(["a"])
