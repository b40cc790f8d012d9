"""jaxbert.compat beside sentence-transformers: the same code, the same types, the same numbers."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
theirs = pytest.importorskip("sentence_transformers")

from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import SimilarityFunction

from jaxbert import compat, search
from jaxbert.compat import tensors
from jaxbert.errors import InputTypeError
from tests.tolerances import ENCODER, FUNCTION, MINILM, close, norms

pytestmark = pytest.mark.torch

TEXTS = ["A cat sleeps.", "Stocks fell on Monday, and rose again on Tuesday.", "", "Bread."]


@pytest.fixture(scope="module")
def both(minilm):
    """The real model in both classes."""
    kinds = (compat.SentenceTransformer, theirs.SentenceTransformer)
    return [kind(str(minilm), device="cpu", prompts={"query": "q: "}) for kind in kinds]


def agree(ours, other, tolerance=MINILM):
    """The same type, shape, dtype and numbers."""
    assert type(ours) is type(other)
    if isinstance(other, list):
        assert len(ours) == len(other)
        for a, b in zip(ours, other, strict=True):
            agree(a, b, tolerance)
    else:
        assert ours.shape == other.shape
        assert ours.dtype == other.dtype
        if isinstance(other, torch.Tensor):
            assert ours.device == other.device
        close(np.asarray(ours), np.asarray(other), tolerance, norms)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"prompt_name": "query", "normalize_embeddings": True},
        {"prompt": "about: ", "truncate_dim": 64, "convert_to_tensor": True},
        {"sentences": TEXTS, "batch_size": 2, "show_progress_bar": False},
    ],
    ids=str,
)
def test_encode_gives_the_same_of_the_same_type(both, options):
    given = {"inputs": TEXTS} if "sentences" not in options else {}
    agree(*(model.encode(**given, **options) for model in both))
    if given:
        agree(*(model.encode(TEXTS[0], **options) for model in both))


def test_states_and_features(both):
    agree(*(model.encode(TEXTS, output_value="token_embeddings") for model in both))
    ours, other = (model.encode(TEXTS[0], prompt="q: ", output_value=None) for model in both)
    assert set(ours) == set(other)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(ours[name], other[name])
    agree(ours["sentence_embedding"], other["sentence_embedding"])
    ours, other = (model.preprocess(TEXTS) for model in both)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(ours[name], other[name])
    with torch.no_grad():
        ours, other = (m(f)["sentence_embedding"] for m, f in zip(both, (ours, other), strict=True))
    agree(ours, other)


def test_rows_filled_up_on_the_left(both):
    """The same vectors of the same rows; and `encode` gives that of a text alone."""
    for model in both:
        model.tokenizer.padding_side = "left"
    try:
        ours, other = (model.preprocess(TEXTS[:2]) for model in both)
        for name in ("input_ids", "attention_mask", "token_type_ids"):
            assert torch.equal(ours[name], other[name])
        with torch.no_grad():
            rows = zip(both, (ours, other), strict=True)
            agree(*(model(own)["sentence_embedding"] for model, own in rows))
        agree(both[0].encode(TEXTS[:2]), np.stack([both[1].encode(text) for text in TEXTS[:2]]))
    finally:
        for model in both:
            model.tokenizer.padding_side = "right"


@pytest.mark.parametrize("kind", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities_are_tensors_of_arrays_and_of_tensors(both, kind):
    ours, other = (copy.copy(model) for model in both)
    ours.similarity_fn_name = other.similarity_fn_name = SimilarityFunction(kind)
    x = other.encode(TEXTS)
    for given in (x, torch.from_numpy(x), list(torch.from_numpy(x))):
        agree(ours.similarity(given, given), other.similarity(given, given), 100 * FUNCTION)
        agree(ours.similarity_pairwise(given, given), other.similarity_pairwise(given, given), 1e-5)
    assert float(ours.similarity(x[0], x[1])) == pytest.approx(float(other.similarity(x[0], x[1])))


def test_tokenizers(both):
    ours, other = (model.tokenizer for model in both)
    options = {"padding": True, "truncation": True, "return_tensors": "pt"}
    for texts in (TEXTS, [("a cat", "a dog"), ("one", "two three")], "one text"):
        mine, its = (tokenizer(texts, **options) for tokenizer in (ours, other))
        assert set(mine) == set(its)
        for name in its:
            assert mine[name].reshape(its[name].shape).tolist() == its[name].tolist()
    for name in (
        *("vocab_size", "cls_token", "sep_token_id", "pad_token_id", "mask_token", "unk_token_id"),
        *("model_max_length", "padding_side", "truncation_side", "is_fast"),
    ):
        assert getattr(ours, name) == getattr(other, name), name
    ids = other("A cat sleeps.")["input_ids"]
    assert ours("A cat sleeps.")["input_ids"] == ids
    assert ours.convert_ids_to_tokens(ids) == other.convert_ids_to_tokens(ids)
    assert ours.decode(ids, skip_special_tokens=True) == other.decode(ids, skip_special_tokens=True)
    assert ours.tokenize("unbelievable cats") == other.tokenize("unbelievable cats")
    assert ours.get_vocab() == other.get_vocab()


def test_an_evaluator_of_theirs_scores_both_alike(both):
    corpus = {str(i): f"{word} and {i}" for i, word in enumerate("cat dog bread oven rain".split())}
    evaluator = InformationRetrievalEvaluator(
        {"a": "a cat", "b": "baking"}, corpus, {"a": {"0"}, "b": {"2", "3"}}, write_csv=False
    )
    found = evaluator(both[0])
    assert found == pytest.approx(evaluator(both[1]))
    assert len(found) > 9
    assert both[0].model_card_data.metrics


def test_functions_of_vectors_are_theirs():
    x = torch.randn(301, 24, generator=torch.Generator().manual_seed(1))
    ours, other = (
        module.semantic_search(x[:7], x, top_k=5) for module in (compat.util, theirs.util)
    )
    assert [[r["corpus_id"] for r in row] for row in ours] == [
        [r["corpus_id"] for r in row] for row in other
    ]
    agree(compat.util.cos_sim(x, x), theirs.util.cos_sim(x, x), FUNCTION * 10)
    y = x[torch.arange(301) % 5] + 0.3 * x
    assert list(map(sorted, compat.util.community_detection(y, 0.8, 5))) == list(
        map(sorted, theirs.util.community_detection(y, 0.8, 5))
    )
    ours, other = (m.paraphrase_mining_embeddings(x, top_k=3) for m in (compat.util, theirs.util))
    assert [row[1:] for row in ours[:99]] == [row[1:] for row in other[:99]]
    assert sorted(row[1:] for row in ours) == sorted(row[1:] for row in other)


def test_the_search_without_torch_finds_what_theirs_finds():
    x = np.random.default_rng(2).normal(size=(1009, 37)).astype(np.float32)
    scores, rows = search.top_k(x[:11], x, 7)
    other = theirs.util.semantic_search(torch.from_numpy(x[:11]), torch.from_numpy(x), top_k=7)
    assert rows.tolist() == [[r["corpus_id"] for r in row] for row in other]
    assert np.abs(scores - [[r["score"] for r in row] for row in other]).max() < FUNCTION


def test_activations_of_a_cross_encoder_may_be_modules_of_torch(tmp_path):
    from tests.models import scored, write_folder

    folder = write_folder(tmp_path, tensors=scored())
    model = compat.CrossEncoder(str(folder))
    pairs = [("a b", "c d"), ("x", "y z")]
    logits = model.predict(pairs, activation_fn=torch.nn.Identity())
    found = model.predict(pairs, activation_fn=torch.nn.Sigmoid(), convert_to_tensor=True)
    agree(found, torch.sigmoid(torch.from_numpy(logits)))
    assert isinstance(model.predict(pairs, convert_to_numpy=False)[0], torch.Tensor)


def test_bfloat16_becomes_float32_in_numpy():
    x = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    assert tensors.as_numpy(x).dtype == np.float32
    assert tensors.as_numpy([x, x]).shape == (2, 3)


PAIRS = [("what is a cat?", "A cat is an animal."), ("who?", "nobody " * 300), ("one", "")]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt_name": "query", "convert_to_tensor": True},
        {"truncate_dim": 64, "normalize_embeddings": True, "batch_size": 2},
    ],
    ids=str,
)
def test_pairs_are_read_together(both, options):
    for given in (PAIRS, np.array(PAIRS), [PAIRS[0], TEXTS[1], PAIRS[2]]):
        agree(*(model.encode(given, **options) for model in both))


def test_states_and_features_of_pairs(both):
    agree(*(model.encode(PAIRS, output_value="token_embeddings") for model in both))
    ours, other = (model.encode(PAIRS[:1], prompt="q: ", output_value=None)[0] for model in both)
    assert set(ours) == set(other)
    for name in ("input_ids", "attention_mask", "token_type_ids", "prompt_length"):
        assert np.array_equal(ours[name], other[name])
    agree(ours["sentence_embedding"], other["sentence_embedding"])


def test_a_model_is_put_together_of_their_modules(minilm, tmp_path):
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    def modules():
        return [Transformer(str(minilm), max_seq_length=64), Pooling(384, "cls"), Normalize()]

    ours, other = (
        kind(modules=modules(), device="cpu", prompts={"query": "q: "})
        for kind in (compat.SentenceTransformer, theirs.SentenceTransformer)
    )
    assert len(ours) == 3
    assert ours.max_seq_length == 64
    agree(*(model.encode_query(TEXTS) for model in (ours, other)))
    with pytest.raises(InputTypeError, match="no module of sentence-transformers"):
        compat.SentenceTransformer(modules=[torch.nn.Linear(3, 3)])
    ours.native.save_pretrained(tmp_path)
    agree(compat.SentenceTransformer(tmp_path).encode(TEXTS), other.encode(TEXTS))


def test_prompts_of_a_cross_encoder(tmp_path):
    from tests.models import scored, write_folder

    folder = write_folder(tmp_path, tensors=scored())
    options = {"prompts": {"q": "b c "}, "default_prompt_name": "q", "device": "cpu"}
    pairs = [("a b", "c d"), ("x", "y z")]
    ours, other = (
        kind(str(folder), **options).predict(pairs, activation_fn=torch.nn.Identity())
        for kind in (compat.CrossEncoder, theirs.CrossEncoder)
    )
    np.testing.assert_allclose(ours, other, atol=ENCODER)


def test_words_rows_and_lists_are_taken_and_refused_as_theirs(both):
    ours, other = (model.tokenizer for model in both)
    words = {"is_split_into_words": True, "return_tensors": "pt"}
    for given in ([["a", "cats", "c"]], ["a", "cats"], [(["a"], ["b", "c"])]):
        mine, its = (tokenizer(given, **words) for tokenizer in (ours, other))
        for name in its:
            assert mine[name].tolist() == its[name].tolist()
    for rows in (
        {"input_ids": [[1, 2], [3]]},
        [{"input_ids": [1, 2]}, {"input_ids": [3]}],
        {"input_ids": [1, 2], "attention_mask": [1, 1]},
    ):
        mine, its = (tokenizer.pad(rows, pad_to_multiple_of=4) for tokenizer in (ours, other))
        assert dict(mine) == dict(its)
    for rows in (
        {"input_ids": [torch.tensor([1, 2]), torch.tensor([3])]},
        [{"input_ids": np.array([1, 2]), "label": 1}, {"input_ids": np.array([3]), "label": 0}],
        [{"input_ids": [1, 2], "words": [7]}, {"input_ids": [3], "words": [7, 8]}],
        {"input_ids": torch.tensor([1, 2])},
    ):
        mine, its = (tokenizer.pad(copy.copy(rows)) for tokenizer in (ours, other))
        assert set(mine) == set(its)
        for name in its:
            assert type(mine[name]) is type(its[name])
            if not isinstance(its[name], list):
                mine[name], its[name] = mine[name].tolist(), its[name].tolist()
            assert mine[name] == its[name]
    for options in ({}, {"truncation": False}, {"padding": "max_length"}):
        mine, its = (
            tokenizer("one two three four", max_length=5, **options) for tokenizer in (ours, other)
        )
        assert mine["input_ids"] == its["input_ids"]
    for util in (compat.util, theirs.util):
        assert util.semantic_search([], []) == [[]]
        assert util.semantic_search(np.ones((2, 2), np.float32), []) == [[], []]
        with pytest.raises(TypeError):
            util.truncate_embeddings([[1.0, 2.0]], 1)
