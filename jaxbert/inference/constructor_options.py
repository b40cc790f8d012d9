"""The keywords of sentence-transformers' constructors, as from_pretrained takes them.

Source: sentence-transformers 6.2, base/model.py.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import jax

from jaxbert.arguments import choice, flag, integer, path
from jaxbert.checkpoint.sentence_transformers.settings import SIMILARITIES
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import InputError, InputTypeError, shown
from jaxbert.inference.outputs import check_device
from jaxbert.process.backend import option
from jaxbert.text.prompts import Prompts, check_default, check_str

log = logging.getLogger(__name__)

# What others may say of the arguments for transformers' classes, for it changes no number here.
# None stands for every value: where and how weights are read, or which program computes attention.
HARMLESS: dict[str, Mapping[str, Sequence[Any] | None]] = {
    "model_kwargs": {
        "attn_implementation": None,
        "low_cpu_mem_usage": None,
        "use_safetensors": (True, None),
        "trust_remote_code": None,
        "add_pooling_layer": None,  # of transformers, whose pooler is not used
        "torch_dtype": ("auto", "float32", "torch.float32", None),
        "dtype": ("auto", "float32", "torch.float32", None),
        "device_map": ("auto", "cpu", None),
    },
    "processor_kwargs": {"use_fast": None, "trust_remote_code": None, "fast": None},
    "config_kwargs": {"trust_remote_code": None},
}
HARMLESS["tokenizer_kwargs"] = HARMLESS["processor_kwargs"]


class ConstructorKeywords(TypedDict, total=False):
    """sentence-transformers' keywords beside those that from_pretrained names itself."""

    device: Any  # a str or a torch.device of the platform that JAX uses
    cache_folder: str | os.PathLike[str] | None  # in place of the hub's cache
    local_files_only: bool  # leave the hub out
    prompts: Mapping[str, str] | None  # beside and before those of the folder
    default_prompt_name: str | None
    truncate_dim: int | None
    similarity_fn_name: Any  # a str, or an enumeration of them
    trust_remote_code: bool  # no code of a checkpoint is ever run
    model_kwargs: Mapping[str, Any] | None
    tokenizer_kwargs: Mapping[str, Any] | None
    processor_kwargs: Mapping[str, Any] | None
    config_kwargs: Mapping[str, Any] | None
    backend: str


def enum_value(value: Any) -> Any:
    """The str of an enumeration of them, such as SimilarityFunction.DOT; else the value itself."""
    inner = getattr(value, "value", None)
    return inner if isinstance(inner, str) else value


@dataclass(frozen=True, kw_only=True)
class ConstructorOptions:
    """Those keywords, checked before a model is looked for."""

    devices: tuple[jax.Device, ...] | None = None
    cache: str | None = None
    offline: bool = False
    prompts: Mapping[str, str] | None = None
    default_prompt_name: str | None = None
    truncate_dim: int | None = None
    similarity: str | None = None

    @classmethod
    def of(
        cls, given: Mapping[str, Any], devices: tuple[jax.Device, ...] | None
    ) -> "ConstructorOptions":
        """The options for keywords, beside the devices of from_pretrained.

        Raises InputTypeError, also for an unknown keyword, and InputError, also for what would
        change the vectors in sentence-transformers and cannot here.
        """
        for unknown in given.keys() - ConstructorKeywords.__annotations__.keys():
            raise InputTypeError(
                f"from_pretrained has no argument {shown(unknown)}; see its description for those "
                "that it has"
            )
        say_what_changes_nothing(given)
        cache, prompts = given.get("cache_folder"), given.get("prompts")
        name, width = given.get("default_prompt_name"), given.get("truncate_dim")
        similarity = enum_value(given.get("similarity_fn_name"))
        if prompts is not None and not isinstance(prompts, Mapping):
            raise InputTypeError(f"prompts is a {type(prompts).__name__}; pass a dict of texts")
        if name is not None:
            check_str(name, "default_prompt_name")
        if similarity is not None:
            choice(similarity, "similarity_fn_name", SIMILARITIES)
        return cls(
            devices=placed(given.get("device"), devices),
            cache=None if cache is None else str(path(cache, "cache_folder")),
            offline=flag(given.get("local_files_only", False), "local_files_only"),
            prompts=None if prompts is None else dict(Prompts(without_none(prompts))),
            default_prompt_name=name,
            truncate_dim=None if width is None else integer(width, "truncate_dim", 1),
            similarity=similarity,
        )

    def stack(self, stack: Stack, hidden_size: int) -> Stack:
        """The stack of a folder with what these options set.

        Raises InputError for a default prompt that is not there and a width beyond the vectors'.
        """
        prompts = {**stack.prompts, **(self.prompts or {})}
        default = self.default_prompt_name or stack.default_prompt_name
        check_default(default, prompts)
        width = stack.truncate_dim
        if self.truncate_dim is not None:
            width = integer(self.truncate_dim, "truncate_dim", 1, stack.width(hidden_size))
        return replace(
            stack,
            prompts=prompts,
            default_prompt_name=default,
            truncate_dim=width,
            similarity=self.similarity or stack.similarity,
        )


def without_none(prompts: Mapping[str, Any]) -> dict[str, Any]:
    """The prompts without those that are None, which say that the folder's stays."""
    return {name: text for name, text in prompts.items() if text is not None}


def placed(device: Any, devices: tuple[jax.Device, ...] | None) -> tuple[jax.Device, ...] | None:
    """The devices, or the one that `device` names. Raises InputError for both, and for no such."""
    if device is None:
        return devices
    number = check_device(device)
    if devices is not None:
        raise InputError("device and devices were both given; pass devices alone")
    there, default = jax.local_devices(), option("jax_default_device")
    if default is None and not number:
        return None  # the first, where JAX computes anyway
    if number is None:
        own = isinstance(default, jax.Device) and default in there
        return None if own else (there[0],)
    if number >= len(there):
        raise InputError(
            f"device is {shown(device)}, but this process has {len(there)} devices; choose among "
            "jax.local_devices()"
        )
    return (there[number],)


def say_what_changes_nothing(given: Mapping[str, Any]) -> None:
    """Log what has no effect here; raise InputError for what would have one."""
    if flag(given.get("trust_remote_code", False), "trust_remote_code"):
        log.info("trust_remote_code=True changes nothing: no code of a checkpoint is run here")
    backend = given.get("backend", "torch")
    if not isinstance(backend, str) or backend not in ("torch", "jax"):
        raise InputError(
            f"backend is {shown(backend)}, and models run in JAX here; leave it out, or pass "
            'engine="openvino"'
        )
    for name, harmless in HARMLESS.items():
        kwargs = given.get(name)
        if kwargs is None:
            continue
        if not isinstance(kwargs, Mapping):
            raise InputTypeError(f"{name} is a {type(kwargs).__name__}; pass a dict")
        for key, value in kwargs.items():
            allowed = harmless.get(key, ()) if isinstance(key, str) else ()
            if allowed is not None and plain(value) not in allowed:
                raise InputError(
                    f"{name} has {shown(key)[1:-1]} = {shown(value)}, which is for transformers' "
                    f"classes and would be passed over here; {instead(key)}"
                )
            log.info("%s has %s, which changes nothing here", name, key)


def plain(value: Any) -> Any:
    """A value that can be compared: a torch.dtype by its name."""
    if isinstance(value, str | bool | None):
        return value
    return shown(value) if type(value).__name__ == "dtype" else object()


def instead(key: Any) -> str:
    """What to do in place of one of those arguments."""
    if key in ("torch_dtype", "dtype"):
        return 'pass dtype="bfloat16" or leave it out'
    if key in ("model_max_length", "max_length"):
        return "set max_seq_length of the model, or pass max_length to encode"
    return "leave it out"
