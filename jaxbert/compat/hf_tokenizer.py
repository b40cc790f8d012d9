"""A tokenizer in the manner of transformers, for code that touches model.tokenizer.

Source: transformers 5, tokenization_utils_base.py, for names and what they give.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.compat.tensors import as_numpy, as_tensor
from jaxbert.errors import InputError, InputTypeError, shown
from jaxbert.text.tokenizer import SPECIAL, Tokenizer


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


class HuggingFaceTokenizer:
    """A model's tokenizer under transformers' names; changes of it change what is encoded."""

    is_fast = True

    def __init__(self, model: Any) -> None:
        """model has a Tokenizer and a max_seq_length."""
        self._model = model
        self.padding_side = "right"

    @property
    def own(self) -> Tokenizer:
        """The tokenizer that the model uses."""
        tokenizer: Tokenizer = self._model.tokenizer
        return tokenizer

    @property
    def backend_tokenizer(self) -> Any:
        """The tokenizer of the tokenizers library."""
        return self.own.backend

    _tokenizer = backend_tokenizer

    @property
    def truncation_side(self) -> str:
        """Where long texts are cut."""
        return self.own.side

    @property
    def model_max_length(self) -> int:
        """The most tokens of a text, special tokens included."""
        return int(self._model.max_seq_length)

    @model_max_length.setter
    def model_max_length(self, tokens: int) -> None:
        self._model.max_seq_length = tokens

    @property
    def name_or_path(self) -> str:
        """The folder that the files came from; empty if from none."""
        return str(self.own.folder or "")

    # --- tokens and ids ----------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of tokens, added ones included."""
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def vocab_size(self) -> int:
        """The number of tokens without those that were added."""
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=False))

    def get_vocab(self) -> dict[str, int]:
        """The ids of all tokens."""
        vocabulary: dict[str, int] = self.backend_tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary

    vocab = property(get_vocab)

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a token, or of each of a list; that of the unknown one for none."""
        if isinstance(tokens, str):
            found = self.backend_tokenizer.token_to_id(tokens)
            return self.unk_token_id if found is None else found
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or of each of a list."""
        if np.ndim(as_numpy(ids)) == 0:
            return self.backend_tokenizer.id_to_token(int(ids))
        special = set(self.all_special_ids) if skip_special_tokens else set()
        return [
            self.backend_tokenizer.id_to_token(int(i))
            for i in as_numpy(ids)
            if int(i) not in special
        ]

    def tokenize(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """The tokens of one text."""
        tokens: list[str] = self.convert_ids_to_tokens(
            self.encode(text, add_special_tokens=add_special_tokens)
        )
        return tokens

    def encode(self, text: str, text_pair: str | None = None, **options: Any) -> Any:
        """The ids of one text, or of a pair of them."""
        return self(text, text_pair, **options)["input_ids"]

    def decode(self, ids: Any, skip_special_tokens: bool = False, **more: Any) -> str:
        """The text that ids stand for."""
        plain = [int(i) for i in np.atleast_1d(as_numpy(ids))]
        return str(self.backend_tokenizer.decode(plain, skip_special_tokens=skip_special_tokens))

    def batch_decode(self, ids: Any, **options: Any) -> list[str]:
        """The text of each row of ids."""
        return [self.decode(row, **options) for row in ids]

    def special(self, name: str) -> str | None:
        """The special token of a name, such as cls_token, where the vocabulary has it."""
        known = self.get_vocab()
        return next((token for token in SPECIAL[name] if token in known), None)

    def __getattr__(self, name: str) -> Any:
        """cls_token, cls_token_id and the others: special tokens and their ids, or None."""
        token = name.removesuffix("_id")
        if token in SPECIAL:
            found = self.special(token)
            if name == token or found is None:
                return found
            return self.backend_tokenizer.token_to_id(found)
        raise AttributeError(
            f"the tokenizer of jaxbert.compat has no {name}; load one of transformers with "
            "AutoTokenizer.from_pretrained where you need it"
        )

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens that the vocabulary has."""
        return [token for name in SPECIAL if (token := self.special(name)) is not None]

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of those special tokens."""
        ids: list[int] = self.convert_tokens_to_ids(self.all_special_tokens)
        return ids

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many special tokens are put around a text, or a pair."""
        return int(self.backend_tokenizer.num_special_tokens_to_add(pair))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the tokenizer's files into a folder, which is made if it is not there."""
        os.makedirs(folder, exist_ok=True)
        self.own.save(Path(folder))

    # --- texts -------------------------------------------------------------------------------

    def __call__(
        self,
        text: Any,
        text_pair: Any = None,
        *,
        add_special_tokens: bool = True,
        padding: Any = False,
        truncation: Any = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool = True,
        return_token_type_ids: bool = True,
        return_offsets_mapping: bool = False,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
        **unknown: Any,
    ) -> Encoding:
        """Ids, token types and masks of texts or pairs: lists, or arrays for return_tensors.

        padding is True or "longest", or "max_length". return_tensors is "pt" or "np". Raises
        InputError for what is not offered here.
        """
        for name in unknown:
            raise InputError(
                f"the tokenizer of jaxbert.compat has no argument {name}; leave it out"
            )
        single = isinstance(text, str)
        texts = [text] if single else list(as_numpy(text))
        pairs = None if text_pair is None else [text_pair] if single else list(text_pair)
        if truncation not in (True, False, None, "longest_first", "do_not_truncate"):
            raise InputError(
                f"truncation is {shown(truncation)}; pass True, which cuts the longer of a pair"
            )
        cut = truncation in (True, "longest_first")
        most = (max_length or self.model_max_length) if cut else None
        rows = self.rows(texts, pairs, add_special_tokens, most)
        found: dict[str, list[Any]] = {
            "input_ids": [row.ids for row in rows],
            "token_type_ids": [row.type_ids for row in rows],
            "attention_mask": [row.attention_mask for row in rows],
            "offset_mapping": [row.offsets for row in rows],
            "special_tokens_mask": [row.special_tokens_mask for row in rows],
            "length": [len(row.ids) for row in rows],
        }
        wanted = {
            "token_type_ids": return_token_type_ids,
            "attention_mask": return_attention_mask,
            "offset_mapping": return_offsets_mapping,
            "special_tokens_mask": return_special_tokens_mask,
            "length": return_length,
        }
        found = {name: own for name, own in found.items() if wanted.get(name, True)}
        if padding not in (False, None, "do_not_pad") and rows:
            longest = max(len(row.ids) for row in rows)
            size = (max_length or self.model_max_length) if padding == "max_length" else longest
            found = {
                name: own if name == "length" else [self.padded(row, size, name) for row in own]
                for name, own in found.items()
            }
        if return_tensors is None:
            return Encoding({name: own[0] if single else own for name, own in found.items()})
        return Encoding({name: arrays(own, return_tensors) for name, own in found.items()})

    def rows(
        self, texts: Sequence[Any], pairs: Sequence[Any] | None, special: bool, most: int | None
    ) -> list[Any]:
        """What the tokenizers library says of each text, or pair of texts."""
        inputs: list[Any] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        for i, item in enumerate(inputs):
            parts = item if isinstance(item, tuple | list | np.ndarray) else (item,)
            if not all(isinstance(part, str) for part in parts):
                raise InputTypeError(f"text {i} is {shown(item)}; pass str, or a pair of str")
            inputs[i] = tuple(map(str, parts)) if len(parts) > 1 else str(parts[0])
        paired = bool(inputs) and isinstance(inputs[0], tuple)
        with self.own.lock:
            self.own.truncate(most, pair=paired)
            encodings: list[Any] = self.backend_tokenizer.encode_batch(
                inputs, add_special_tokens=special
            )
        return encodings

    def padded(self, row: Sequence[Any], size: int, name: str) -> list[Any]:
        """A row filled up to so many tokens, on the side where this tokenizer pads."""
        fill: Any = {"input_ids": self.pad_token_id or 0, "special_tokens_mask": 1}.get(name, 0)
        fill = (0, 0) if name == "offset_mapping" else fill
        more = [fill] * (size - len(row))
        return [*more, *row] if self.padding_side == "left" else [*row, *more]

    def pad(self, rows: Any, return_tensors: str | None = None, **more: Any) -> Encoding:
        """Rows of ids that were made before, filled up to the longest."""
        named = rows if isinstance(rows, dict) else {k: [row[k] for row in rows] for k in rows[0]}
        size = max(len(row) for row in named["input_ids"])
        found = {
            name: [self.padded(list(row), size, name) for row in own] for name, own in named.items()
        }
        if return_tensors is None:
            return Encoding(found)
        return Encoding({name: arrays(own, return_tensors) for name, own in found.items()})


def arrays(rows: Any, kind: str) -> Any:
    """Rows of equal length as one array of int64: "np" of NumPy, "pt" of torch."""
    if kind not in ("np", "pt"):
        raise InputError(f'return_tensors is {shown(kind)}; it must be "pt" or "np"')
    try:
        array = np.array(rows, np.int64)
    except ValueError as error:
        raise InputError("rows are of different lengths; pass padding=True") from error
    return as_tensor(array) if kind == "pt" else array
