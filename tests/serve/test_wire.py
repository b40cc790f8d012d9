"""Requests and answers beside examples written from the vendors' specifications."""

import json
from pathlib import Path

import numpy as np
import orjson
import pytest

from jaxbert.serve.answers import ANSWERS
from jaxbert.serve.app import as_json
from jaxbert.serve.body import parsed
from jaxbert.serve.routes import POSTS
from jaxbert.serve.wire import cohere, openai, rerank, tei
from jaxbert.serve.wire.errors import COHERE, OPENAI, TEI, RequestError
from jaxbert.serve.wire.keys import read, schema

EXAMPLES = json.loads((Path(__file__).parent / "examples.json").read_text(encoding="utf-8"))
ROWS = np.array([[0.5, -0.25, 1.0], [2.0, 0.0, -1.5]], np.float32)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: f"{one['path']} {one['about']}")
def test_documented_requests_are_understood(example):
    found = POSTS[example["path"]].read(example["request"])
    for name, value in example["means"].items():
        got = getattr(found, name)
        assert (list(got) if isinstance(got, tuple) else got) == value, name


def test_there_is_an_example_for_every_path():
    assert {example["path"] for example in EXAMPLES} == set(POSTS)


GOOD = {
    "/v1/embeddings": {"input": "a"},
    "/embeddings": {"input": "a"},
    "/embed": {"inputs": "a"},
    "/embed_all": {"inputs": "a"},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}},
    "/tokenize": {"inputs": "a"},
    "/v2/embed": {"texts": ["a"], "model": "m", "input_type": "search_query"},
    "/v1/embed": {"texts": ["a"]},
    "/rerank": {"query": "a", "texts": ["b"]},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v2/rerank": {"query": "a", "documents": ["b"]},
}


@pytest.mark.parametrize("path", GOOD)
def test_null_is_no_key_and_unknown_keys_are_refused(path):
    post, good = POSTS[path], GOOD[path]
    form = type(post.read(good))
    optional = {name: None for name in schema(form)["properties"] if name not in good}
    assert post.read(good | optional) == post.read(good)
    with pytest.raises(RequestError, match="'dimension' is not known here") as caught:
        post.read(good | {"dimension": 3})
    assert (caught.value.status, caught.value.param) == (400, "dimension")
    for name in schema(form)["required"]:
        missing = "documents" if name == "texts" and path == "/rerank" else name
        with pytest.raises(RequestError, match=f"{missing} is missing"):
            post.read({key: value for key, value in good.items() if key != name})


BAD = [
    ("/v1/embeddings", {"input": None}, "input is null"),
    ("/v1/embeddings", {"input": []}, "an empty list"),
    ("/v1/embeddings", {"input": 3}, "input is a number"),
    ("/v1/embeddings", {"input": ["a", None]}, r"input\[1\] is null"),
    ("/v1/embeddings", {"input": ["a", 3]}, r"input\[1\] is a number"),
    ("/v1/embeddings", {"input": [3, "a"]}, "mixes token ids"),
    ("/v1/embeddings", {"input": [3, True]}, "mixes token ids"),
    ("/v1/embeddings", {"input": [True]}, r"input\[0\] is a boolean"),
    ("/v1/embeddings", {"input": [[3], "a"]}, "mixes token ids"),
    ("/v1/embeddings", {"input": [[]]}, "mixes token ids"),
    ("/v1/embeddings", {"input": [-1]}, "no vocabulary"),
    ("/v1/embeddings", {"input": [{"image": "x"}]}, r"input\[0\] is an object"),
    ("/v1/embeddings", {"input": [{"text": "a", "image": "b"}]}, r"input\[0\] is an object"),
    ("/v1/embeddings", {"input": {"text": "a"}}, "input is an object"),
    ("/v1/embeddings", {"input": "a", "dimensions": True}, "dimensions is a boolean"),
    ("/v1/embeddings", {"input": "a", "dimensions": 1.0}, "dimensions is a number"),
    ("/v1/embeddings", {"input": "a", "dimensions": 0}, "from 1 to"),
    ("/v1/embeddings", {"input": "a", "dimensions": 2**31}, "from 1 to"),
    ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, "one of: float, base64"),
    ("/v1/embeddings", {"input": "a", "encoding_format": 1}, "one of: float, base64"),
    ("/v1/embeddings", {"input": "a", "embedding_type": ["float", "base64"]}, "from 1 to 1"),
    ("/v1/embeddings", {"input": "a", "embedding_type": []}, "from 1 to 1"),
    (
        "/v1/embeddings",
        {"input": "a", "embedding_type": "binary", "encoding_format": "float"},
        "different encodings",
    ),
    ("/v1/embeddings", {"input": "a", "normalized": 1}, "normalized is a number"),
    ("/v1/embeddings", {"input": "a", "truncate": "END"}, "truncate is a text"),
    ("/v1/embeddings", {"input": "a", "task": "x", "prompt_name": "y"}, "send one of them"),
    ("/v1/embeddings", {"input": [3], "late_chunking": True}, "for texts, not"),
    ("/v1/embeddings", {"input": "a", "return_multivector": True}, "leave it out or send false"),
    ("/v1/embeddings", {"input": "a", "return_multivector": 0}, "leave it out or send false"),
    ("/embed", {"inputs": "a", "truncation_direction": "up"}, "one of: Left"),
    ("/similarity", {"inputs": "a"}, "inputs is a text; send an object"),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, "an empty list"),
    ("/tokenize", {"inputs": [3]}, r"inputs\[0\] is a number"),
    ("/v2/embed", GOOD["/v2/embed"] | {"texts": "a"}, "texts is a text; send a list"),
    ("/v2/embed", GOOD["/v2/embed"] | {"truncate": True}, "one of: NONE"),
    ("/v2/embed", GOOD["/v2/embed"] | {"input_type": "image"}, "one of: search_document"),
    ("/v2/embed", GOOD["/v2/embed"] | {"embedding_types": ["float64"]}, "one of: float"),
    ("/rerank", {"query": "a", "texts": ["b"], "documents": ["c"]}, "both given"),
    ("/rerank", {"query": "a"}, "documents is missing"),
    ("/rerank", {"query": "a", "texts": [{"text": "b"}]}, r"texts\[0\] is an object"),
    ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "from 1 to"),
    ("/v1/rerank", {"query": "a", "documents": ["b"], "rank_fields": ["x"]}, r'\["text"\]'),
    ("/v1/rerank", {"query": ["a"], "documents": ["b"]}, "query is a list"),
]
BAD += [
    (path, document, "send a JSON object")
    for path in GOOD
    for document in (None, [], "a", 3, True, 0.5)
]


@pytest.mark.parametrize(("path", "document", "said"), BAD)
def test_what_is_not_understood_is_one_sentence(path, document, said):
    with pytest.raises(RequestError, match=said) as caught:
        POSTS[path].read(document)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"input": "\xc3"}',
        b'{"input": "\\ud800"}',
        b'{"input": NaN}',
        b'{"input": Infinity}',
        b'{"input": "a",}',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
        b'\xef\xbb\xbf{"input": "a"}',
        b'{"input": "a\n"}',
    ],
    ids=lambda body: repr(body[:18]),
)
def test_no_json_is_one_sentence(body):
    with pytest.raises(RequestError, match="no valid JSON") as caught:
        parsed(body)
    assert caught.value.code == "invalid_json"


def test_what_is_json_has_its_text():
    text = 'a\u0000b \U0001f600 \\ " é'
    assert parsed(json.dumps({"input": text}).encode()) == {"input": text}


def test_base64_is_little_endian_float32():
    """The bytes of 1.0 and -2.0 in IEEE 754, lowest first: 0000803f, 000000c0."""
    made = openai.response(np.array([[1.0, -2.0]], np.float32), "base64", "m", 3)
    assert made["data"][0]["embedding"] == "AACAPwAAAMA="


def test_openai_writes_every_vector_with_its_index():
    made = orjson.loads(as_json(openai.response(ROWS, "float", "m", 7)))
    assert made == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -0.25, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [2.0, 0.0, -1.5]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


def test_cohere_writes_vectors_by_types():
    bits = np.array([[5], [-128]], np.int8)
    found = cohere.response("n", "2", {"float": ROWS, "binary": bits}, ["a", "b"], 7)
    made = orjson.loads(as_json(found))
    assert made["embeddings"] == {"float": ROWS.tolist(), "binary": [[5], [-128]]}
    assert made["texts"] == ["a", "b"]
    assert made["meta"]["api_version"] == {"version": "2"}
    assert made["meta"]["billed_units"] == {"input_tokens": 7}
    assert made["response_type"] == "embeddings_by_type"
    floats = orjson.loads(as_json(cohere.response_floats("n", ROWS, ["a", "b"], 7)))
    assert floats["embeddings"] == ROWS.tolist()
    assert floats["response_type"] == "embeddings_floats"


def test_the_best_come_first_and_equals_keep_their_order():
    scores = np.array([0.25, 0.5, 0.25, 0.75], np.float32)
    assert [row["index"] for row in tei.ranked(scores, None)] == [3, 1, 0, 2]
    assert tei.ranked(scores, "wxyz")[0] == {"index": 3, "score": 0.75, "text": "z"}
    made = rerank.response("n", "1", "m", scores, 9, 2, ["w", "x", "y", "z"])
    assert made["results"] == [
        {"index": 3, "relevance_score": 0.75, "document": {"text": "z"}},
        {"index": 1, "relevance_score": 0.5, "document": {"text": "x"}},
    ]
    assert made["usage"]["total_tokens"] == 9
    bare = rerank.response("n", "2", "m", scores, 9, None, None)
    assert bare["results"][3] == {"index": 2, "relevance_score": 0.25}


def test_each_vendor_has_errors_of_its_shape():
    error = RequestError("no", status=429, code="queue_full", param="x")
    expected = {"message": "no", "type": "rate_limit_error", "param": "x", "code": "queue_full"}
    assert OPENAI.body(error) == {"error": expected}
    assert TEI.body(error) == {"error": "no", "error_type": "Overloaded"}
    assert COHERE.body(error) == {"message": "no", "code": "queue_full"}
    assert OPENAI.body(RequestError("no"))["error"]["type"] == "invalid_request_error"
    assert OPENAI.body(RequestError("no", status=503))["error"]["type"] == "server_error"


def test_models_are_listed_for_openai_and_for_cohere():
    own = {"endpoints": ["embed"], "context_length": 9}
    made = openai.models({"m": own}, 5)
    expected = {"id": "m", "object": "model", "created": 5, "owned_by": "jaxbert"}
    assert made["data"] == [expected]
    assert made["models"] == [{"name": "m", "finetuned": False, **own}]


def test_schemas_have_the_keys_of_the_forms():
    for path, post in POSTS.items():
        for form in post.forms:
            found = schema(form)
            assert found["additionalProperties"] is False
            assert set(found["required"]) <= set(found["properties"])
        assert path in ANSWERS
    dimensions = schema(openai.Embeddings)["properties"]["dimensions"]["anyOf"][0]
    assert dimensions == {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}


def test_read_names_the_key_of_an_inner_object():
    with pytest.raises(RequestError, match="'truncat' is not known here"):
        read(tei.Similarity, GOOD["/similarity"] | {"parameters": {"truncat": True}})
