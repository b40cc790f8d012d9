"""A tokenizer in the manner of transformers, for code that touches model.tokenizer.

Source: transformers 5, tokenization_utils_base.py, for names and what they give.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxbert.arguments import integer
from jaxbert.compat.hf_rows import FILLS, Encoding, encoding_of, named_rows
from jaxbert.compat.hf_vocabulary import Vocabulary
from jaxbert.errors import InputError, InputTypeError, shown


class HuggingFaceTokenizer(Vocabulary):
    """A model's tokenizer under transformers' names; changes of it change what is encoded."""

    def tokenize(self, text: str, add_special_tokens: bool = False) -> list[str]:
        """The tokens of one text."""
        tokens: list[str] = self.convert_ids_to_tokens(
            self.encode(text, add_special_tokens=add_special_tokens)
        )
        return tokens

    def encode(self, text: str, text_pair: str | None = None, **options: Any) -> Any:
        """The ids of one text, or of a pair of them."""
        return self(text, text_pair, **options)["input_ids"]

    # --- texts -------------------------------------------------------------------------------

    def __call__(
        self,
        text: Any,
        text_pair: Any = None,
        *,
        add_special_tokens: bool = True,
        padding: Any = False,
        truncation: Any = None,
        max_length: int | None = None,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool = True,
        return_token_type_ids: bool = True,
        return_offsets_mapping: bool = False,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
        **unknown: Any,
    ) -> Encoding:
        """Ids, token types and masks of texts or pairs: lists, or arrays for return_tensors.

        padding is True or "longest", or "max_length". truncation None cuts where max_length is
        given and padding is not. return_tensors is "pt" or "np". Where is_split_into_words, a text
        is a list of its words. Raises InputTypeError for what is neither text nor pair, InputError
        for what is not offered here.
        """
        check_known(unknown)
        if truncation not in (True, False, None, "longest_first", "do_not_truncate"):
            raise InputError(
                f"truncation is {shown(truncation)}; pass True, which cuts the longer of a pair"
            )
        inputs, single = inputs_of(text, text_pair, is_split_into_words)
        if truncation is None:
            truncation = max_length is not None and padding is False
        cut = truncation in (True, "longest_first")
        most = (max_length or self.model_max_length) if cut else None
        rows = self.rows(inputs, add_special_tokens, most, is_split_into_words)
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
        size = self.size(found["length"], padding, max_length, pad_to_multiple_of)
        found = {
            name: own if name == "length" else [self.padded(row, size, name) for row in own]
            for name, own in found.items()
            if wanted.get(name, True)
        }
        return encoding_of(found, single, return_tensors)

    def rows(self, inputs: list[Any], special: bool, most: int | None, words: bool) -> list[Any]:
        """What the tokenizers library says of each text, or pair of texts."""

        def encode(given: list[Any]) -> list[Any]:
            encodings: list[Any] = self.backend_tokenizer.encode_batch(
                given, is_pretokenized=words, add_special_tokens=special
            )
            return encodings

        pair = any(isinstance(item, tuple) for item in inputs)
        # The library keeps room for special tokens also where it adds none.
        afterwards = most is not None and not special and not pair
        with self.own.lock:
            self.own.truncate(None if afterwards else most, pair=pair)
            found = self.own.encoded(encode, inputs)
        if afterwards:
            for own in found:
                own.truncate(integer(most, "max_length", 1), direction=self.truncation_side)
        return found

    def size(
        self, lengths: Sequence[int], padding: Any, max_length: int | None, multiple: int | None
    ) -> int:
        """The tokens up to which rows are filled; 0 where they are left as they are.

        Raises InputError for another padding than transformers has.
        """
        if padding in (False, None, "do_not_pad"):
            return 0
        if padding not in (True, "longest", "max_length"):
            raise InputError(
                f'padding is {shown(padding)}; pass True, "longest", "max_length" or False'
            )
        whole = max_length or self.model_max_length
        size = whole if padding == "max_length" else max(lengths, default=0)
        return size if multiple is None else size + -size % integer(multiple, MULTIPLE, 1)

    def padded(self, row: Sequence[Any], size: int, name: str) -> list[Any]:
        """A row filled up to so many tokens, on the side that padding_side names."""
        fill: Any = (0, 0) if name == "offset_mapping" else FILLS[name]
        fill = self.pad_token_id or 0 if name == "input_ids" else fill
        more = [fill] * (size - len(row))
        return [*more, *row] if self.padding_side == "left" else [*row, *more]

    def pad(
        self,
        encoded_inputs: Any,
        padding: Any = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        *,
        return_tensors: str | None = None,
        **unknown: Any,
    ) -> Encoding:
        """Rows of ids that were made before, filled up to the longest, with their attention_mask.

        They are a dict of lists, or a list of dicts; one row alone gives one row, and arrays give
        arrays. Other columns than those of FILLS are left as they are. Raises InputError for no
        rows, InputTypeError for what holds no input_ids.
        """
        check_known(unknown)
        named, single, kind = named_rows(encoded_inputs)
        named.setdefault("attention_mask", [[1] * len(row) for row in named["input_ids"]])
        lengths = [len(row) for row in named["input_ids"]]
        size = self.size(lengths, padding, max_length, pad_to_multiple_of)
        found = {
            name: [self.padded(row, size, name) for row in own] if name in FILLS else own
            for name, own in named.items()
        }
        kind = kind if return_tensors is None else return_tensors
        filled = encoding_of(found, False, kind)
        return Encoding({name: own[0] for name, own in filled.items()}) if single else filled


MULTIPLE = "pad_to_multiple_of"
WORDS = "is_split_into_words"


def check_known(unknown: Mapping[str, Any]) -> None:
    """Raise InputError for a keyword that the tokenizer here does not have."""
    for name in unknown:
        raise InputError(f"the tokenizer of jaxbert.compat has no argument {name}; leave it out")


def inputs_of(text: Any, text_pair: Any, words: bool) -> tuple[list[Any], bool]:
    """Each input as the tokenizers library takes it, and whether it is one and no list.

    A str, or with `words` a list of words, is a text; a tuple of two of them a pair. Raises
    InputTypeError for anything else.
    """
    first = text[0] if isinstance(text, list | tuple) and len(text) else text
    single = isinstance(first if words else text, str)
    texts = [text] if single else each_of(text)
    if text_pair is None:
        return [one_input(i, item, words) for i, item in enumerate(texts)], single
    pairs = [text_pair] if single else each_of(text_pair)
    if len(pairs) != len(texts):
        raise InputError(f"{len(texts)} texts cannot be paired with {len(pairs)}; pass as many")
    both = zip(texts, pairs, strict=True)
    return [tuple(one_text(i, own, words) for own in pair) for i, pair in enumerate(both)], single


def each_of(texts: Any) -> list[Any]:
    """The texts one by one. Raises InputTypeError for what is no list of them."""
    if not isinstance(texts, list | tuple | np.ndarray):
        raise InputTypeError(f"text is a {type(texts).__name__}; pass a str or a list of str")
    return list(texts)


def one_input(i: int, item: Any, words: bool) -> Any:
    """A text, or a pair of them as a tuple."""
    listed = isinstance(item, list | tuple | np.ndarray)
    if listed and len(item) == 2 and not (words and isinstance(item[0], str)):
        return tuple(one_text(i, part, words) for part in item)
    return one_text(i, item, words)


def one_text(i: int, item: Any, words: bool) -> Any:
    """A text, or the list of its words where they were split before."""
    listed = isinstance(item, list | tuple | np.ndarray)
    if words and listed and all(isinstance(word, str) for word in item):
        return [str(word) for word in item]
    if words or not isinstance(item, str):
        raise InputTypeError(
            f"text {i} is {shown(item)}; pass str, or a pair of str, or lists of words with "
            f"{WORDS}=True"
        )
    return str(item)
