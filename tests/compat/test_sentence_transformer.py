"""jaxbert.compat without torch: the names, arguments and results that code calls."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

import jaxbert
from jaxbert import Embedder, compat
from jaxbert.compat import CrossEncoder, SentenceTransformer, SimilarityFunction, tensors, util
from jaxbert.compat.model import NotInJaxError
from jaxbert.compat.quantised import FewVectorsWarning
from jaxbert.errors import InputError, InputTypeError
from jaxbert.search import top_k
from tests.models import scored, write_folder
from tests.tolerances import COMPANY, ENCODER, close, norms

TEXTS = ["a b c", "", "abc de fgh", "z " * 40, "q"]
WIDTH = 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("model"),
        "bert-gelu",
        sentence_bert_config={"max_seq_length": 17},
        config_sentence_transformers={"prompts": {"query": "a b ", "passage": "x "}},
    )


@pytest.fixture(scope="module")
def loaded(folder):
    return SentenceTransformer(str(folder))


@pytest.fixture(autouse=True)
def without_torch(monkeypatch):
    monkeypatch.setattr(tensors, "has_torch", lambda: False)


@pytest.fixture
def model(loaded):
    """Settings of its own, and the programs of all."""
    return copy.deepcopy(loaded)


def alike(a, b):
    close(np.asarray(a), np.asarray(b), COMPANY, norms)


def test_neither_the_module_nor_a_model_imports_torch(folder):
    code = """
import sys, jaxbert.compat
light = [m for m in ("jax", "numpy", "torch") if m in sys.modules]
from jaxbert.compat import CrossEncoder, SentenceTransformer, util
SentenceTransformer(sys.argv[1]).encode("a b")
print(light, [m for m in ("torch", "transformers") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert done.stdout == "[] []\n", done.stderr


def test_vectors_are_those_of_the_embedder(model, folder):
    embedder = Embedder.from_pretrained(folder)
    alike(model.encode(TEXTS), embedder.encode(TEXTS))
    alike(
        model.encode(sentences=TEXTS, batch_size=2, prompt_name="passage"),
        embedder.encode(TEXTS, "passage"),
    )
    alike(model.encode_query(TEXTS), embedder.encode_query(TEXTS))
    alike(model.encode_document(TEXTS[:2]), embedder.encode_document(TEXTS[:2]))
    alike(model.encode(np.array(TEXTS)), embedder.encode(TEXTS))
    assert model.encode("one").shape == model.encode(np.array("one")).shape == (WIDTH,)
    assert model.encode([]).shape == (0, WIDTH)
    few = model.encode(TEXTS, truncate_dim=7, normalize_embeddings=True, precision=None)
    alike(few, embedder.encode(TEXTS, truncate_dim=7, normalize_embeddings=True))


def test_what_computes_elsewhere_is_this_process(model):
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    expected = model.encode(TEXTS)
    alike(model.encode(TEXTS, pool=pool, chunk_size=2), expected)
    alike(model.encode_multi_process(TEXTS, pool), expected)
    alike(model.encode(TEXTS, device=["cpu"] * 2), expected)
    model.stop_multi_process_pool(pool)
    for device in ("cuda", ["cpu", "cuda:1"], 0, object()):
        with pytest.raises(InputError, match="but this process computes on cpu"):
            model.encode(TEXTS, device=device)
    assert str(model.device) == model.device.type == model._target_device.type == "cpu"
    assert model.to("cpu") is model.cpu() is model.eval() is model.float() is model
    with pytest.raises(InputError, match="but this process computes on cpu"):
        model.cuda()


def test_tensors_without_torch_are_refused_where_asked_for_and_arrays_elsewhere(model, monkeypatch):
    for given in ({"convert_to_tensor": True}, {"convert_to_numpy": False}):
        with pytest.raises(tensors.TorchMissingError, match="torch is not installed"):
            model.encode(TEXTS, **given)
    states = model.encode(TEXTS[:2], output_value="token_embeddings")
    assert [x.shape for x in states] == [(5, WIDTH), (2, WIDTH)]
    one = model.encode("a b", prompt="x ", output_value=None)
    assert one["input_ids"].shape == one["attention_mask"].shape == (5,)
    assert one["prompt_length"] == 2
    alike(one["sentence_embedding"], model.encode("a b", prompt="x "))
    a, b = model.encode(TEXTS[:2])
    assert float(model.similarity(a, b)) == model.similarity(a, b)[0][0]
    assert model.similarity_pairwise(a[None], b[None]).shape == (1,)


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_few_vectors_become_bytes_with_a_warning(model, precision):
    with pytest.warns(FewVectorsWarning) if "int8" in precision else _nothing():
        found = model.encode(TEXTS, precision=precision)
    assert found.shape == (5, 2 if "binary" in precision else WIDTH)
    assert found.dtype == (np.uint8 if precision[0] == "u" else np.int8)
    with pytest.raises(InputError, match="Precision 'int4' is not supported"):
        model.encode(TEXTS, precision="int4")


class _nothing:  # noqa: N801
    """A context without a warning."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def test_settings(model):
    model.prompts["query"] = "q "
    alike(model.encode_query(TEXTS), model.encode(TEXTS, prompt="q "))
    model.prompts = {"other": "o "}
    model.default_prompt_name = "other"
    alike(model.encode(TEXTS), model.encode(TEXTS, prompt="o "))
    model.default_prompt_name = None
    model.max_seq_length = 5
    assert model.get_max_seq_length() == model[0].max_seq_length == 5
    assert model.tokenizer.model_max_length == 5
    alike(model.encode("z " * 40), model.encode("z z z"))
    for kind in (SimilarityFunction.DOT, "dot", SimilarityFunction.DOT_PRODUCT):
        model.similarity_fn_name = kind
        assert model.similarity_fn_name == "dot"
    with pytest.raises(InputError, match=r"use jaxbert\.MultiVectorEncoder"):
        model.similarity_fn_name = "maxsim"
    with model.truncate_embeddings(7):
        assert model.get_sentence_embedding_dimension() == model.encode("a").shape[0] == 7
    assert model.get_embedding_dimension() == WIDTH
    model.truncate_dim = 99  # more than there are
    assert model.encode("a").shape == (WIDTH,)
    alike(
        model.encode("a b c d", processing_kwargs={"text": {"max_length": 4}}), model.encode("a b")
    )


def test_the_constructor_sets_them_too(folder):
    model = SentenceTransformer(
        str(folder),
        device="cpu",
        prompts={"query": "q "},
        default_prompt_name="query",
        similarity_fn_name=SimilarityFunction.MANHATTAN,
        truncate_dim=7,
        trust_remote_code=True,
        local_files_only=True,
        cache_folder=str(folder),
        token=True,
        model_kwargs={"attn_implementation": "sdpa", "torch_dtype": "bfloat16"},
        tokenizer_kwargs={"model_max_length": 9},
        deterministic=True,
    )
    assert model.prompts == {"query": "q ", "document": "", "passage": "x "}
    assert model.default_prompt_name == "query"
    assert model.similarity_fn_name == "manhattan"
    assert model.encode("a").shape == (7,)
    assert model.max_seq_length == 9
    assert model.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"model_name_or_path": None}, InputError, "pass model_name_or_path"),
        ({"model_name_or_path": None, "modules": []}, InputError, "An empty modules list"),
        ({"model_name_or_path": None, "modules": [3]}, InputTypeError, "no module of sentence-"),
        ({"model_name_or_path": None, "modules": "ab"}, InputTypeError, "no module of sentence-"),
        ({"device": "cuda"}, InputError, "but this process computes on cpu"),
        ({"model_kwargs": {"torch_dtype": "float16"}}, InputError, "torch_dtype is float16"),
        ({"model_kwargs": {"quantization_config": 3}}, InputError, "quantization_config = 3"),
        ({"backend": "onnx"}, InputError, "backend is 'onnx'"),
        ({"default_prompt_name": "nothing"}, InputError, "Default prompt name 'nothing' not found"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
    ids=lambda value: "",
)
def test_what_the_constructor_refuses(folder, given, error, words):
    with pytest.raises(error, match=words):
        SentenceTransformer(**{"model_name_or_path": str(folder)} | given)


def test_a_name_goes_before_modules(folder, caplog):
    model = SentenceTransformer(str(folder), modules=[object()])
    assert len(model) == 2
    assert "`modules` argument is ignored" in caplog.text
    with pytest.raises(InputTypeError, match="not put together of modules"):
        CrossEncoder(str(folder), modules=[object()])


def test_a_model_without_a_name_is_none():
    for kind in (SentenceTransformer, CrossEncoder):
        with pytest.raises(InputError, match="pass model_name_or_path"):
            kind()


def test_steps_are_described_and_have_no_weights(model):
    assert len(model) == len(list(model)) == len(list(model.children())) == 2
    transformer, pooling = model
    assert model._first_module() is model[0] is transformer
    assert model._last_module() is model[-1] is pooling
    assert transformer.tokenizer is model.tokenizer
    assert transformer.get_word_embedding_dimension() == pooling.get_embedding_dimension() == WIDTH
    assert pooling.pooling_mode == "mean"
    assert pooling.pooling_mode_mean_tokens
    assert not pooling.pooling_mode_cls_token
    model.set_pooling_include_prompt(False)
    assert not model[1].include_prompt
    with pytest.raises(AttributeError, match=r"Transformer.auto_model is a module of torch"):
        _ = model[0].auto_model
    for name in ("auto_model", "fit", "half", "push_to_hub", "parameters", "compile"):
        with pytest.raises(NotInJaxError, match=f"runs in JAX and has no {name}; "):
            getattr(model, name)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = model.nonsense
    assert not hasattr(model, "half")


def test_what_is_no_text_is_refused(model):
    wrong = ([("a", "b", "c")], [("a",)], [("a", 3)], ["a", 3], [{"text": "a"}], {"text": "a"})
    for inputs in (*wrong, np.ones(3), [3], None):
        with pytest.raises(InputTypeError):
            model.encode(inputs)
    with pytest.raises(InputTypeError, match="text 2 is a int"):
        model.encode([("a", "b"), "c", 3])
    with pytest.raises(InputTypeError, match=r"pair 2 is \['a'\]"):
        model.encode([("a", "b"), "c", ["a"]])
    for options, words in (
        ({"nonsense": 1}, "encode has no argument nonsense"),
        ({"processing_kwargs": {"image": {}}}, "only max_length of text can be set"),
        ({"batch_size": 0}, "batch_size is 0"),
    ):
        with pytest.raises(InputError, match=words):
            model.encode(TEXTS, **options)


def test_a_saved_model_is_read_by_both_classes(model, folder, tmp_path):
    model.save(str(tmp_path / "a"), model_name="me/mine")
    assert 'SentenceTransformer("me/mine")' in (tmp_path / "a" / "README.md").read_text()
    model.save_pretrained(tmp_path / "b", create_model_card=False)
    assert not (tmp_path / "b" / "README.md").exists()
    settings = json.loads((tmp_path / "a" / "config_sentence_transformers.json").read_text())
    assert settings["__version__"] == {"jaxbert": jaxbert.__version__}
    expected = model.encode(TEXTS)
    alike(Embedder.from_pretrained(tmp_path / "a").encode(TEXTS), expected)
    model.save(None)
    other = SentenceTransformer(tmp_path / "b")
    for file in sorted((tmp_path / "b").rglob("*"), reverse=True):  # their folder goes away
        file.rmdir() if file.is_dir() else file.unlink()
    (tmp_path / "b").rmdir()
    other.save(tmp_path / "c")
    alike(SentenceTransformer(tmp_path / "c").encode(TEXTS), expected)


def test_models_are_pickled_and_copied(model):
    for other in (pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model)):
        alike(other.encode(TEXTS), model.encode(TEXTS))
        assert other[0].max_seq_length == 17
        assert other.tokenizer.model_max_length == 17
        other.max_seq_length = 5
        assert other[0].max_seq_length == other.tokenizer.model_max_length == 5
        assert model.max_seq_length == 17


def test_an_embedder_of_ones_own(folder):
    embedder = Embedder.from_pretrained(folder)
    model = SentenceTransformer.of(embedder)
    assert model.embedder is embedder
    alike(model.encode(TEXTS), embedder.encode(TEXTS))
    assert repr(model) == "SentenceTransformer('an Embedder', jaxbert)"


def test_features_go_through_the_model(model):
    features = model.preprocess(TEXTS[:3])
    assert features["input_ids"].shape == features["attention_mask"].shape == (3, 5)
    alike(model(features)["sentence_embedding"], model.encode(TEXTS[:3]))
    model.set_pooling_include_prompt(False)
    features = model.tokenize(["a b"], prompt="x ")
    alike(model(features)["sentence_embedding"], model.encode(["a b"], prompt="x "))
    assert model.preprocess([]) == {}
    with pytest.raises(InputTypeError, match=r"pass a list of texts, such as \[text\]"):
        model.preprocess("hello")


def test_evaluators_find_what_they_call(model, tmp_path):
    def evaluator(own, output_path):
        own.model_card_data.set_evaluation_metrics(evaluator, {"score": 1.0}, 0, 0)
        return output_path

    assert model.evaluate(evaluator, str(tmp_path / "out")) == str(tmp_path / "out")
    assert (tmp_path / "out").is_dir()
    assert model.model_card_data.metrics == {"function": {"score": 1.0}}
    assert model.supports("text")
    assert not model.supports("image")
    assert model.get_model_kwargs() == []


def test_names_of_the_module():
    assert set(compat.__all__) <= set(dir(compat))
    with pytest.raises(AttributeError, match="has no attribute 'SparseEncoder'; it has"):
        _ = compat.SparseEncoder


# --- the tokenizer -------------------------------------------------------------------------------


def test_the_tokenizer_in_the_manner_of_transformers(model):
    tokenizer = model.tokenizer
    found = tokenizer(["a b", "c"], padding=True, truncation=True, return_tensors="np")
    ids = [model.native.tokenizer([text])[0].tolist() for text in ("a b", "c")]
    assert found["input_ids"].tolist() == [ids[0], [*ids[1], tokenizer.pad_token_id]]
    assert found.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert found["token_type_ids"].shape == (2, 4)
    assert tokenizer("a b")["input_ids"] == tokenizer.encode("a b") == ids[0]
    assert tokenizer.encode("a b", add_special_tokens=False) == ids[0][1:-1]
    assert tokenizer.tokenize("a b") == ["a", "b"]
    assert tokenizer.convert_tokens_to_ids(["a", "b"]) == ids[0][1:-1]
    assert tokenizer.convert_ids_to_tokens(ids[0], skip_special_tokens=True) == ["a", "b"]
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "a b"
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == ["a b", "c"]
    assert tokenizer.convert_tokens_to_ids("nonsense") == tokenizer.unk_token_id
    assert (tokenizer.cls_token, tokenizer.cls_token_id) == ("[CLS]", ids[0][0])
    assert len(tokenizer) == len(tokenizer.get_vocab()) == len(tokenizer.vocab)
    assert tokenizer.num_special_tokens_to_add() == 2
    assert len(tokenizer("z " * 40, truncation=True, max_length=5)["input_ids"]) == 5
    assert len(tokenizer("z " * 40)["input_ids"]) == 42
    pair = tokenizer("a", "b", return_offsets_mapping=True, padding="max_length", max_length=7)
    assert len(pair["input_ids"]) == len(pair["offset_mapping"]) == 7
    with pytest.raises(InputError, match="pass padding=True"):
        tokenizer(["a", "b c"], return_tensors="np")
    with pytest.raises(InputError, match="has no argument stride"):
        tokenizer("a", stride=3)
    with pytest.raises(AttributeError, match="has no chat_template"):
        _ = tokenizer.chat_template
    with pytest.raises(InputTypeError, match="text 0 is 3"):
        tokenizer([3])


def test_words_that_were_split_before_are_one_text(model):
    tokenizer = model.tokenizer
    whole = tokenizer("a b c")["input_ids"]
    words = {"is_split_into_words": True}
    assert tokenizer([["a", "b", "c"]], **words)["input_ids"] == [whole]
    assert tokenizer(["a", "b", "c"], **words)["input_ids"] == whole
    pair = tokenizer("a b", "c d")["input_ids"]
    assert tokenizer(["a", "b"], ["c", "d"], **words)["input_ids"] == pair
    assert tokenizer([["a b", "c d"]])["input_ids"] == [pair]
    assert tokenizer([(["a", "b"], ["c", "d"])], **words)["input_ids"] == [pair]
    mixed = tokenizer([("a b", "c d"), "a b c"], truncation=True, max_length=6)["input_ids"]
    assert mixed == [tokenizer("a", "c d")["input_ids"], whole]
    for inputs in ([["a", "b", "c"]], [["a"]], [[]], [None]):
        with pytest.raises(InputTypeError, match="lists of words with is_split_into_words=True"):
            tokenizer(inputs)
    with pytest.raises(InputTypeError, match=r"text 1 is \['a'\]"):
        tokenizer(["a b", ["a"]], ["c", "d"])
    with pytest.raises(InputTypeError, match="text 1 is 'a b'"):
        tokenizer([["a"], "a b"], **words)
    with pytest.raises(InputTypeError, match="text is a int"):
        tokenizer(3)
    with pytest.raises(InputError, match="2 texts cannot be paired with 1"):
        tokenizer(["a", "b"], ["c"])
    assert tokenizer([])["input_ids"] == []


def test_rows_are_filled_up(model):
    pad = model.tokenizer.pad
    assert pad({"input_ids": [[1, 2], [3]]}) == {
        "input_ids": [[1, 2], [3, 0]],
        "attention_mask": [[1, 1], [1, 0]],
    }
    assert pad([{"input_ids": [1, 2]}, {"input_ids": [3]}])["input_ids"] == [[1, 2], [3, 0]]
    assert pad({"input_ids": [1, 2]}) == {"input_ids": [1, 2], "attention_mask": [1, 1]}
    assert pad({"input_ids": [[1]]}, "max_length", 3)["input_ids"] == [[1, 0, 0]]
    assert pad({"input_ids": [[1], [2, 3, 4]]}, pad_to_multiple_of=2, return_tensors="np")[
        "input_ids"
    ].shape == (2, 4)
    for rows in ([], {"input_ids": []}):
        with pytest.raises(InputError, match="there are no rows to fill up"):
            pad(rows)
    with pytest.raises(InputTypeError, match=r"rows are \[3\]"):
        pad([3])
    with pytest.raises(InputError, match="padding is 'some'"):
        pad({"input_ids": [[1]]}, padding="some")
    with pytest.raises(InputError, match="has no argument verbose"):
        pad({"input_ids": [[1]]}, verbose=True)


def test_its_files(model, tmp_path):
    model.tokenizer.save_pretrained(tmp_path / "tokenizer")
    held = json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())
    assert held["model"]["vocab"] == model.tokenizer.get_vocab()


# --- CrossEncoder and util -----------------------------------------------------------------------


def test_a_cross_encoder(tmp_path):
    folder = write_folder(tmp_path / "scorer", tensors=scored())
    model = CrossEncoder(str(folder), device="cpu", max_length=11, num_labels=1)
    pairs = [("a b", "c d"), ("x", "y z")]
    expected = model.native.predict(pairs)
    np.testing.assert_array_equal(model.predict(pairs), expected)
    np.testing.assert_array_equal(model.predict(np.array(pairs)), expected)
    assert model.predict(pairs[0]) == pytest.approx(expected[0], rel=COMPANY)
    logits = model.predict(pairs, activation_fn=lambda x: 2 * x)
    np.testing.assert_allclose(logits, 2 * model.predict(pairs, activation_fn=lambda x: x))
    ranked = model.rank("a b", ["c d", "y z"], top_k=1, return_documents=True)
    assert set(ranked[0]) == {"corpus_id", "score", "text"}
    assert (model.num_labels, model.max_length) == (1, 11)
    assert model.preprocess(pairs)["input_ids"].shape == (2, 7)
    prompted = CrossEncoder(
        str(folder), max_length=11, prompts={"q": "b c "}, default_prompt_name="q"
    )
    by_hand = model.predict([("b c " + a, b) for a, b in pairs])
    np.testing.assert_allclose(prompted.predict(pairs), by_hand, rtol=COMPANY)
    assert np.abs(by_hand - expected).min() > 10 * COMPANY
    other = copy.copy(prompted)
    other.prompts["q"] = ""
    np.testing.assert_allclose(other.predict(pairs), expected, rtol=COMPANY)
    np.testing.assert_allclose(prompted.predict(pairs), by_hand, rtol=COMPANY)
    prompted.save(tmp_path / "prompted")
    again = CrossEncoder(tmp_path / "prompted")
    assert (again.prompts, again.default_prompt_name) == ({"q": "b c "}, "q")
    again.default_prompt_name = None
    np.testing.assert_allclose(again.predict(pairs), expected, rtol=COMPANY)
    np.testing.assert_allclose(again.predict(pairs, prompt_name="q"), by_hand, rtol=COMPANY)
    again.prompts = {"r": "b c "}
    np.testing.assert_allclose(again.predict(pairs, prompt_name="r"), by_hand, rtol=COMPANY)
    with pytest.raises(InputError, match=r"Default prompt name 'q' not found .* \['r'\]"):
        again.default_prompt_name = "q"
    model.save(tmp_path / "saved")
    np.testing.assert_allclose(CrossEncoder(tmp_path / "saved").predict(pairs), expected)
    for given, words in (
        ({"num_labels": 3}, "num_labels is 3, but the model has 1"),
        ({"default_prompt_name": "a"}, "Default prompt name 'a' not found"),
    ):
        with pytest.raises(InputError, match=words):
            CrossEncoder(str(folder), **given)


def test_util(model):
    x = np.random.default_rng(0).normal(size=(23, 7)).astype(np.float32)
    scores, rows = top_k(x[:3], x, 5)
    found = util.semantic_search(x[:3], x, top_k=5)
    assert [[row["corpus_id"] for row in own] for own in found] == rows.tolist()
    assert [[row["score"] for row in own] for own in found] == scores.tolist()
    assert util.cos_sim(x, x).shape == (23, 23)
    assert util.pairwise_dot_score(x, x).shape == (23,)
    assert util.normalize_embeddings(x).shape == util.truncate_embeddings(x, 99).shape
    assert util.community_detection(np.ones((11, 3)), min_community_size=3) == [list(range(11))]
    assert util.semantic_search([], []) == [[]]
    assert util.semantic_search(x[:2], []) == util.semantic_search(x[:2], x[:0]) == [[], []]
    assert util.semantic_search(x[:0], x) == []
    for given in ([[1.0, 2.0]], [x[0]]):
        with pytest.raises(InputTypeError, match="pass an array or a tensor"):
            util.truncate_embeddings(given, 1)
    for name, words in (("mine_hard_negatives", "takes a model"), ("batch_to_device", "torch's")):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'; .*{words}.*cos_sim"):
            getattr(util, name)
    assert not hasattr(util, "__wrapped__")
    assert all(hasattr(util, name) for name in util.NAMES)
    mined = util.paraphrase_mining(model, ["a b", "c", "a b", "d e"], top_k=1)
    assert mined[0][1:] == [0, 2]
    with pytest.raises(InputError, match="score_function is a function of your own"):
        util.semantic_search(x, x, score_function=max)


@pytest.mark.parametrize("include", [True, False])
def test_pairs_are_read_together(model, include):
    """As the tokenizer puts them together, with types, and pooled as a text is."""
    model.set_pooling_include_prompt(include)
    pairs = [("a b", "c d"), ("e", "z " * 40), ("f g h", "")]
    expected = np.asarray(model(model.preprocess(pairs, prompt="x "))["sentence_embedding"])
    alike(model.encode(pairs, prompt="x "), expected)
    alike(model.encode(np.array(pairs), prompt="x ", batch_size=2), expected)
    alike(
        model.encode([list(pair) for pair in pairs], prompt="x ", truncate_dim=7), expected[:, :7]
    )
    mixed = model.encode([pairs[0], "a b c d", pairs[1]], prompt="x ")
    alike(mixed[[0, 2]], expected[:2])
    alike(mixed[1], model.encode("a b c d", prompt="x "))
    assert np.abs(mixed[0] - mixed[1]).max() > 1e3 * COMPANY
    (one,) = model.encode(pairs[:1], prompt="x ", output_value=None)
    alike(one["sentence_embedding"], expected[0])
    assert one["token_type_ids"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    (states,) = model.encode(pairs[:1], prompt="x ", output_value="token_embeddings")
    alike(states, one["token_embeddings"])
    assert model.encode(pairs, precision="ubinary").shape == (3, 2)
    for options, words in (
        ({"batch_size": 0}, "batch_size is 0"),
        ({"output_value": "nothing"}, "output_value is 'nothing'"),
    ):
        with pytest.raises(InputError, match=words):
            model.encode(pairs, **options)


def test_pairs_have_their_types_in_forward(model):
    """As one text: the words of both, with the types of the second."""
    features = model.preprocess([("a b", "c d"), ("e", "f g")])
    types = np.asarray(features["token_type_ids"])
    assert types.any()
    states = model.native.encoder(
        np.asarray(features["input_ids"]), np.asarray(features["attention_mask"]), types
    )
    got = np.asarray(model(features)["token_embeddings"])
    seen = np.asarray(features["attention_mask"]) != 0
    close(got[seen], np.asarray(states)[seen], ENCODER)


def test_a_score_function_of_ones_own_is_not_taken_for_ours_of_that_name(model):
    def dot_score(a, b):
        return -(a @ b.T)

    vectors = np.eye(3, dtype=np.float32)
    with pytest.raises(InputError, match="a function of your own"):
        util.semantic_search(vectors, vectors, score_function=dot_score)
    (best, *_), *_ = util.semantic_search(vectors, vectors, score_function=model.similarity)
    assert best["corpus_id"] == 0
