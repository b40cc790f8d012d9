"""jaxbert.mteb beside sentence-transformers in mteb: scores, prompts, one call for all texts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from jaxbert import Embedder
from jaxbert.errors import InputError
from jaxbert.mteb import MtebEncoder, MtebMissingError
from tests.parity.torch_models import save_model
from tests.tolerances import COMPANY, FUNCTION, GOLDEN_ENCODER, close, largest, norms

# mteb and what it stands on warn of each other.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

NAME = "jaxbert/small"
PROMPTS = {"query": "the query: ", "document": "the text of the cat: "}
# More than two batches of BATCH, one of them not full; lengths all mixed.
TEXTS = ["the cat", "a", "the text of a cat and of the cat", "query", "of", "ed ing ed", "The CAT"]
BATCH = 3


@pytest.fixture(scope="module")
def mteb(tmp_path_factory):
    """The package, which makes its folder of results where it is told to when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTEB_CACHE", str(tmp_path_factory.mktemp("mteb")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield pytest.importorskip("mteb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model with prompts, as sentence-transformers writes it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    base, own = (tmp_path_factory.mktemp(name) for name in ("base", "own"))
    transformer = Transformer(str(save_model(base, positions=37)))
    pooling = Pooling(transformer.get_embedding_dimension(), "mean")
    SentenceTransformer(modules=[transformer, pooling], prompts=PROMPTS, device="cpu").save(
        str(own)
    )
    return own


class Recorded(Embedder):
    """An Embedder that writes down what it is asked for."""

    def encode(self, inputs, prompt_name=None, prompt=None, *more, **options):
        self.__dict__.setdefault("calls", []).append((list(inputs), prompt_name, options))
        return super().encode(inputs, prompt_name, prompt, *more, **options)


@pytest.fixture
def embedder(folder):
    return Recorded.from_pretrained(folder)


@pytest.fixture
def encoder(mteb, embedder):
    return MtebEncoder(embedder, NAME)


def loader(texts, rows):
    """The texts as mteb hands them over."""
    from datasets import Dataset
    from torch.utils.data import DataLoader

    return DataLoader(Dataset.from_dict({"text": texts}), batch_size=rows)


def encoded(mteb, encoder, texts, kind=None, rows=BATCH, task="MockSTSTask", **options):
    """One call as mteb's tasks make it."""
    from mteb.mocks import ALL_MOCK_TASK_TEST_GRID
    from mteb.types import PromptType

    found = {own.metadata.name: own.metadata for own in ALL_MOCK_TASK_TEST_GRID}
    return encoder.encode(
        loader(texts, rows),
        task_metadata=found[task],
        hf_split="test",
        hf_subset="default",
        prompt_type=None if kind is None else PromptType(kind),
        **options,
    )


def scores(results):
    """All numbers of all tasks that ran: task, split, subset, name -> number."""
    return {
        (task, split, row["hf_subset"], name): value
        for task, result in results.items()
        if result is not None
        for split, rows in result.scores.items()
        for row in rows
        for name, value in row.items()
        if isinstance(value, int | float)
    }


def test_every_text_task_has_the_scores_of_sentence_transformers(mteb, encoder, folder):
    from sentence_transformers import SentenceTransformer

    got = mteb.mock_run(encoder)
    assert got.all_passed, got.to_markdown()
    theirs = mteb.SentenceTransformerEncoderWrapper(SentenceTransformer(str(folder), device="cpu"))
    expected = mteb.mock_run(theirs)
    assert sum(result is not None for result in got.task_results.values()) == 28
    mine, their = scores(got), scores(expected)
    assert mine.keys() == their.keys()
    far = {
        key: (mine[key], their[key])
        for key in mine
        if mine[key] != pytest.approx(their[key], abs=GOLDEN_ENCODER, nan_ok=True)
    }
    assert not far


def test_all_texts_go_through_one_call(mteb, encoder, embedder):
    got = encoded(mteb, encoder, TEXTS)
    ((texts, prompt_name, options),) = embedder.calls
    assert (texts, prompt_name, options) == (TEXTS, None, {})
    np.testing.assert_array_equal(got, embedder.encode(TEXTS))
    assert len(np.unique(got, axis=0)) == len({text.lower() for text in TEXTS})


@pytest.mark.parametrize("rows", [1, BATCH, 32])
def test_the_batches_of_the_loader_change_nothing(mteb, encoder, embedder, rows):
    got = encoded(mteb, encoder, TEXTS, rows=rows)
    np.testing.assert_array_equal(got, embedder.encode(TEXTS))


def test_equal_texts_have_equal_vectors(mteb, encoder, embedder):
    repeated = [*TEXTS, "the cat and the cat " * 7, *TEXTS[::-1], TEXTS[0]]
    got = encoded(mteb, encoder, repeated)
    close(got, embedder.encode(repeated), COMPANY, norms)
    assert len(np.unique(got, axis=0)) == len({text.lower() for text in repeated})
    ((texts, _, _), _) = embedder.calls
    assert texts == repeated[:8]


def test_where_places_of_texts_count_all_are_embedded(mteb, encoder):
    """Reports of long texts, and vectors of tokens, go by the place of a text among all."""
    with pytest.raises(InputError, match="text 3 has"):
        encoded(mteb, encoder, ["a", "a", "a", "b " * 600], on_long="error")


def test_queries_and_documents_get_their_own_prompts(mteb, encoder, embedder):
    vectors = {kind: encoded(mteb, encoder, TEXTS, kind) for kind in (None, *PROMPTS)}
    for kind, prompt in PROMPTS.items():
        expected = embedder.encode([prompt + text for text in TEXTS])
        close(vectors[kind], expected, COMPANY, norms)
    close(vectors[None], embedder.encode(TEXTS), COMPANY, norms)
    apart = [
        np.abs(vectors[a] - vectors[b]).max(axis=1).min()
        for a, b in ((None, "query"), (None, "document"), ("query", "document"))
    ]
    assert min(apart) > 1000 * FUNCTION


@pytest.mark.parametrize(("kind", "prompt_name"), [("document", "passage"), ("query", None)])
def test_a_model_with_a_prompt_for_passages_uses_it_for_documents_alone(
    mteb, embedder, kind, prompt_name
):
    embedder.prompts = {"passage": PROMPTS["document"]}
    encoded(mteb, MtebEncoder(embedder, NAME), TEXTS, kind)
    assert [name for _, name, _ in embedder.calls] == [prompt_name]


@pytest.mark.parametrize(
    ("names", "kind", "chosen"),
    [
        (("query", "Retrieval"), "query", "Retrieval"),
        (("query", "Retrieval", "Retrieval-query"), "query", "Retrieval-query"),
        (("Retrieval-query", "MockRetrievalTask"), "query", "MockRetrievalTask"),
        (("MockRetrievalTask", "MockRetrievalTask-query"), "query", "MockRetrievalTask-query"),
        (("MockRetrievalTask-query", "STS"), None, None),
        (("query", "Retrieval"), None, "Retrieval"),
    ],
)
def test_a_prompt_of_the_task_goes_before_that_of_its_kind(mteb, embedder, names, kind, chosen):
    embedder.prompts = {name: f"the {name}: " for name in names}
    encoded(mteb, MtebEncoder(embedder, NAME), TEXTS, kind, task="MockRetrievalTask")
    assert [prompt_name for _, prompt_name, _ in embedder.calls] == [chosen]


def test_retrieval_asks_for_queries_and_documents(mteb, encoder, embedder):
    from mteb.mocks.mock_tasks import MockRetrievalTask

    mteb.evaluate(encoder, MockRetrievalTask(), cache=None, encode_kwargs={"batch_size": 1})
    assert {prompt_name for _, prompt_name, _ in embedder.calls} == set(PROMPTS)
    assert [len(texts) for texts, _, _ in embedder.calls] == [2] * 4
    assert [options for _, _, options in embedder.calls] == [{"batch_size": 1}] * 4


def test_options_are_those_of_encode(mteb, encoder, embedder):
    options = {"batch_size": 2, "show_progress_bar": False, "normalize_embeddings": True}
    got = encoded(mteb, encoder, TEXTS, **options)
    assert embedder.calls[0][2] == options
    close(norms(got), 1.0, FUNCTION)
    many = [f"{a} {b}" for a in TEXTS for b in "abcdefghijklmno"]
    assert encoded(mteb, encoder, many, precision="int8").dtype == np.int8
    with pytest.raises(TypeError, match="nrmalize"):
        encoded(mteb, encoder, TEXTS, nrmalize=True)


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_packed_bits_are_refused(mteb, encoder, precision):
    with pytest.raises(InputError, match="CompressionWrapper"):
        encoded(mteb, encoder, TEXTS, precision=precision)


def test_bits_through_the_wrapper_of_mteb(mteb, encoder, embedder):
    from mteb.models import CompressionWrapper
    from mteb.types import OutputDType

    bits = encoded(mteb, CompressionWrapper(encoder, OutputDType.BINARY), TEXTS)
    np.testing.assert_array_equal(bits, embedder.encode(TEXTS) > 0)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity_is_that_of_the_model(mteb, embedder, name):
    embedder.similarity_fn_name = name
    encoder = MtebEncoder(embedder, NAME)
    vectors = embedder.encode(TEXTS)
    matrix = encoder.similarity(vectors[:2], vectors)
    assert matrix.shape == (2, len(TEXTS))
    np.testing.assert_array_equal(matrix, embedder.similarity(vectors[:2], vectors))
    pairs = encoder.similarity_pairwise(vectors[:2], vectors[2:4])
    close(pairs, np.diag(matrix[:, 2:4]), FUNCTION, largest(matrix))
    close(float(encoder.similarity(vectors[1], vectors[3])), matrix[1, 3], FUNCTION)
    assert encoder.mteb_model_meta.similarity_fn_name.value == name


def test_similarity_follows_the_description_as_the_indices_of_mteb_do(mteb, encoder, embedder):
    from mteb.models.model_meta import ScoringFunction

    vectors = embedder.encode(TEXTS)
    changed = {"similarity_fn_name": ScoringFunction.EUCLIDEAN}
    encoder.mteb_model_meta = encoder.mteb_model_meta.model_copy(update=changed)
    expected = -np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    close(encoder.similarity(vectors, vectors), expected, FUNCTION, largest(expected))
    encoder.mteb_model_meta.similarity_fn_name = ScoringFunction.MAX_SIM
    with pytest.raises(InputError, match="similarity_fn_name is 'MaxSim'"):
        encoder.similarity(vectors, vectors)
    encoder.mteb_model_meta.similarity_fn_name = None
    np.testing.assert_array_equal(
        encoder.similarity(vectors, vectors), embedder.similarity(vectors, vectors)
    )


def test_the_description(mteb, embedder):
    embedder.truncate_dim = 7
    meta = MtebEncoder(embedder, NAME, "5f").mteb_model_meta
    assert (meta.name, meta.revision, meta.framework) == (NAME, "5f", ["JAX"])
    assert (meta.embed_dim, meta.max_tokens) == (7, embedder.max_seq_length)
    mteb.models.ModelMeta.model_validate(meta.model_dump())  # create_empty checks nothing


def test_it_is_what_mteb_calls_an_encoder(mteb, encoder):
    assert isinstance(encoder, mteb.EncoderProtocol)


@pytest.mark.parametrize("name", ["small", "a/b/c", "/small", "jaxbert/", ""])
def test_a_name_without_an_organisation_is_refused(mteb, embedder, name):
    with pytest.raises(InputError, match="organisation/model"):
        MtebEncoder(embedder, name)


def test_without_mteb_one_sentence_names_the_extra(embedder, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "mteb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MtebMissingError, match=r'pip install "jaxbert\[mteb\]"') as caught:
        MtebEncoder(embedder, NAME)
    assert "\n" not in str(caught.value)


def test_importing_the_adapter_imports_neither_mteb_nor_torch():
    code = "import sys, jaxbert.mteb; print([m for m in ('mteb', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_sts_benchmark_through_mteb(mteb, minilm):
    folder = os.environ.get("JAXBERT_DATA")
    if not folder:
        pytest.skip("set JAXBERT_DATA to a folder that holds stsbenchmark-test.jsonl")
    lines = (Path(folder) / "stsbenchmark-test.jsonl").read_text(encoding="utf-8").splitlines()
    encoder = MtebEncoder(
        Embedder.from_pretrained(minilm), "sentence-transformers/all-MiniLM-L6-v2"
    )
    from tests.parity.local_tasks import sts

    results = mteb.evaluate(encoder, sts([json.loads(line) for line in lines]), cache=None)
    (row,) = results.task_results[0].scores["test"]
    # The published number has four digits behind the point.
    assert 100 * row["main_score"] == pytest.approx(82.0325, abs=5e-5)
    assert row["main_score"] == row["cosine_spearman"]
