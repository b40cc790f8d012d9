"""The files next to tokenizer.json, and the special tokens that they name.

Source: transformers 5, PreTrainedTokenizerBase._from_pretrained and TokenizersBackend.__init__.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.json_file import read_object
from jaxbert.errors import CheckpointError, shown

# The keys of special tokens, and those of a BertTokenizer with their words.
NAMES = tuple(f"{name}_token" for name in "bos eos unk sep pad cls mask".split())
BERT_TOKENS = {f"{name}_token": f"[{name.upper()}]" for name in "unk sep pad cls mask".split()}
# The names that special tokens mostly have.
SPECIAL = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def content(token: Any) -> str:
    """The word of a stored token: a str, or a dict with flags. Raises CheckpointError."""
    word = token.get("content") if isinstance(token, dict) else token
    if not isinstance(word, str) or not word:
        raise CheckpointError(f"a special token is {shown(token)}, which is no word; restore it")
    return word


@dataclass(frozen=True)
class Files:
    """The contents of the files next to tokenizer.json or vocab.txt, and the keys to ignore."""

    folder: Path
    settings: Mapping[str, Any]  # tokenizer_config.json
    special: Mapping[str, Any]  # special_tokens_map.json
    added: Mapping[str, Any]  # added_tokens.json
    ignore: Collection[str]

    @classmethod
    def of(cls, folder: Path, ignore: Collection[str]) -> "Files":
        """Read the files of a folder; one that is missing counts as empty."""
        names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
        paths = [folder / name for name in names]
        settings, special, added = [read_object(path) if is_there(path) else {} for path in paths]
        return cls(folder, settings, special, added, ignore)

    def contradicts(self, key: str, other: Any, value: Any) -> CheckpointError:
        """The error for a key on which tokenizer_config.json and tokenizer.json disagree."""
        return CheckpointError(
            f"{self.folder / 'tokenizer_config.json'} has {key} = {shown(other)} where "
            f"tokenizer.json has {shown(value)}; make them equal, or pass "
            f'ignore_config=("{key}",) to follow tokenizer.json'
        )

    @property
    def older(self) -> bool:
        """Whether the two other files are read: only where the settings list no tokens."""
        return "added_tokens_decoder" not in self.settings

    @property
    def named(self) -> dict[str, Any]:
        """Key -> token, of all keys that end in _token."""
        entries = {**self.settings, **(self.special if self.older else {})}
        return {
            key: token
            for key, token in entries.items()
            if key.endswith("_token") and token and (isinstance(token, str | dict) or key in NAMES)
        }

    @property
    def words(self) -> dict[str, str]:
        """Key -> word, of the special tokens in NAMES."""
        return {key: content(token) for key, token in self.named.items() if key in NAMES}

    @property
    def further(self) -> list[Any]:
        """The special tokens without a key of their own."""
        entries = {**self.settings, **(self.special if self.older else {})}
        more = entries.get("extra_special_tokens") or entries.get("additional_special_tokens") or []
        return list(more.values() if isinstance(more, dict) else more)

    @property
    def listed(self) -> dict[str, tuple[str, AddedToken]]:
        """Word -> (id as a str, token) of the added tokens to which the files give ids."""
        if self.older:
            names = {*self.words.values(), *map(content, self.further)}
            return {
                word: (
                    str(i),
                    AddedToken(word, normalized=word not in names, special=word in names),
                )
                for word, i in self.added.items()
            }
        tokens = self.settings["added_tokens_decoder"]
        if not isinstance(tokens, dict):
            raise CheckpointError(
                f"{self.folder} has added_tokens_decoder = {shown(tokens)}, which is no JSON "
                "object; restore it"
            )
        return {content(token): (i, added_token(token)) for i, token in tokens.items()}


def added_token(token: Any, **more: bool) -> AddedToken:
    """The library's AddedToken for a stored token, with its flags and more."""
    flags = {
        key: token[key]
        for key in FLAGS
        if isinstance(token, dict) and isinstance(token.get(key), bool)
    }
    return AddedToken(content(token), **{**flags, **more})


def add_special(
    backend: tokenizers.Tokenizer, stored: Sequence[Mapping[str, Any]], files: Files, rebuilt: bool
) -> None:
    """Add the tokens that the other files name to those stored in tokenizer.json.

    As in transformers, a text with such a word then has its token. rebuilt: transformers takes no
    token from tokenizer.json. Raises CheckpointError for a token that is missing in the vocabulary
    or has another id there.
    """
    known = {content(token) for token in stored}
    listed = {} if "added_tokens_decoder" in files.ignore else files.listed
    named = {**(BERT_TOKENS if rebuilt else {}), **files.named}
    check_listed(backend, listed, files)
    if rebuilt and listed and not files.older:
        words = {*listed, *map(content, named.values()), *map(content, files.further)}
        for word in sorted(known - words):
            raise files.contradicts("added_tokens_decoder", None, word)
    backend.add_tokens(
        [token for word, (_, token) in listed.items() if not files.older or word not in known]
    )
    known |= {*listed}
    further = [("extra_special_tokens", token) for token in files.further]
    for key, token in [*named.items(), *further]:
        word = content(token)
        if word in known or key in files.ignore:
            continue
        if backend.token_to_id(word) is not None:
            backend.add_tokens([added_token(token, special=True)])
        elif key not in BERT_TOKENS or key in files.named:
            raise CheckpointError(
                f"{files.folder} names {key} = {shown(word)}, which is not in its vocabulary; "
                f'restore it, or pass ignore_config=("{key}",) to do without'
            )
        known.add(word)


def check_listed(
    backend: tokenizers.Tokenizer, listed: Mapping[str, tuple[str, Any]], files: Files
) -> None:
    """Raise CheckpointError for an added token whose id in tokenizer.json is missing or another."""
    for word, (number, _) in listed.items():
        known = backend.token_to_id(word)
        if str(known) != number:
            raise files.contradicts("added_tokens_decoder", f"{word}: {number}", known)


def mask_word(backend: tokenizers.Tokenizer, folder: Path, ignore: Collection[str]) -> str:
    """The word of a folder's mask token: the one that its files name, else a usual one.

    Raises CheckpointError for a tokenizer that has none.
    """
    named = Files.of(folder, ignore).words.get("mask_token")
    for word in [named] if named else ["[MASK]", "<mask>"]:
        if backend.token_to_id(word) is not None:
            return word
    raise CheckpointError(f"{folder} has a tokenizer without a mask token; restore its files")
