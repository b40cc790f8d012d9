"""The files beside tokenizer.json, and the special tokens that they name.

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

# The special tokens that have a name of their own, and those of a BertTokenizer.
NAMES = tuple(f"{name}_token" for name in "bos eos unk sep pad cls mask".split())
BERT_TOKENS = {f"{name}_token": f"[{name.upper()}]" for name in "unk sep pad cls mask".split()}
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def content(token: Any) -> str:
    """The word of a token, which is stored as a word or with its flags."""
    word = token.get("content") if isinstance(token, dict) else token
    if not isinstance(word, str) or not word:
        raise CheckpointError(f"a special token is {shown(token)}, which is no word; restore it")
    return word


@dataclass(frozen=True)
class Files:
    """What stands beside tokenizer.json or vocab.txt, and the keys that are to be passed over."""

    folder: Path
    settings: Mapping[str, Any]  # tokenizer_config.json
    special: Mapping[str, Any]  # special_tokens_map.json
    added: Mapping[str, Any]  # added_tokens.json
    ignore: Collection[str]

    @classmethod
    def of(cls, folder: Path, ignore: Collection[str]) -> "Files":
        """Read those that there are."""
        names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
        found = [folder / name for name in names]
        settings, special, added = [read_object(own) if is_there(own) else {} for own in found]
        return cls(folder, settings, special, added, ignore)

    def contradicts(self, key: str, other: Any, value: Any) -> CheckpointError:
        """The error that says that tokenizer_config.json and tokenizer.json do not agree."""
        return CheckpointError(
            f"{self.folder / 'tokenizer_config.json'} has {key} = {shown(other)} where "
            f"tokenizer.json has {shown(value)}; make them equal, or pass "
            f'ignore_config=("{key}",) to follow tokenizer.json'
        )

    @property
    def older(self) -> bool:
        """Whether the two small files count: they do where the settings list no tokens."""
        return "added_tokens_decoder" not in self.settings

    @property
    def named(self) -> dict[str, Any]:
        """Key -> token, of all that are called something_token."""
        said = {**self.settings, **(self.special if self.older else {})}
        return {
            key: own
            for key, own in said.items()
            if key.endswith("_token") and own and (isinstance(own, str | dict) or key in NAMES)
        }

    @property
    def words(self) -> dict[str, str]:
        """The words of the tokens that every tokenizer may have."""
        return {key: content(own) for key, own in self.named.items() if key in NAMES}

    @property
    def further(self) -> list[Any]:
        """The special tokens without a name."""
        said = {**self.settings, **(self.special if self.older else {})}
        more = said.get("extra_special_tokens") or said.get("additional_special_tokens") or []
        return list(more.values() if isinstance(more, dict) else more)

    @property
    def listed(self) -> dict[str, tuple[str, AddedToken]]:
        """Word -> (id as a text, token) of the added tokens that the files number."""
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
        return {content(own): (number, made(own)) for number, own in tokens.items()}


def made(token: Any, **more: bool) -> AddedToken:
    """A stored token as the library has it, with its flags."""
    flags = {
        key: token[key]
        for key in FLAGS
        if isinstance(token, dict) and isinstance(token.get(key), bool)
    }
    return AddedToken(content(token), **{**flags, **more})


def add_special(
    backend: tokenizers.Tokenizer, stored: Sequence[Mapping[str, Any]], files: Files, rebuilt: bool
) -> None:
    """Add the tokens that the other files name to those stored in tokenizer.json, as transformers.

    A text that has such a word then has its token. rebuilt: transformers takes no token from
    tokenizer.json. Raises CheckpointError for a token that the vocabulary has not, or numbers
    otherwise.
    """
    known = {content(own) for own in stored}
    listed = {} if "added_tokens_decoder" in files.ignore else files.listed
    named = {**(BERT_TOKENS if rebuilt else {}), **files.named}
    check_listed(backend, listed, files)
    if rebuilt and listed and not files.older:
        words = {*listed, *map(content, named.values()), *map(content, files.further)}
        for word in sorted(known - words):
            raise files.contradicts("added_tokens_decoder", None, word)
    backend.add_tokens(
        [own for word, (_, own) in listed.items() if not files.older or word not in known]
    )
    known |= {*listed}
    further = [("extra_special_tokens", own) for own in files.further]
    for key, own in [*named.items(), *further]:
        word = content(own)
        if word in known or key in files.ignore:
            continue
        if backend.token_to_id(word) is not None:
            backend.add_tokens([made(own, special=True)])
        elif key not in BERT_TOKENS or key in files.named:
            raise CheckpointError(
                f"{files.folder} names {key} = {shown(word)}, which is not in its vocabulary; "
                f'restore it, or pass ignore_config=("{key}",) to do without'
            )
        known.add(word)


def check_listed(
    backend: tokenizers.Tokenizer, listed: Mapping[str, tuple[str, Any]], files: Files
) -> None:
    """Refuse an added token that the vocabulary of tokenizer.json has not, or numbers otherwise."""
    for word, (number, _) in listed.items():
        known = backend.token_to_id(word)
        if str(known) != number:
            raise files.contradicts("added_tokens_decoder", f"{word}: {number}", known)
