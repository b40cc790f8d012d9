"""The application by ASGI calls: what each endpoint asks of the queue, and every refusal."""

import asyncio
import base64
import json
import time

import numpy as np
import pytest

from jaxbert.errors import (
    ComputationError,
    InputError,
    QueueClosedError,
    QueueFullError,
    QueueTimeoutError,
)
from jaxbert.inference.quantise import Ranges
from jaxbert.inference.queue import Load
from jaxbert.serve.app import BodyLimits
from jaxbert.serve.cors import TAKEN, Cors
from jaxbert.serve.keys import ApiKeys
from jaxbert.serve.routes import GETS, POSTS
from jaxbert.serve.served import Rules
from tests.serve.fakes import WIDTH, Queue, Ranker, app, ask, call, vector
from tests.serve.fakes import embedder as fake_embedder
from tests.serve.test_wire import GOOD
from tests.tolerances import FUNCTION, close

LONG = "a b c d e f g h i j k l m"  # 15 tokens with the special ones, where 11 are taken


def unit(row):
    return row / np.linalg.norm(row)


def post(embedder, path, body, **more):
    """The JSON of an answer that must be 200, and what the queue was asked."""
    queue = Queue(embedder)
    got = ask(app(queue=queue, **more), "POST", path, body)
    assert got.status == 200, got.body
    return got.json, queue.calls[-1][1]


def test_embeddings_are_of_unit_length_in_their_order(embedder):
    texts = ["a b", "", "a\u0000b"]
    made, asked = post(embedder, "/v1/embeddings", {"input": texts, "model": "any"})
    assert [row["index"] for row in made["data"]] == [0, 1, 2]
    for row, text in zip(made["data"], texts, strict=True):
        close(np.array(row["embedding"], np.float32), unit(vector(text)), FUNCTION)
    assert made["model"] == "model/name"
    assert made["usage"] == {"prompt_tokens": 4 + 2 + 3, "total_tokens": 9}
    assert asked == {"prompt_name": None, "on_long": "truncate", "side": "end"}


def test_base64_is_the_same_bits_as_the_vectors(embedder):
    made, _ = post(embedder, "/v1/embeddings", {"input": "a", "encoding_format": "base64"})
    raw = base64.b64decode(made["data"][0]["embedding"])
    found = np.frombuffer(raw, "<f4")
    floats, _ = post(embedder, "/v1/embeddings", {"input": "a"})
    np.testing.assert_array_equal(found, np.array(floats["data"][0]["embedding"], np.float32))


def test_dimensions_are_cut_before_the_length_is_one(embedder):
    made, _ = post(embedder, "/v1/embeddings", {"input": "a", "dimensions": 7})
    row = np.array(made["data"][0]["embedding"], np.float32)
    close(row, unit(vector("a")[:7]), FUNCTION)
    raw, _ = post(embedder, "/v1/embeddings", {"input": "a", "dimensions": 7, "normalized": False})
    close(np.array(raw["data"][0]["embedding"], np.float32), vector("a")[:7], FUNCTION)


def test_bits_are_signs_eight_in_a_byte(embedder):
    body = {"input": "a", "embedding_type": "ubinary"}
    made, _ = post(embedder, "/v1/embeddings", body)
    expected = np.packbits(vector("a") > 0).tolist()
    assert made["data"][0]["embedding"] == expected
    signed, _ = post(embedder, "/v1/embeddings", body | {"embedding_type": ["binary"]})
    assert signed["data"][0]["embedding"] == [byte - 128 for byte in expected]


@pytest.mark.parametrize(
    ("keys", "prompt"),
    [
        ({}, None),
        ({"prompt_name": "topic"}, "topic"),
        ({"task": "retrieval.query"}, "query"),
        ({"task": "retrieval.passage"}, "document"),
        ({"task": "topic"}, "topic"),
    ],
)
def test_tasks_are_prompts(embedder, keys, prompt):
    made, asked = post(embedder, "/v1/embeddings", {"input": "a"} | keys)
    assert asked["prompt_name"] == prompt
    prefix = embedder.prompts.get(prompt, "")
    found = np.array(made["data"][0]["embedding"], np.float32)
    close(found, unit(vector(f"{prefix}a")), FUNCTION)


@pytest.mark.parametrize(
    ("path", "keys", "said"),
    [
        ("/v1/embeddings", {"task": "text-matching"}, "no prompt for the task 'text-matching'"),
        ("/v1/embeddings", {"prompt_name": "zebra"}, "no prompt named 'zebra'"),
        ("/embed", {"prompt_name": "zebra"}, "no prompt named 'zebra'"),
        ("/embed_all", {"prompt_name": "zebra"}, "no prompt named 'zebra'"),
        ("/tokenize", {"prompt_name": "zebra"}, "no prompt named 'zebra'"),
        ("/v2/embed", {"input_type": "clustering"}, "no prompt for the input_type 'clustering'"),
        ("/v1/embeddings", {"dimensions": 16}, "have 15 features; send 1 to 15"),
        ("/embed", {"dimensions": 16}, "have 15 features; send 1 to 15"),
        ("/v2/embed", {"output_dimension": 16}, "have 15 features; send 1 to 15"),
        ("/v2/embed", {"embedding_types": ["int8"]}, "int8 needs the range"),
        ("/v1/embed", {"embedding_types": ["float", "uint8"]}, "uint8 needs the range"),
        ("/v1/embeddings", {"input": [2, 5, 3]}, "check_embedding_ctx_length=False"),
        ("/v1/embeddings", {"late_chunking": True, "truncate": True}, "leave it out"),
        ("/embed", {"inputs": [[2, 5, 3]]}, "start the server with --accept-ids"),
        ("/embed_all", {"inputs": [[2, 5, 3]]}, "does not take"),
        ("/v1/embeddings", {"truncate": False, "input": LONG}, "15 tokens, and the maximum is 11"),
        ("/embed", {"truncate": False, "inputs": LONG}, "15 tokens, and the maximum is 11"),
        ("/v2/embed", {"truncate": "NONE", "texts": [LONG]}, "16 tokens, and the maximum is 11"),
        ("/rerank", {"raw_scores": True}, "those of a cross-encoder"),
        ("/v1/rerank", {"max_tokens_per_doc": 3}, "cut at the model's 11 tokens"),
        ("/embed", {"inputs": ["a"] * 2049}, "2049 texts, and the most is 2048"),
        ("/v1/rerank", {"documents": ["a"] * 2049}, "2049 texts, and the most is 2048"),
    ],
)
def test_what_this_model_cannot_do_is_one_sentence(embedder, path, keys, said):
    queue = Queue(embedder)
    query = {"input_type": "search_query"}
    keys = (query | keys) if path == "/v2/embed" else keys
    got = ask(app(queue=queue), "POST", path, GOOD[path] | keys)
    assert got.status == 400
    assert said in got.body.decode()
    shape = {"openai": "error", "tei": "error_type", "cohere": "message"}
    name = POSTS[path].family_of(GOOD[path]).name
    assert shape[name] in got.json


def test_a_model_without_prompts_answers_cohere_all_the_same(bare):
    for kind in ("search_query", "clustering"):
        made, asked = post(bare, "/v2/embed", GOOD["/v2/embed"] | {"input_type": kind})
        assert bare.prompts.get(asked.get("prompt_name"), "") == ""
        assert list(made["embeddings"]) == ["float"]
    got = ask(app(bare), "POST", "/v1/embeddings", {"input": "a", "task": "clustering"})
    assert got.status == 400


def test_documents_do_not_take_the_prompt_of_queries(tmp_path):
    """It is the default one; for documents every model has a prompt, be it empty."""
    model = fake_embedder(tmp_path, prompts={"query": "q "}, default_prompt_name="query")
    made, _ = post(model, "/v1/embeddings", {"input": "a", "task": "retrieval.passage"})
    close(np.array(made["data"][0]["embedding"], np.float32), unit(vector("a")), FUNCTION)
    made, _ = post(model, "/v1/embeddings", {"input": "a"})
    close(np.array(made["data"][0]["embedding"], np.float32), unit(vector("q a")), FUNCTION)


def test_cuts_are_said_and_sides_are_passed_on(embedder):
    application = app(embedder)
    got = ask(application, "POST", "/embed", {"inputs": [LONG, "a", LONG]})
    assert got.headers["x-jaxbert-truncated"] == "2"
    assert "x-jaxbert-truncated" not in ask(application, "POST", "/embed", {"inputs": "a"}).headers
    assert b"jaxbert_truncated_texts_total 2.0" in ask(application, "GET", "/metrics").body
    _, asked = post(embedder, "/embed", {"inputs": "a", "truncation_direction": "Left"})
    assert asked["side"] == "start"
    body = GOOD["/v2/embed"] | {"truncate": "START", "max_tokens": 9}
    _, asked = post(embedder, "/v2/embed", body)
    assert (asked["side"], asked["max_length"], asked["prompt_name"]) == ("start", 9, "query")
    _, asked = post(embedder, "/v2/embed", GOOD["/v2/embed"] | {"max_tokens": 99})
    assert (asked["side"], asked["max_length"]) == ("end", 11)


def test_the_operator_decides_what_happens_to_long_texts(embedder):
    strict = app(embedder, rules=Rules(on_long="error"))
    refused = ask(strict, "POST", "/v1/embeddings", {"input": LONG})
    assert refused.status == 400
    assert refused.json["error"]["code"] == "context_length_exceeded"
    assert "on_long" not in refused.json["error"]["message"]
    taken = ask(strict, "POST", "/v1/embeddings", {"input": LONG, "truncate": True})
    assert (taken.status, taken.headers["x-jaxbert-truncated"]) == (200, "1")


def test_the_parts_of_one_text_are_chunked_late(embedder):
    body = {"input": ["a. ", "b."], "late_chunking": True, "task": "retrieval.passage"}
    made, asked = post(embedder, "/v1/embeddings", body)
    assert asked == {"prompt_name": "document", "chunks": True}
    assert len(made["data"]) == 2


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([2, 31, 3], "has the token id 31, but the model has 31 tokens"),
        ([5, 6], "does not begin with the token ids [2] and end with [3]"),
        ([2], "does not begin with"),
        ([2, *[5] * 10, 3], "has 12 token ids, and the maximum is 11"),
    ],
)
def test_ids_that_are_no_text_of_the_model_are_refused(embedder, ids, said):
    application = app(embedder, rules=Rules(accept_ids=True))
    got = ask(application, "POST", "/v1/embeddings", {"input": [[2, 5, 3], ids]})
    assert got.status == 400
    assert f"input 1 {said}" in got.json["error"]["message"]


def test_ids_are_taken_where_the_operator_says_so(embedder):
    made, asked = post(
        embedder, "/v1/embeddings", {"input": [2, 5, 3]}, rules=Rules(accept_ids=True)
    )
    assert asked == {"ids": True}
    close(np.array(made["data"][0]["embedding"], np.float32), unit(vector("2 5 3")), FUNCTION)
    body = {"input": [2, 5, 3], "prompt_name": "query"}
    refused = ask(app(embedder, rules=Rules(accept_ids=True)), "POST", "/v1/embeddings", body)
    assert (refused.status, refused.json["error"]["param"]) == (400, "prompt_name")


def test_tei_answers_lists(embedder):
    made, _ = post(embedder, "/embed", {"inputs": ["a", "b"], "normalize": False})
    close(np.array(made, np.float32), np.stack([vector("a"), vector("b")]), FUNCTION)
    states, _ = post(embedder, "/embed_all", {"inputs": ["a", "b c"]})
    assert [np.shape(own) for own in states] == [(3, WIDTH), (4, WIDTH)]
    body = {"inputs": {"source_sentence": "a", "sentences": ["a", "b"]}}
    scores, _ = post(embedder, "/similarity", body)
    expected = [1.0, unit(vector("a")) @ unit(vector("b"))]
    close(np.array(scores, np.float32), np.array(expected, np.float32), FUNCTION)


def test_tokens_are_those_of_the_tokenizer(embedder):
    got = ask(app(embedder), "POST", "/tokenize", {"inputs": "B é"})
    (tokens,) = got.json
    assert tokens == [
        {"id": 2, "text": "[CLS]", "special": True, "start": None, "stop": None},
        {"id": 6, "text": "B", "special": False, "start": 0, "stop": 1},
        {"id": 9, "text": "é", "special": False, "start": 2, "stop": 3},
        {"id": 3, "text": "[SEP]", "special": True, "start": None, "stop": None},
    ]
    body = {"inputs": ["b"], "add_special_tokens": False, "prompt_name": "query"}
    (tokens,) = ask(app(embedder), "POST", "/tokenize", body).json
    assert [token["text"] for token in tokens] == ["q", "b"]


def test_cohere_answers_by_types(embedder):
    ranges = Ranges(np.full(WIDTH, -1.0), np.full(WIDTH, 1.0))
    types = ["float", "base64", "int8", "uint8", "binary", "ubinary"]
    body = GOOD["/v2/embed"] | {"embedding_types": types, "texts": ["a", "b"]}
    made, _ = post(embedder, "/v2/embed", body, rules=Rules(ranges=ranges))
    assert list(made["embeddings"]) == types
    rows = np.stack([unit(vector("q a")), unit(vector("q b"))])
    close(np.array(made["embeddings"]["float"], np.float32), rows, FUNCTION)
    signed, unsigned = made["embeddings"]["int8"], made["embeddings"]["uint8"]
    assert (np.array(unsigned) - 128).tolist() == signed
    assert np.abs(np.array(unsigned) - (rows + 1) * 127.5).max() < 1.5  # a step, and its rounding
    assert made["texts"] == ["a", "b"]
    bare, _ = post(embedder, "/v1/embed", {"texts": ["a"]})
    assert np.shape(bare["embeddings"]) == (1, WIDTH)
    by_type, _ = post(embedder, "/v1/embed", {"texts": ["a"], "embedding_types": ["ubinary"]})
    assert list(by_type["embeddings"]) == ["ubinary"]


def test_without_a_reranker_the_score_is_the_cosine(embedder):
    queue = Queue(embedder)
    body = {"query": "a", "documents": ["b", {"text": "c"}, "a"], "top_n": 2}
    got = ask(app(queue=queue), "POST", "/v1/rerank", body | {"return_documents": True})
    rows = np.stack([unit(vector(f"d {text}")) for text in "bca"])
    scores = rows @ unit(vector("q a"))
    best = np.argsort(-scores)[:2]
    assert [row["index"] for row in got.json["results"]] == best.tolist()
    found = [row["relevance_score"] for row in got.json["results"]]
    close(np.array(found, np.float32), scores[best], FUNCTION)
    assert got.json["results"][0]["document"] == {"text": "bca"[best[0]]}
    assert {asked["prompt_name"] for _, asked in queue.calls} == {"query", "document"}
    assert "cosine" in ask(app(queue=queue), "GET", "/info").json["jaxbert"]["rerank"]


def test_with_a_reranker_the_score_is_its_own(embedder):
    ranker = Ranker()
    application = app(embedder, ranker=ranker)
    got = ask(application, "POST", "/v2/rerank", {"query": "a", "documents": ["b", "ccc", "dd"]})
    assert [(row["index"], row["relevance_score"]) for row in got.json["results"]] == [
        (1, 3.0),
        (2, 2.0),
        (0, 1.0),
    ]
    assert got.json["model"] == "ranker/name"
    assert ranker.calls == [("a", ["b", "ccc", "dd"], {"on_long": "truncate"})]
    body = {"query": "a", "texts": ["b", "cc"], "return_text": True}
    assert ask(application, "POST", "/rerank", body).json == [
        {"index": 1, "score": 2.0, "text": "cc"},
        {"index": 0, "score": 1.0, "text": "b"},
    ]
    assert ranker.calls[-1][2] == {"on_long": "truncate", "activation_fn": "Sigmoid"}
    ask(application, "POST", "/rerank", body | {"raw_scores": True})
    assert ranker.calls[-1][2]["activation_fn"] == "Identity"
    left = body | {"truncation_direction": "Left"}
    assert ask(application, "POST", "/rerank", left).status == 400
    assert ask(application, "POST", "/rerank", left | {"truncate": False}).status == 200
    info = ask(application, "GET", "/info").json["jaxbert"]
    assert info["rerank"] == "scores of the cross-encoder ranker/name"
    names = [row["id"] for row in ask(application, "GET", "/v1/models").json["data"]]
    assert names == ["model/name", "ranker/name"]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_pairs_are_cut_only_where_that_is_allowed(embedder, path):
    """As TEI's clients send it: "truncate": false refuses no pair that is short enough."""
    rules = {"truncate": Rules(), "error": Rules(on_long="error")}
    lenient, strict = (app(embedder, ranker=Ranker(), rules=own) for own in rules.values())
    name = "texts" if path == "/rerank" else "documents"
    short, long = ({"query": "a", name: ["b", text]} for text in ("c", LONG))
    assert ask(lenient, "POST", path, long).headers["x-jaxbert-truncated"] == "1"
    assert ask(strict, "POST", path, short).status == 200
    said = b"text 1 has 17 tokens, and the maximum is 11; shorten it"
    refused = [ask(strict, "POST", path, long)]
    if name == "texts":
        assert ask(lenient, "POST", path, short | {"truncate": False}).status == 200
        assert ask(strict, "POST", path, long | {"truncate": True}).status == 200
        refused.append(ask(lenient, "POST", path, long | {"truncate": False}))
    for got in refused:
        assert (got.status, said in got.body) == (400, True), got.body
    if path == "/v2/rerank":
        assert got.json["code"] == "context_length_exceeded"


def test_names_of_other_models_are_refused_only_where_asked_for(embedder):
    body = {"input": "a", "model": "gpt"}
    assert ask(app(embedder), "POST", "/v1/embeddings", body).status == 200
    strict = app(embedder, rules=Rules(strict_model=True))
    refused = ask(strict, "POST", "/v1/embeddings", body)
    assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")
    assert ask(strict, "POST", "/v1/embeddings", body | {"model": "model/name"}).status == 200
    assert ask(strict, "POST", "/v1/embeddings", {"input": "a"}).status == 200
    assert ask(strict, "GET", "/v1/models/model/name").json["id"] == "model/name"
    assert ask(strict, "GET", "/v1/models/gpt").status == 404


def test_before_it_is_ready_it_says_when_to_come_again():
    loading = app(ready=False)
    assert ask(loading, "GET", "/health").json == {"status": "ok"}
    assert ask(loading, "GET", "/").status == 200
    for method, path in (
        ("GET", "/ready"),
        ("GET", "/info"),
        ("GET", "/v1/models"),
        *(("POST", path) for path in POSTS),
    ):
        got = ask(loading, method, path, GOOD.get(path, b""))
        assert (path, got.status, got.headers.get("retry-after")) == (path, 503, "5")
    assert b'jaxbert_refused_total{reason="loading"} 13.0' in ask(loading, "GET", "/metrics").body


def test_while_it_drains_it_answers_and_is_not_ready(embedder):
    application = app(embedder)
    before = ask(application, "GET", "/ready")
    assert before.status == 200
    assert "connection" not in before.headers
    application.state.drain()
    got = ask(application, "GET", "/ready")
    assert (got.status, got.json["phase"], got.headers["retry-after"]) == (503, "draining", "5")
    got = ask(application, "POST", "/embed", {"inputs": "a"})
    assert (got.status, got.headers["connection"]) == (200, "close")
    assert b"jaxbert_ready 0.0" in ask(application, "GET", "/metrics").body


def test_a_dead_lane_is_neither_healthy_nor_ready(embedder):
    queue = Queue(embedder)
    application = app(queue=queue)
    queue.healthy = False
    assert ask(application, "GET", "/health").status == 500
    assert ask(application, "GET", "/ready").json["phase"] == "failed"
    queue.error = QueueClosedError("the thread that computes has died")
    for path in ("/embed", "/v1/embeddings", "/v2/embed"):
        got = ask(application, "POST", path, GOOD[path])
        assert got.status == 500
        assert "retry-after" not in got.headers
    assert got.json["code"] == "failed"


@pytest.mark.parametrize(
    ("error", "status", "code", "again"),
    [
        (QueueFullError(2.2, 33.0, 30.0), 429, "queue_full", "3"),
        (QueueClosedError("closed"), 503, "draining", "5"),
        (QueueTimeoutError("late"), 503, "timeout", "5"),
        (ComputationError("text 0", 0), 500, "not_finite", None),
        (InputError("side"), 400, "invalid_input", None),
        (RuntimeError("secret"), 500, "failed", None),
    ],
)
def test_errors_of_the_queue_have_their_status(embedder, error, status, code, again):
    application = app(queue=Queue(embedder, error=error))
    headers = {"x-request-id": "mine-7"}
    got = ask(application, "POST", "/v1/embeddings", {"input": "a"}, headers)
    assert (got.status, got.json["error"]["code"]) == (status, code)
    assert got.headers.get("retry-after") == again
    if status == 429:
        assert got.headers["retry-after-ms"] == "2200"
    assert b"secret" not in got.body
    assert got.headers["x-request-id"] == "mine-7"
    line = b'jaxbert_requests_total{path="/v1/embeddings",status="%d"} 1.0' % status
    assert line in ask(application, "GET", "/metrics").body


def test_a_request_id_that_could_do_harm_is_replaced(embedder):
    for given in ("a\r\nb: c", "x" * 200, ""):
        got = ask(app(embedder), "GET", "/health", headers={"x-request-id": given})
        assert len(got.headers["x-request-id"]) == 32


def test_no_path_and_no_method(embedder):
    application = app(embedder)
    got = ask(application, "GET", "/v3/embeddings")
    assert (got.status, got.json["error"]["code"]) == (404, "unknown_path")
    for path in POSTS:
        got = ask(application, "GET", path)
        assert (got.status, got.headers["allow"]) == (405, "POST")
    for path in GETS:
        got = ask(application, "POST", path, {})
        assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")
        assert ask(application, "HEAD", path).status == 200
    assert b'path="/v3' not in ask(application, "GET", "/metrics").body


def test_keys(embedder, tmp_path):
    (tmp_path / "keys").write_text("one\ntwo\n")
    keys = ApiKeys.read(str(tmp_path / "keys"), "three, four")
    application = app(embedder, keys=keys)
    body = {"input": "a"}
    for key in ("one", "two", "three", "four"):
        headers = {"authorization": f"Bearer {key}"}
        assert ask(application, "POST", "/v1/embeddings", body, headers).status == 200
    for value in ("Bearer five", "Bearer ", "Basic one", "one", "Bearer one two", "Bearer ONE"):
        got = ask(application, "POST", "/v1/embeddings", body, {"authorization": value})
        assert (got.status, got.headers["www-authenticate"]) == (401, "Bearer"), value
    assert ask(application, "POST", "/embed", {"inputs": "a"}).json["error_type"] == "Validation"
    assert ask(application, "GET", "/info").status == 401
    for path in ("/", "/health", "/ready", "/metrics", "/openapi.json"):
        assert ask(application, "GET", path).status == 200


def test_a_key_is_asked_for_or_there_is_an_error(tmp_path):
    (tmp_path / "empty").write_text("\n \n")
    assert not ApiKeys.read(None, None)
    for file, variable in ((tmp_path / "empty", None), (None, " , "), (tmp_path / "no", None)):
        with pytest.raises(InputError):
            ApiKeys.read(None if file is None else str(file), variable)


def test_keys_are_compared_in_constant_time(monkeypatch):
    from jaxbert.serve import keys

    seen = []
    compare = lambda a, b: bool(seen.append((len(a), len(b)))) or a == b  # noqa: E731
    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    known = ApiKeys(["first", "second"])
    for shown in (b"Bearer first", b"Bearer x", b"Bearer " + b"x" * 999, None):
        seen.clear()
        known.allow(shown)
        assert seen == [(32, 32)] * 2  # all of them, always, as digests of one length


def test_pages_of_other_origins_may_not_ask_unless_they_are_named(embedder):
    body, origin = {"inputs": "a"}, {"origin": "https://a.example"}
    got = ask(app(embedder), "POST", "/embed", body, origin)
    assert not [name for name in got.headers if name.startswith("access-control")]
    assert ask(app(embedder), "OPTIONS", "/embed", headers=origin).status == 405
    named = app(embedder, cors=Cors(["https://a.example"]))
    got = ask(named, "POST", "/embed", body, origin)
    assert got.headers["access-control-allow-origin"] == "https://a.example"
    assert "x-jaxbert-truncated" in got.headers["access-control-expose-headers"]
    asked = ask(named, "OPTIONS", "/embed", headers=origin)
    assert asked.status == 204
    assert "authorization" in asked.headers["access-control-allow-headers"]
    names = "authorization,content-type,x-stainless-retry-count,x-stainless-runtime"
    for given, allowed in (
        (names, names),
        ("x-one, x-two", "x-one, x-two"),
        *(
            (bad, TAKEN.decode())
            for bad in ("x-one\r\nx-two: y", "x one", "", "x-one,", "a" * 4097)
        ),
    ):
        question = origin | {"access-control-request-headers": given}
        asked = ask(named, "OPTIONS", "/embed", headers=question)
        assert (asked.status, asked.headers["access-control-allow-headers"]) == (204, allowed)
    question |= {"origin": "https://b.example"}
    assert ask(named, "OPTIONS", "/embed", headers=question).status == 405
    other = ask(named, "POST", "/embed", body, {"origin": "https://b.example"})
    assert "access-control-allow-origin" not in other.headers
    assert other.headers["vary"] == "origin"
    everyone = app(embedder, cors=Cors("*"))
    got = ask(everyone, "POST", "/embed", body, origin)
    assert got.headers["access-control-allow-origin"] == "*"


LIMITS = BodyLimits(size=1000, seconds=0.2)
CHUNKED = {"transfer-encoding": "chunked"}


def test_bodies_are_bounded_announced_or_not(embedder):
    application = app(embedder, limits=LIMITS)
    got = ask(application, "POST", "/embed", b"x", {"content-length": "1001"})
    assert (got.status, got.headers["connection"]) == (413, "close")
    got = ask(application, "POST", "/embed", {}, CHUNKED, parts=[b"x" * 400] * 9)
    assert (got.status, got.headers["connection"]) == (413, "close")
    assert "1000 bytes" in got.json["error"]
    whole = json.dumps({"inputs": "x" * 980}).encode()
    assert len(whole) < 1000
    assert ask(application, "POST", "/embed", whole).status == 200


def test_a_body_that_does_not_come_is_not_waited_for(embedder):
    application = app(embedder, limits=LIMITS)
    begun = time.monotonic()
    got = ask(application, "POST", "/embed", {}, CHUNKED, parts=[b"{", 60.0, b"}"])
    assert (got.status, got.headers["connection"]) == (408, "close")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("path", POSTS)
def test_a_client_that_goes_away_cancels_its_work(embedder, path):
    queue = Queue(embedder, delay=30.0)
    application = app(queue=queue, ranker=None)
    body = GOOD[path]
    if path == "/tokenize":
        return  # takes no time that could be saved
    begun = time.monotonic()
    assert ask(application, "POST", path, body, leave=0.05) is None
    assert time.monotonic() - begun < 5
    assert queue.left >= 1  # begun and never finished
    line = b'jaxbert_requests_total{path="%b",status="499"} 1.0' % path.encode()
    assert line in ask(application, "GET", "/metrics").body


def test_a_client_that_goes_away_within_its_body_is_counted(embedder):
    application = app(embedder)

    async def gone():
        scope = {"type": "http", "method": "POST", "path": "/embed", "headers": []}
        messages = [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive():
            return messages.pop(0)

        async def send(message):
            raise AssertionError(message)

        await application(scope, receive, send)

    asyncio.run(gone())
    line = b'jaxbert_requests_total{path="/embed",status="499"} 1.0'
    assert line in ask(application, "GET", "/metrics").body


def test_one_slow_request_holds_up_no_other(embedder):
    async def both():
        slow = app(queue=Queue(embedder, delay=0.5))
        first = asyncio.ensure_future(call(slow, "POST", "/embed", {"inputs": "a"}))
        await asyncio.sleep(0.05)
        assert (await call(slow, "GET", "/health")).status == 200
        assert not first.done()
        assert (await first).status == 200

    asyncio.run(both())


def test_every_series_is_there_from_the_start():
    text = ask(app(ready=False), "GET", "/metrics").body.decode()
    for name in (
        'jaxbert_requests_total{path="/v1/embeddings",status="429"} 0.0',
        'jaxbert_request_seconds_count{path="/embed"} 0.0',
        "jaxbert_texts_total 0.0",
        "jaxbert_tokens_total 0.0",
        "jaxbert_slots_total 0.0",
        "jaxbert_truncated_texts_total 0.0",
        "jaxbert_queue_texts 0.0",
        "jaxbert_queue_tokens 0.0",
        "jaxbert_queue_seconds 0.0",
        "jaxbert_wait_seconds_count 0.0",
        'jaxbert_batch_seconds_count{length="512"} 0.0',
        "jaxbert_batch_texts_count 0.0",
        "jaxbert_cancelled_texts_total 0.0",
        'jaxbert_refused_total{reason="full"} 0.0',
        "jaxbert_compilations 0.0",
        "jaxbert_ready 0.0",
    ):
        assert f"{name}\n" in text, name


def test_metrics_show_the_queue_and_the_batches(embedder):
    queue, ranker = Queue(embedder), Ranker()
    application = app(queue=queue, ranker=ranker)
    queue.waits = Load(3, 17, 0.5)
    queue.compilations, ranker.compilations = 5, 2  # of all devices, which a model does not know
    application.metrics.batch(length=16, texts=5, tokens=41, slots=80, seconds=0.02)
    application.metrics.batch(length=9999, texts=1, tokens=9000, slots=9999, seconds=2.0)
    application.metrics.waited(0.3)
    application.metrics.cancelled(7)
    application.metrics.refused("full")
    text = ask(application, "GET", "/metrics").body.decode()
    for line in (
        "jaxbert_queue_texts 3.0",
        "jaxbert_queue_tokens 17.0",
        "jaxbert_queue_seconds 0.5",
        "jaxbert_texts_total 6.0",
        "jaxbert_tokens_total 9041.0",
        "jaxbert_slots_total 10079.0",
        'jaxbert_batch_seconds_count{length="16"} 1.0',
        'jaxbert_batch_seconds_count{length="more"} 1.0',
        "jaxbert_wait_seconds_count 1.0",
        "jaxbert_cancelled_texts_total 7.0",
        'jaxbert_refused_total{reason="full"} 1.0',
        "jaxbert_compilations 7.0",
        "jaxbert_ready 1.0",
    ):
        assert f"{line}\n" in text, line
    assert 'jaxbert_info{device="cpu",dtype="float32",model="model/name",revision="abc"' in text
    ready = ask(application, "GET", "/ready").json
    assert ready["queue"] == {"texts": 3, "tokens": 17, "seconds": 0.5}
    assert ready["tokens"] == 9041


def test_info_has_teis_fields(embedder):
    info = ask(app(embedder), "GET", "/info").json
    assert info["model_id"] == "model/name"
    assert info["max_input_length"] == 11
    assert info["max_client_batch_size"] == 2048
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["auto_truncate"] is True
    assert info["prompts"] == {"query": "q ", "document": "d ", "topic": "t "}
    assert info["jaxbert"]["width"] == WIDTH


def test_lifespan_and_websockets_of_other_servers(embedder):
    async def events(kind, messages):
        sent = []

        async def receive():
            return {"type": messages.pop(0)}

        async def send(message):
            sent.append(message["type"])

        await app(embedder)({"type": kind}, receive, send)
        return sent

    both = ("lifespan.startup", "lifespan.shutdown")
    found = asyncio.run(events("lifespan", list(both)))
    assert found == [f"{event}.complete" for event in both]
    assert asyncio.run(events("websocket", ["websocket.connect"])) == ["websocket.close"]
