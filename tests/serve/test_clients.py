"""The clients of others against a server on this machine: openai, LangChain, cohere, schemathesis.

Source of what each should see: the clients' own documentation.
"""

import gc
import warnings

import httpx
import numpy as np
import pytest

# What these clients leave open and deprecate is theirs.
pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]

cohere = pytest.importorskip("cohere", reason="cohere is of the extra named clients")
openai = pytest.importorskip("openai", reason="openai is of the extra named clients")
langchain = pytest.importorskip(
    "langchain_openai", reason="langchain-openai is of the extra named clients"
)
schemathesis = pytest.importorskip(
    "schemathesis", reason="schemathesis is of the extra named clients"
)
import hypothesis

from jaxbert import CrossEncoder, Embedder
from jaxbert.serve.openapi import described
from tests.models import GOLDEN, write_folder
from tests.serve.process import SECONDS, running
from tests.tolerances import COMPANY, close, norms

TEXTS = ["a b", "", "c d e f"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("served"),
        "jinabert-geglu",
        config_sentence_transformers={"prompts": {"query": "q ", "document": "d "}},
        sentence_bert_config={"max_seq_length": 13},
    )


@pytest.fixture(scope="module")
def server(folder):
    options = ("--rerank", GOLDEN / "bert-cross-encoder", "--warm", 13)
    with running(folder, *options, JAXBERT_API_KEYS="secret") as server:
        yield server.ready()


@pytest.fixture(scope="module")
def vectors(folder):
    embedder = Embedder.from_pretrained(folder)
    return lambda texts, **more: embedder.encode(texts, normalize_embeddings=True, **more)


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="secret", max_retries=0) as made:
        yield made


@pytest.fixture
def http():
    """What LangChain and cohere send with, which they would leave open."""
    with httpx.Client(timeout=SECONDS) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open():
    """Collect what clients have left open, before pytest makes an error of it at its end."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def same(rows, expected):
    close(np.array(rows, np.float32), expected, COMPANY, norms)


def test_openai(client, vectors):
    """Which asks for base64 where it is asked for nothing."""
    made = client.embeddings.create(model="any", input=TEXTS)
    same([row.embedding for row in made.data], vectors(TEXTS))
    assert made.usage.prompt_tokens == 4 + 2 + 6
    short = client.embeddings.create(
        model="any", input="a b", dimensions=7, encoding_format="float", user="me"
    )
    same([short.data[0].embedding], vectors(["a b"], truncate_dim=7))
    more = {"task": "retrieval.query"}
    made = client.embeddings.create(model="any", input=TEXTS, extra_body=more)
    same([row.embedding for row in made.data], vectors(TEXTS, prompt_name="query"))
    assert [model.id for model in client.models.list()] == ["served0", "bert-cross-encoder"]
    assert client.models.retrieve("served0").id == "served0"


def test_openai_understands_our_refusals(client):
    stranger = client.with_options(api_key="wrong")
    with pytest.raises(openai.AuthenticationError, match="key is missing or wrong"):
        stranger.embeddings.create(model="any", input="a")
    with pytest.raises(openai.BadRequestError, match="token ids") as caught:
        client.embeddings.create(model="any", input=[2, 5, 3])
    assert (caught.value.code, caught.value.param) == ("token_input", "input")
    assert caught.value.request_id
    with pytest.raises(openai.BadRequestError, match="have 15 features"):
        client.embeddings.create(model="any", input="a", dimensions=99)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_langchain(server, vectors, http):
    made = langchain.OpenAIEmbeddings(
        base_url=f"{server.url}/v1",
        api_key="secret",
        model="any",
        check_embedding_ctx_length=False,
        http_client=http,
    )
    same(made.embed_documents(TEXTS), vectors(TEXTS))
    same([made.embed_query("a b")], vectors(["a b"]))


def test_cohere(server, vectors, http):
    client = cohere.ClientV2(api_key="secret", base_url=server.url, httpx_client=http)
    made = client.embed(
        texts=TEXTS,
        model="any",
        input_type="search_document",
        embedding_types=["float", "ubinary"],
    )
    expected = vectors(TEXTS, prompt_name="document")
    same(made.embeddings.float_, expected)
    assert made.embeddings.ubinary == np.packbits(expected > 0, axis=-1).tolist()
    ranker = CrossEncoder.from_pretrained(GOLDEN / "bert-cross-encoder")
    scores = ranker.predict([("a b", text) for text in TEXTS])
    found = client.rerank(model="any", query="a b", documents=TEXTS, top_n=2).results
    best = np.argsort(-scores)[:2]
    assert [row.index for row in found] == best.tolist()
    close(np.array([row.relevance_score for row in found], np.float32), scores[best], COMPANY)
    with pytest.raises(cohere.errors.BadRequestError):
        client.embed(texts=TEXTS, model="any", input_type="image", embedding_types=["float"])


def test_the_older_cohere(server, vectors, http):
    client = cohere.Client(api_key="secret", base_url=server.url, httpx_client=http)
    made = client.embed(texts=TEXTS, model="any", input_type="search_query")
    same(made.embeddings, vectors(TEXTS, prompt_name="query"))
    found = client.rerank(model="any", query="a", documents=TEXTS, return_documents=True)
    assert {row.document.text for row in found.results} == set(TEXTS)
    assert "served0" in {model.name for model in client.models.list().models}


CHECKS = [
    getattr(schemathesis.checks, name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
        "allow_header_conformance",
    )
]
DESCRIPTION = schemathesis.openapi.from_dict(described())


@DESCRIPTION.parametrize()
@hypothesis.settings(max_examples=25, derandomize=True)
def test_any_request_that_can_be_made_of_the_description(case, server):
    """No answer of 5xx, and every answer is of a described status, type and shape.

    A request of the right shape may still be refused, for the model has limits of its own.
    """
    headers = {"authorization": "Bearer secret"}
    case.call_and_validate(base_url=server.url, headers=headers, checks=CHECKS)
