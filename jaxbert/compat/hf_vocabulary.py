"""The tokens and ids of a tokenizer in the manner of transformers.

Source: transformers 5, tokenization_utils_base.py, for names and what they give.
"""

import copy
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.arguments import choice
from jaxbert.compat.hf_rows import plain
from jaxbert.compat.tensors import as_numpy
from jaxbert.errors import InputError
from jaxbert.text.shortening import Shortening
from jaxbert.text.tokenizer import SPECIAL, Tokenizer

log = logging.getLogger(__name__)

SIDES = ("right", "left")


class Vocabulary:
    """The tokens, ids and settings of a model's tokenizer under transformers' names."""

    is_fast = True

    def __init__(self, model: Any, padding_side: str = SIDES[0]) -> None:
        """model has a Tokenizer and a max_seq_length; padding_side is as the property."""
        self._model, self._padding_side = model, padding_side

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what can be set here; what would change nothing is refused with InputError."""
        if not name.startswith("_") and not isinstance(getattr(type(self), name, None), property):
            raise InputError(
                f"{name} of the tokenizer of jaxbert.compat cannot be set; change the tokenizer's "
                "files, and load the model again"
            )
        super().__setattr__(name, value)

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
    def padding_side(self) -> str:
        """Where the tokenizer fills up rows: on the right, behind the text, or on the left.

        Differs: encode gives a text the positions that it has alone. In sentence-transformers those
        of a text that is filled up on the left begin later the longer its company is.
        """
        return self._padding_side

    @padding_side.setter
    def padding_side(self, side: str) -> None:
        if choice(side, "padding_side", SIDES) == "left":
            log.warning(
                "padding_side is 'left' for what the tokenizer gives; encode gives a text the "
                "vector that it has alone, which none of its company moves to other positions"
            )
        self._padding_side = side

    @property
    def truncation_side(self) -> str:
        """Where long texts are cut; a change counts for this model, and for none that it copied."""
        return self.own.side

    @truncation_side.setter
    def truncation_side(self, side: str) -> None:
        choice(side, "truncation_side", SIDES)
        if side != self.own.side:
            own = copy.deepcopy(self.own)
            own.side = "left" if side == "left" else "right"
            own.folder = None  # the files that it came from say the other side
            own.shortening = Shortening.of(own.backend) if side == "right" else None
            self._model.tokenizer = own

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

    def decode(self, ids: Any, skip_special_tokens: bool = False, **more: Any) -> Any:
        """The text that ids stand for, or where they are rows a list with that of each."""
        given = plain(ids)
        if isinstance(given, list) and given and isinstance(given[0], list):
            return [self.decode(row, skip_special_tokens, **more) for row in given]
        flat = [int(i) for i in np.atleast_1d(given)]
        return str(self.backend_tokenizer.decode(flat, skip_special_tokens=skip_special_tokens))

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
