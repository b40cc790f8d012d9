"""What became of a folder: refused, loaded as the same, loaded as a different one, or a fault."""

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from jaxbert import Embedder
from jaxbert.errors import JaxbertError, printable

# One in so many folders that load is run by XLA.
RUN = 40
# The longest message that may reach a terminal.
LONGEST = 2500
# Known and unknown words, every script, special tokens as text, lengths below and beyond any limit.
TEXTS = (
    "",
    " ",
    "the cat sat on the mat, all night.",
    "Stocks fell 17,3 % (the price!) ÀÉÎ naïve ﬁ",
    "zz qq 9 xylophone" + "a" * 30 + "b",
    "a" * 30 + "b",
    "a" * 250,
    "\u4e2d\u6587 \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22",
    "\U0001f600 \U0001f468\u200d\U0001f469 \u202e\u0627\u0644\u0639\u0631\u0628 e\u0301\u0323",
    "[CLS] the [MASK] sat [SEP] <s> </s> <mask> <unk> [UNK]",
    "\0\t\r\n\u2028\ufeff\u00a0\u00ad end",
    "the stock price fell on all mats " * 40,
)

# Texts so long that a tokenizer may be given a part of them only; one is taken for each folder.
LONG = tuple(
    part * (9000 // len(part))
    for part in (
        "the cat sat on the mat, all night. ",
        "a the  b cat\u00a0! \u4e2d\u6587\u4e2d ",
        "stock 17,3% [MASK] <mask> [SEP]price\n",
        "  e\u0301\u0323 \U0001f600 fell\t\t naïve ",
        "unbroken",
    )
)


class WrongIdsError(Exception):
    """A long text was cut to other tokens than its first."""


class NoVectorError(Exception):
    """What came out of `encode` is no vector."""


def fingerprint(embedder: Embedder) -> dict[str, Any]:
    """All that decides about vectors, by name, in a form that can be compared."""
    found: dict[str, Any] = {"config": embedder.encoder.config}
    for name, weight in embedder.encoder.weights().items():
        found[f"the weight {name}"] = np.asarray(weight).tobytes()
    for field in dataclasses.fields(embedder.stack):
        found[field.name] = frozen(getattr(embedder.stack, field.name))
    return found


def frozen(value: Any) -> Any:
    """A value whose arrays are bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return type(value).__name__, [frozen(getattr(value, field.name)) for field in fields]
    if isinstance(value, Mapping):
        return sorted((key, frozen(own)) for key, own in value.items())
    return [frozen(own) for own in value] if isinstance(value, list | tuple) else value


def tokens(embedder: Embedder) -> dict[str, Any]:
    """The ids and places of the texts, whole and cut; JaxbertError for a text without any."""
    found: dict[str, Any] = {}
    for most in (None, embedder.max_seq_length):
        ids, again = ([own.tolist() for own in embedder.tokenizer(TEXTS, most)] for _ in range(2))
        found[f"the ids of texts cut at {most}"] = ids
        found[f"the same ids again, cut at {most}"] = ids == again
    detailed = embedder.tokenizer.detailed(TEXTS)
    found["the places of tokens"] = [own.offsets.tolist() for own in detailed]
    for name in embedder.prompts:
        found[f"the tokens behind the prompt {name}"] = embedder.count_tokens("cat", name)
    return found


def check_cut(embedder: Embedder, text: str) -> None:
    """A long text must have the ids that the library gives all of it, cut."""
    own, most = embedder.tokenizer, embedder.max_seq_length
    ids = own([text], most)[0].tolist()
    backend = own.backend
    backend.enable_truncation(most, direction=own.side)
    if ids != backend.encode(text).ids:
        raise WrongIdsError(f"a long text {text[:20]!r}... is cut to other ids than its own")


def different(ours: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """The first part that differs; empty where none does."""
    for name in {**whole, **ours}:
        if name not in ours or name not in whole or ours[name] != whole[name]:
            return name
    return ""


@dataclasses.dataclass(frozen=True)
class Judged:
    """An outcome, and what was said or what differs."""

    outcome: str
    detail: str = ""


def open_model(model: Path) -> Embedder:
    """The public way in; warnings about inferred arithmetic are meant for people."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Embedder.from_pretrained(model)


def whole(model: Path) -> dict[str, Any]:
    """What an unspoiled folder is."""
    embedder = open_model(model)
    vectors = {"the vectors": [own.tobytes() for own in embedder.encode(list(TEXTS[2:4]))]}
    return fingerprint(embedder) | tokens(embedder) | vectors


def judge(model: Path, before: Mapping[str, Any], number: int) -> Judged:
    """Open a folder and compare it; of some numbers XLA encodes two texts, too."""
    try:
        embedder = open_model(model)
    except JaxbertError as error:
        return refusal("refused", error)
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        return foreign(error, "from_pretrained")
    before = dict(before)
    vectors = before.pop("the vectors")
    try:
        found = fingerprint(embedder) | tokens(embedder)
        check_cut(embedder, LONG[number % len(LONG)])
        if number % RUN == 0:
            found |= {"the vectors": encoded(embedder)}
            before |= {"the vectors": vectors}
    except JaxbertError as error:
        return refusal("late", error)
    except (NoVectorError, WrongIdsError) as error:
        return Judged("vector", str(error))
    except BaseException as error:  # as above
        return foreign(error, "encode")
    name = different(found, before)
    return Judged("different", name) if name else Judged("same")


def encoded(embedder: Embedder) -> list[bytes]:
    """The vectors of two texts; NoVectorError for what is none."""
    vectors = embedder.encode(list(TEXTS[2:4]))
    if vectors.shape != (2, embedder.get_embedding_dimension()):
        raise NoVectorError(f"vectors of the shape {vectors.shape}")
    if not np.isfinite(vectors).all() or not np.abs(vectors).max(axis=1).all():
        raise NoVectorError("a vector that is not finite, or of norm 0")
    return [own.tobytes() for own in vectors]


def refusal(outcome: str, error: JaxbertError) -> Judged:
    """A refusal in one printable sentence that is short; else a fault."""
    message = str(error)
    if not message or len(message) > LONGEST or message != printable(message, LONGEST):
        return Judged("message", f"{len(message)} characters: {printable(message, 200)}")
    return Judged(outcome, message)


def foreign(error: BaseException, where: str) -> Judged:
    """An exception that is not ours, with the last of our functions that it passed."""
    frames = [own.tb_frame.f_code for own in inspected(error)]
    ours = [code for code in frames if "/jaxbert/" in code.co_filename]
    place = f"{Path(ours[-1].co_filename).name}:{ours[-1].co_name}" if ours else where
    text = printable(str(error), 160)
    return Judged("foreign", f"{place}: {type(error).__name__}: {text}")


def inspected(error: BaseException) -> Iterator[TracebackType]:
    """The steps of a traceback, outermost first."""
    step = error.__traceback__
    while step is not None:
        yield step
        step = step.tb_next
