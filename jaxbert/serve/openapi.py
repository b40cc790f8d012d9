"""GET /openapi.json: requests from the dataclasses of the wire, answers from `answers.py`."""

from functools import cache
from typing import Any

from jaxbert import __version__
from jaxbert.serve import routes
from jaxbert.serve.answers import ANSWERS, ERRORS, GOT
from jaxbert.serve.wire.keys import Schema, schema

REFUSALS = {
    "400": "Not understood: one sentence, and the key at fault.",
    "401": "A key is asked for, and was missing or wrong.",
    "404": "No such model.",
    "405": "Asked with another method.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "429": "The queue is full: Retry-After says when to come again.",
    "500": "The server has failed: at this request alone, unless /health says so too.",
    "503": "Loading or draining: Retry-After says when to come again.",
}


@cache
def described() -> dict[str, Any]:
    """The whole description, OpenAPI 3.1."""
    paths: dict[str, Any] = {path: {"post": post(path)} for path in routes.POSTS}
    for path, about in routes.GETS.items():
        paths[path] = {"get": get(path, about)}
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    about = "One of the models."
    one = get(f"{routes.ONE_MODEL}{{model}}", about) | {"parameters": [name]}
    paths[f"{routes.ONE_MODEL}{{model}}"] = {"get": one}
    return {
        "openapi": "3.1.0",
        "info": {"title": "jaxbert serve", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }


def post(path: str) -> dict[str, Any]:
    """One path that takes JSON."""
    route = routes.POSTS[path]
    forms = [schema(form) for form in route.forms]
    body = forms[0] if len(forms) == 1 else {"anyOf": forms}
    return {
        "summary": route.about,
        "operationId": operation("post", path),
        "requestBody": {"required": True, "content": json(body)},
        "responses": {"200": answer(ANSWERS[path])} | refusals(path),
    }


def get(path: str, about: str) -> dict[str, Any]:
    """One path that takes no body."""
    kind, found = GOT[path]
    content = json(found) if kind == "application/json" else {kind: {"schema": found}}
    return {
        "summary": about,
        "operationId": operation("get", path),
        "responses": {"200": {"description": "The answer.", "content": content}} | refusals(path),
    }


def operation(method: str, path: str) -> str:
    """A name for programs that are made from the description."""
    words = "".join(c if c.isalnum() else "_" for c in path).strip("_") or "page"
    return f"{method}_{words}"


def json(found: Schema) -> dict[str, Any]:
    """The content of a body of JSON."""
    return {"application/json": {"schema": found}}


def answer(found: Schema) -> dict[str, Any]:
    """An answer of JSON, with the header that says what was cut."""
    about = "How many texts were cut to the model's length; absent if none."
    headers = {"x-jaxbert-truncated": {"description": about, "schema": {"type": "integer"}}}
    return {"description": "The answer.", "headers": headers, "content": json(found)}


def refusals(path: str) -> dict[str, Any]:
    """Every refusal of a path, in its vendor's shape."""
    route = routes.POSTS.get(path)
    families = ["openai"] if route is None else [route.family.name]
    if path == "/rerank":
        families = ["tei", "cohere"]
    shapes = [ERRORS[family] for family in families]
    if path == "/ready":
        shapes.append(GOT[path][1])
    shape = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    return {
        status: {"description": about, "content": json(shape)} for status, about in REFUSALS.items()
    }
