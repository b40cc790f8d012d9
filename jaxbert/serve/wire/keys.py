"""The keys of a request: what each may hold, how it is read, and how openapi.json describes it.

A request is a frozen dataclass whose fields are made by `key`. A key that no field has is refused,
since one that is passed over might have changed a vector; what a vendor documents and what changes
nothing here is a field of kind `Harmless`.
"""

from dataclasses import MISSING, field, fields
from typing import Any, Protocol, TypeVar

from jaxbert.errors import printable, shown
from jaxbert.serve.wire.errors import RequestError

Request = TypeVar("Request")
Schema = dict[str, Any]


class Kind(Protocol):
    """What a key may hold."""

    def read(self, value: Any, name: str) -> Any:
        """The value as the field holds it. Raises RequestError, which names the key."""

    def schema(self) -> Schema:
        """The JSON schema of the values that `read` takes."""


def key(kind: Kind, default: Any = MISSING) -> Any:
    """A field of that kind; without a default the key must be there."""
    metadata = {"kind": kind}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def read(request: type[Request], document: Any) -> Request:
    """The request in a JSON document. Raises RequestError; null is as good as no key."""
    if not isinstance(document, dict):
        raise RequestError(f"the body is {title(document)}; send a JSON object")
    known = {one.name: one for one in fields(request)}  # type: ignore[arg-type]
    for name in document:
        if name not in known:
            raise RequestError(
                f"the key {shown(name)} is not known here; the keys are: {', '.join(known)}",
                code="unknown_key",
                param=printable(name, 80),
            )
    values = {}
    for name, one in known.items():
        value = document.get(name)
        if value is not None:
            values[name] = one.metadata["kind"].read(value, name)
        elif one.default is MISSING:
            said = "null" if name in document else "missing"
            raise RequestError(f"the key {name} is {said}; it must be given", param=name)
    return request(**values)


def schema(request: type[Any]) -> Schema:
    """The JSON schema of what `read` takes for a request."""
    properties, required = {}, []
    for one in fields(request):
        found = one.metadata["kind"].schema()
        if one.default is MISSING:
            required.append(one.name)
            properties[one.name] = found
        else:
            properties[one.name] = nullable(found)
    return {
        "type": "object",
        "title": request.__name__,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def nullable(found: Schema) -> Schema:
    """The schema of such a value or null."""
    return {"anyOf": [found, {"type": "null"}]} if found else {}


def title(value: Any) -> str:
    """What a JSON value is, for a sentence."""
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number")


def wrong(value: Any, name: str, wanted: str) -> RequestError:
    """The error for a value of another type."""
    return RequestError(f"{name} is {title(value)}; send {wanted}", param=name.split("[")[0])
