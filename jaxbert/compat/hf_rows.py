"""Rows of tokens in the manner of transformers: taken apart by name, filled up, made arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxbert.compat.tensors import as_numpy, as_tensor, is_tensor
from jaxbert.errors import InputError, InputTypeError, shown

# What is filled up, and by what but for input_ids, which get the id of the padding token; other
# columns are left as they are, as in transformers.
FILLS = {"input_ids": 0, "attention_mask": 0, "token_type_ids": 0, "special_tokens_mask": 1}


class Encoding(dict[str, Any]):
    """The arrays of some texts by name; also as attributes, and `to` a device."""

    def __getattr__(self, name: str) -> Any:
        """The array of that name."""
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def to(self, device: Any) -> "Encoding":
        """The same with tensors on another device."""
        return Encoding(
            {name: own.to(device) if hasattr(own, "to") else own for name, own in self.items()}
        )


def named_rows(rows: Any) -> tuple[dict[str, list[Any]], bool, str | None]:
    """The rows by name from one dict or a list of them, whether it is one, and their kind.

    The kind of arrays is "pt", "np", or None for lists. Raises InputError for no rows, and for a
    column of another length than input_ids; InputTypeError for what holds none of those.
    """
    if isinstance(rows, list | tuple) and rows and isinstance(rows[0], Mapping):
        rows = {name: [row[name] for row in rows] for name in rows[0]}
    if isinstance(rows, list | tuple) and not rows:
        raise InputError("there are no rows to fill up; pass at least one")
    if not isinstance(rows, Mapping) or "input_ids" not in rows:
        raise InputTypeError(f"rows are {shown(rows)}; pass what the tokenizer gives")
    ids = rows["input_ids"]
    if not len(ids):
        raise InputError("there are no rows to fill up; pass at least one")
    kind = kind_of(ids if is_array(ids) else ids[0])
    named = {name: plain(own) for name, own in rows.items()}
    single = not isinstance(named["input_ids"][0], list)
    named = {name: [own] for name, own in named.items()} if single else named
    for name, own in named.items():
        if len(own) != len(named["input_ids"]):
            raise InputError(
                f"{name} has {len(own)} rows beside {len(named['input_ids'])} of input_ids; pass "
                "as many"
            )
    return named, single, kind


def is_array(value: Any) -> bool:
    """Whether a value is a NumPy array or a tensor."""
    return isinstance(value, np.ndarray) or is_tensor(value)


def kind_of(value: Any) -> str | None:
    """The kind of arrays that a value is."""
    return "pt" if is_tensor(value) else "np" if isinstance(value, np.ndarray) else None


def plain(value: Any) -> Any:
    """Lists of Python's numbers, of arrays and lists of them; rows may have different lengths."""
    if is_array(value):
        return as_numpy(value).tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def encoding_of(found: dict[str, list[Any]], single: bool, kind: str | None) -> Encoding:
    """Lists, those of one text alone where it was one; or arrays, which always have rows."""
    if kind is None:
        return Encoding({name: own[0] if single else own for name, own in found.items()})
    return Encoding({name: arrays(own, kind) for name, own in found.items()})


def arrays(rows: Any, kind: str) -> Any:
    """Rows of equal length as one array, "np" of NumPy or "pt" of torch; whole numbers as int64."""
    if kind not in ("np", "pt"):
        raise InputError(f'return_tensors is {shown(kind)}; it must be "pt" or "np"')
    try:
        array = np.array(rows)
    except ValueError as error:
        raise InputError("rows are of different lengths; pass padding=True") from error
    if array.dtype.kind not in "iufb":
        raise InputError(f"a column holds {shown(rows[0])}, which no array can hold; leave it out")
    array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
    return as_tensor(array) if kind == "pt" else array
