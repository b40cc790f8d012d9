"""What a key of a request may hold: texts, flags, numbers, words, token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxbert.errors import shown
from jaxbert.serve.wire.errors import RequestError
from jaxbert.serve.wire.keys import Schema, wrong


class Ids(NamedTuple):
    """Texts that came as token ids."""

    rows: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Text:
    """One text, which may be empty."""

    def read(self, value: Any, name: str) -> str:
        """The text itself, unchanged and uncut."""
        if not isinstance(value, str):
            raise wrong(value, name, "a text")
        return value

    def schema(self) -> Schema:
        """A string of any length."""
        return {"type": "string"}


@dataclass(frozen=True)
class Flag:
    """true or false, and no number."""

    def read(self, value: Any, name: str) -> bool:
        """The boolean itself; RequestError for 0 and 1."""
        if not isinstance(value, bool):
            raise wrong(value, name, "true or false")
        return value

    def schema(self) -> Schema:
        """A boolean, and nothing like it."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Whole:
    """An integer from low to high; true is none."""

    low: int
    high: int = 2**31 - 1

    def read(self, value: Any, name: str) -> int:
        """The integer itself, within the bounds."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(value, name, "an integer")
        if not self.low <= value <= self.high:
            raise RequestError(
                f"{name} is {value}; it must be from {self.low} to {self.high}", param=name
            )
        return value

    def schema(self) -> Schema:
        """An integer between both bounds."""
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Choice:
    """One of a few known words."""

    words: Sequence[str]

    def read(self, value: Any, name: str) -> str:
        """The word itself; RequestError lists all."""
        if not isinstance(value, str) or value not in self.words:
            raise RequestError(
                f"{name} is {shown(value)}; it must be one of: {', '.join(self.words)}",
                param=name.split("[")[0],
            )
        return value

    def schema(self) -> Schema:
        """An enumeration of the words."""
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True)
class Choices:
    """A list of some words, at most `most` of them; where `bare`, a word alone too."""

    words: Sequence[str]
    most: int
    bare: bool = False

    def read(self, value: Any, name: str) -> tuple[str, ...]:
        """The words, each of them once."""
        if self.bare and isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            raise wrong(value, name, "a list of words")
        one = Choice(self.words)
        found = dict.fromkeys(one.read(word, f"{name}[{i}]") for i, word in enumerate(value))
        if not value or len(value) > self.most:
            raise RequestError(
                f"{name} has {len(value)} words; send from 1 to {self.most}", param=name
            )
        return tuple(found)

    def schema(self) -> Schema:
        """A list of words, or a word alone."""
        one = Choice(self.words).schema()
        many = {"type": "array", "items": one, "minItems": 1, "maxItems": self.most}
        return {"anyOf": [one, many]} if self.bare else many


@dataclass(frozen=True)
class Texts:
    """A list of texts that is not empty; where `bare`, a text alone too; {"text"} counts as one."""

    bare: bool = True
    objects: bool = False

    def read(self, value: Any, name: str) -> tuple[str, ...]:
        """The texts in their order."""
        if self.bare and isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            raise wrong(
                value, name, "a text or a list of texts" if self.bare else "a list of texts"
            )
        if not value:
            raise RequestError(f"{name} is an empty list; send at least one text", param=name)
        return tuple(self.one(item, f"{name}[{i}]") for i, item in enumerate(value))

    def one(self, value: Any, name: str) -> str:
        """A text of the list."""
        if self.objects and isinstance(value, dict) and set(value) == {"text"}:
            value = value["text"]
        if not isinstance(value, str):
            wanted = 'a text or {"text": ...} alone' if self.objects else "a text"
            raise wrong(value, name, wanted)
        return value

    def schema(self) -> Schema:
        """A string, or a list of them."""
        one: Schema = {"type": "string"}
        if self.objects:
            as_object = {
                "type": "object",
                "properties": {"text": one},
                "required": ["text"],
                "additionalProperties": False,
            }
            one = {"anyOf": [one, as_object]}
        many = {"type": "array", "items": one, "minItems": 1}
        return {"anyOf": [{"type": "string"}, many]} if self.bare else many


@dataclass(frozen=True)
class Inputs(Texts):
    """Texts, or token ids: a list of integers, or a list of such lists."""

    def read(self, value: Any, name: str) -> Any:
        """The texts, or the Ids of texts."""
        first = value[0] if isinstance(value, list) and value else None
        if is_id(first):
            return Ids((ids(value, name),))
        if isinstance(first, list):
            return Ids(tuple(ids(row, f"{name}[{i}]") for i, row in enumerate(value)))
        return super().read(value, name)

    def schema(self) -> Schema:
        """Texts, or ids in one list or in several."""
        row = {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
            "minItems": 1,
        }
        rows = {"type": "array", "items": row, "minItems": 1}
        return {"anyOf": [*super().schema()["anyOf"], row, rows]}


def is_id(value: Any) -> bool:
    """Whether a JSON value can be a token id."""
    return isinstance(value, int) and not isinstance(value, bool)


def ids(value: Any, name: str) -> tuple[int, ...]:
    """A row of token ids. Raises RequestError."""
    if not isinstance(value, list) or not value or not all(map(is_id, value)):
        raise RequestError(
            f"{name} mixes token ids with something else; send texts", param=name.split("[")[0]
        )
    if not all(0 <= one < 2**31 for one in value):
        raise RequestError(f"{name} has an id that no vocabulary has", param=name.split("[")[0])
    return tuple(value)


@dataclass(frozen=True)
class Harmless:
    """A documented key that changes no number here: any value, or `only` those."""

    only: Sequence[Any] | None = None

    def read(self, value: Any, name: str) -> Any:
        """The value, of which nothing is made."""
        same = [one for one in self.only or () if type(one) is type(value) and one == value]
        if self.only is not None and not same:
            known = " or ".join(map(as_json, self.only))
            raise RequestError(
                f"{name} is {shown(value)}, which is not done here; leave it out or send {known}",
                param=name,
            )
        return value

    def schema(self) -> Schema:
        """Any value, or one of those."""
        return {} if self.only is None else {"enum": list(self.only)}


def as_json(value: Any) -> str:
    """A constant of this package as JSON writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(as_json, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
