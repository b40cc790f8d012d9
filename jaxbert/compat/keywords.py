"""The keywords of sentence-transformers' constructors and methods: what they mean here."""

from collections.abc import Mapping
from typing import Any

from jaxbert.errors import InputError, shown
from jaxbert.inference.outputs import check_device


def check_one_device(device: Any) -> None:
    """Raise InputError unless a device, also by its number as in torch, is of this platform."""
    number = isinstance(device, int) and not isinstance(device, bool)
    check_device(f"cuda:{device}" if number else device)


def check_devices_argument(device: Any) -> None:
    """Check the device, or each of a list of them: all are this process."""
    for one in device if isinstance(device, list | tuple) else [device]:
        if one is not None:
            check_one_device(one)


def dtype_of(model_kwargs: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """The dtype that model_kwargs ask for, and the others of them."""
    others = dict(model_kwargs or {})
    for key in ("torch_dtype", "dtype"):
        name = str(others.get(key)).removeprefix("torch.")
        if name == "bfloat16":
            del others[key]
            return "bfloat16", others
        if name in ("float16", "half"):
            raise InputError(f'{key} is float16, which has no place here; pass "bfloat16"')
    return "float32", others


def length_of(kwargs: Mapping[str, Any] | None) -> tuple[int | None, dict[str, Any]]:
    """The maximum length that the tokenizer's arguments ask for, and the others of them."""
    others = dict(kwargs or {})
    return others.pop("model_max_length", None), others


def token_of(token: Any) -> str | None:
    """The token as a str; True and False leave it to huggingface_hub."""
    return None if isinstance(token, bool) else token


def max_length_of(kwargs: dict[str, Any]) -> int | None:
    """The length that processing_kwargs of a call ask for, which are taken out of its keywords.

    Raises InputError for anything else in them.
    """
    given = kwargs.pop("processing_kwargs", None) or {}
    inner = (given.get("text") or {}) if isinstance(given, Mapping) else given
    text = dict(inner) if isinstance(inner, Mapping) else {"": inner}
    length = text.pop("max_length", None)
    if text.pop("truncation", True) is not True or text or set(given) - {"text"}:
        raise InputError(
            f"processing_kwargs is {shown(given)}; only max_length of text can be set here"
        )
    return length


def check_no_more(method: str, kwargs: Mapping[str, Any]) -> None:
    """Raise InputError for keywords that a method does not have, but for `task`."""
    for name in kwargs:
        if name != "task":
            raise InputError(f"{method} has no argument {shown(name)[1:-1]}; leave it out")
