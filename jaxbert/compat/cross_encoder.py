"""CrossEncoder under the constructor, names and results of sentence-transformers.

Source: sentence-transformers 6.2, cross_encoder/model.py.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from jaxbert import cross_encoder
from jaxbert.arguments import integer
from jaxbert.checkpoint.opening import open_model
from jaxbert.checkpoint.sentence_transformers.cross_encoder import CrossEncoderSettings
from jaxbert.compat.keywords import (
    check_devices_argument,
    check_no_more,
    dtype_of,
    length_of,
    max_length_of,
    token_of,
)
from jaxbert.compat.model import Model
from jaxbert.compat.named_prompts import check_named, one_prompt
from jaxbert.compat.tensors import as_numpy, as_tensor, has_torch
from jaxbert.errors import InputError, InputTypeError
from jaxbert.inference.constructor_options import ConstructorOptions
from jaxbert.inference.scoring import is_pair
from jaxbert.text.prompts import Prompts, check_default


class CrossEncoder(Model):
    """A jaxbert.CrossEncoder that takes and gives what theirs does."""

    native: cross_encoder.CrossEncoder

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        num_labels: int | None = None,
        max_length: int | None = None,
        activation_fn: Callable[..., Any] | None = None,
        *,
        modules: Any = None,
        device: Any = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
        ignore_config: Sequence[str] = (),
    ) -> None:
        """Load a model; the arguments are those of sentence-transformers, and ignore_config.

        activation_fn is a function of tensors, or of arrays where torch is not installed. Raises
        InputError for another number of labels than the model's. prompts stand beside those of the
        folder; one is put before the first text of a pair. ignore_config is as in
        jaxbert.CrossEncoder.from_pretrained. Raises InputTypeError for modules.
        """
        if modules is not None:
            raise InputTypeError("a cross-encoder is not put together of modules; pass its name")
        if model_name_or_path is None:
            raise InputError("there is no model without a name; pass model_name_or_path")
        dtype, model_kwargs = dtype_of(model_kwargs)
        given = {**(tokenizer_kwargs or {}), **(processor_kwargs or {})}
        length, processor_kwargs = length_of(given)
        options = ConstructorOptions.of(
            {
                "device": device,
                "prompts": prompts,
                "default_prompt_name": default_prompt_name,
                "cache_folder": cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
                "local_files_only": local_files_only,
                "trust_remote_code": trust_remote_code,
                "model_kwargs": model_kwargs,
                "processor_kwargs": processor_kwargs,
                "config_kwargs": config_kwargs,
                "backend": backend,
            },
            None,
        )
        opened = open_model(
            model_name_or_path,
            revision=revision,
            token=token_of(token),
            ignore_config=ignore_config,
            cache=options.cache,
            offline=options.offline,
        )
        scorer = cross_encoder.CrossEncoder.from_opened(opened, False, dtype, None, options.devices)
        if num_labels is not None and integer(num_labels, "num_labels", 1) != scorer.num_labels:
            raise InputError(
                f"num_labels is {num_labels}, but the model has {scorer.num_labels}; leave it out, "
                "and train another classifier with jaxbert.train"
            )
        scorer.settings = with_prompts(scorer.settings, options)
        super().__init__(scorer, os.fspath(model_name_or_path), model_card_data)
        self.activation_fn = activation_fn
        if max_length or length:
            self.max_seq_length = int(max_length or length or 0)

    def __copy__(self) -> Self:
        """A model with settings of its own, which shares weights and programs."""
        new = super().__copy__()
        new.prompts = dict(self.prompts)
        return new

    @property
    def num_labels(self) -> int:
        """The scores of a pair."""
        return self.native.num_labels

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts by name; changes count at once."""
        return self.native.settings.prompts

    @prompts.setter
    def prompts(self, prompts: Mapping[str, str]) -> None:
        settings = self.native.settings
        check_default(settings.default_prompt_name, prompts)
        self.native.settings = replace(settings, prompts=Prompts(prompts))

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt where a call names none."""
        return self.native.settings.default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, name: str | None) -> None:
        check_named("Default prompt name", name, self.prompts)
        self.native.settings = replace(self.native.settings, default_prompt_name=name)

    @property
    def max_length(self) -> int:
        """The most tokens of a pair."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, tokens: int) -> None:
        self.max_seq_length = tokens

    def predict(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[..., Any] | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        pool: Any = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """The scores of pairs as an array, a tensor, or a list of tensors, as `encode` does.

        Raises InputError for what is not offered, and as jaxbert.CrossEncoder.predict.
        """
        check_devices_argument(device)
        inputs = kwargs.pop("sentences", None) if inputs is None else inputs
        length = max_length_of(kwargs)
        check_no_more("predict", kwargs)
        inputs = inputs.tolist() if isinstance(inputs, np.ndarray) else inputs
        single = is_pair(inputs)
        activation = activation_fn or self.activation_fn
        found: Any = np.asarray(
            self.native.predict(
                [inputs] if single else inputs,
                one_prompt(prompt_name, prompt, self.prompts),
                prompt,
                batch_size,
                show_progress_bar,
                None if activation is None else of_arrays(activation),
                bool(apply_softmax),
                max_length=length,
            )
        )
        if convert_to_tensor or not convert_to_numpy:
            found = as_tensor(found)
        if not (convert_to_tensor or convert_to_numpy):
            found = list(found)
        return found[0] if single else found

    def rank(
        self,
        query: str,
        documents: list[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[..., Any] | None = None,
        device: Any = None,
        pool: Any = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """The documents by falling score, each {"corpus_id", "score"}, with "text" if asked for.

        device, pool and chunk_size say where others compute: here it is this process. Scores are
        floats: apply_softmax, convert_to_numpy and convert_to_tensor change nothing, as there.
        """
        check_devices_argument(device)
        length = max_length_of(kwargs)
        check_no_more("rank", {k: v for k, v in kwargs.items() if k not in WITHOUT_EFFECT})
        activation = activation_fn or self.activation_fn
        return self.native.rank(
            query,
            documents,
            top_k,
            return_documents,
            one_prompt(prompt_name, prompt, self.prompts),
            prompt,
            batch_size,
            show_progress_bar,
            None if activation is None else of_arrays(activation),
            max_length=length,
        )


# The former arguments of rank that sentence-transformers still takes.
WITHOUT_EFFECT = ("apply_softmax", "convert_to_numpy", "convert_to_tensor")


def with_prompts(
    settings: CrossEncoderSettings, options: ConstructorOptions
) -> CrossEncoderSettings:
    """The settings of a folder with the prompts of a constructor. Raises InputError."""
    prompts = {**settings.prompts, **(options.prompts or {})}
    default = options.default_prompt_name or settings.default_prompt_name
    check_named("Default prompt name", default, prompts)
    return replace(settings, prompts=Prompts(prompts), default_prompt_name=default)


def of_arrays(activation: Any) -> Any:
    """A function of logits as the package takes it, from one of tensors; a name as it is."""
    if isinstance(activation, str) or not has_torch():
        return activation
    return lambda logits: as_numpy(activation(as_tensor(np.array(logits))))
