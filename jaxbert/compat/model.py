"""What SentenceTransformer and CrossEncoder have in common beside their models."""

import copy
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from jaxbert.compat.hf_rows import Encoding
from jaxbert.compat.hf_tokenizer import HuggingFaceTokenizer
from jaxbert.compat.keywords import (
    check_devices_argument,
    check_no_more,
    check_one_device,
    max_length_of,
)
from jaxbert.compat.model_card import ModelCardData, write_model_card, write_version
from jaxbert.compat.tensors import has_torch, tensor_device, torch
from jaxbert.errors import InputError, InputTypeError

log = logging.getLogger(__name__)

# What code for sentence-transformers finds at a model and is not here, with what there is instead.
MISSING = {
    "auto_model": "use model.native.encoder, which has the weights and gives the states",
    "transformers_model": "use model.native.encoder, which has the weights and gives the states",
    "fit": "train with jaxbert.train, or in sentence-transformers, and load the folder here",
    "train": "train with jaxbert.train, or in sentence-transformers, and load the folder here",
    "push_to_hub": "save the model, and upload the folder with huggingface_hub",
    "save_to_hub": "save the model, and upload the folder with huggingface_hub",
    "half": 'load it with model_kwargs={"dtype": "bfloat16"} instead',
    "bfloat16": 'load it with model_kwargs={"dtype": "bfloat16"} instead',
    "parameters": "use model.native.encoder, which is a pytree of its weights",
    "state_dict": "use model.native.encoder, which is a pytree of its weights",
    "compile": "its programs are compiled already",
}


class NotInJaxError(InputError, AttributeError):
    """An attribute of torch's modules was asked for that a model in JAX does not have."""


class Model:
    """A model of this package under the names of sentence-transformers."""

    modalities: ClassVar[list[str]] = ["text"]
    native: Any  # the Embedder or CrossEncoder inside

    def __init__(self, native: Any, name: str, model_card_data: Any) -> None:
        """name is the model's for its card."""
        self.native = native
        self.model_card_data = ModelCardData() if model_card_data is None else model_card_data
        self._name = name
        self._tokenizer = HuggingFaceTokenizer(native)

    def __getattr__(self, name: str) -> Any:
        """Say what there is in place of an attribute of torch's modules."""
        if name in MISSING:
            raise NotInJaxError(f"this model runs in JAX and has no {name}; {MISSING[name]}")
        raise AttributeError(
            f"{type(self).__name__!r} of jaxbert.compat has no attribute {name!r}; model.native is "
            "the model of this package"
        )

    def __copy__(self) -> Self:
        """A model with settings of its own, which shares weights and programs."""
        new = object.__new__(type(self))
        vars(new).update(vars(self))
        new.native = copy.copy(self.native)
        new._tokenizer = HuggingFaceTokenizer(new.native, self._tokenizer.padding_side)
        return new

    # --- settings ----------------------------------------------------------------------------

    @property
    def tokenizer(self) -> HuggingFaceTokenizer:
        """The tokenizer in the manner of transformers; what it changes changes the vectors."""
        return self._tokenizer

    processor = tokenizer

    @property
    def max_seq_length(self) -> int:
        """The most tokens of a text, special tokens included."""
        return int(self.native.max_seq_length)

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        self.native.max_seq_length = tokens

    def get_max_seq_length(self) -> int:
        """The most tokens of a text: max_seq_length."""
        return self.max_seq_length

    @property
    def dtype(self) -> Any:
        """The dtype of the weights: torch's if it is installed, else NumPy's."""
        name = str(self.native.engine.dtype)
        return getattr(torch(), name) if has_torch() else np.dtype(name)

    def supports(self, modality: Any) -> bool:
        """Whether inputs of a modality can be taken: texts alone, so long as that is said here."""
        several = isinstance(modality, tuple) and "message" in self.modalities
        return modality in self.modalities or (several and set(modality) <= set(self.modalities))

    def get_backend(self) -> str:
        """The library that computes: JAX."""
        return "jax"

    # --- devices and processes ---------------------------------------------------------------

    @property
    def device(self) -> Any:
        """Where tensors are given: a torch.device if torch is installed."""
        return tensor_device()

    @property
    def _target_device(self) -> Any:
        """The older name of `device`."""
        return self.device

    @_target_device.setter
    def _target_device(self, device: Any) -> None:
        self.to(device)

    def to(self, device: Any = None, *more: Any, **options: Any) -> Self:
        """The model itself, where it is; InputError for another platform or dtype."""
        if device is not None:
            check_one_device(device)
        if more or options:
            raise InputError(f"to takes a device here; {MISSING['half']}")
        return self

    def cpu(self) -> Self:
        """The model itself; InputError where JAX does not run on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """The model itself; InputError where JAX does not run on a GPU."""
        return self.to("cuda" if device is None else device)

    def eval(self) -> Self:
        """The model itself, which has no dropout to switch off."""
        return self

    def float(self) -> Self:
        """The model itself if it computes in float32, else InputError."""
        if str(self.native.engine.dtype) != "float32":
            raise InputError("the model was loaded in bfloat16; load it again without dtype")
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """The model itself; InputError for True, since gradients are JAX's."""
        if requires_grad:
            raise InputError(f"this model runs in JAX; {MISSING['train']}")
        return self

    def start_multi_process_pool(self, target_devices: Any = None) -> dict[str, Any]:
        """A pool of this one process, which keeps the device busy; nothing is started."""
        check_devices_argument(target_devices)
        return {"input": None, "output": None, "processes": []}

    @staticmethod
    def stop_multi_process_pool(pool: Any) -> None:
        """Do nothing, for there are no processes to end."""

    # --- the rest ----------------------------------------------------------------------------

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> Encoding:
        """Ids, masks and token types of texts or pairs, padded: tensors if torch is installed.

        Raises InputTypeError for a bare str.
        Differs: sentence-transformers takes the letters of a bare str for texts.
        """
        length = max_length_of(kwargs)
        check_no_more("preprocess", kwargs)
        if isinstance(inputs, str):
            raise InputTypeError("inputs is a str; pass a list of texts, such as [text]")
        texts = [with_prompt(prompt, item) for item in inputs] if prompt else list(inputs)
        if not texts:
            return Encoding()
        found = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=length,
            return_tensors="pt" if has_torch() else "np",
        )
        if prompt:
            found["prompt_length"] = self.native.tokenizer.prompt_length(prompt)
        return found

    tokenize = preprocess

    def evaluate(self, evaluator: Callable[..., Any], output_path: str | None = None) -> Any:
        """What an evaluator of sentence-transformers says of this model."""
        if output_path is not None:
            os.makedirs(output_path, exist_ok=True)
        return evaluator(self, output_path)

    def save_pretrained(
        self,
        path: str | os.PathLike[str] | None,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: Any = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the folder that sentence-transformers and this package load, with a README.md.

        Without a path nothing is written. safe_serialization changes nothing: weights are written
        as safetensors alone.
        """
        if path is None:
            return
        with_folder(self.native).save_pretrained(path)
        write_version(Path(path))
        if create_model_card:
            write_model_card(Path(path), type(self).__name__, model_name)

    save = save_pretrained

    def __repr__(self) -> str:
        """The class and the model's name."""
        return f"{type(self).__name__}({self._name!r}, jaxbert)"


def with_prompt(prompt: str, item: Any) -> Any:
    """A text with the prompt before it; of a pair, before its first. What is neither stays."""
    if isinstance(item, str):
        return prompt + item
    listed = isinstance(item, list | tuple | np.ndarray) and len(item) > 0
    return (prompt + item[0], *item[1:]) if listed and isinstance(item[0], str) else item


def with_folder(native: Any) -> Any:
    """The model, or where the folder that it came from is gone, one that is saved from memory."""
    if native.stored is None or native.stored.folder.is_dir():
        return native
    alone = copy.deepcopy(native)
    alone._source, alone.tokenizer.folder = None, None
    return alone


@contextmanager
def restored(thing: Any, name: str, value: Any) -> Iterator[None]:
    """A context in which an attribute has another value."""
    before = getattr(thing, name)
    setattr(thing, name, value)
    try:
        yield
    finally:
        setattr(thing, name, before)
