"""SentenceTransformer: an Embedder under the constructor, names and results of theirs.

Source: sentence-transformers 6.2, sentence_transformer/model.py and base/model.py.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from jaxbert.arguments import as_list, texts_given
from jaxbert.compat.embedder_model import EmbedderModel
from jaxbert.compat.from_modules import folder_for
from jaxbert.compat.keywords import (
    check_devices_argument,
    check_no_more,
    dtype_of,
    length_of,
    max_length_of,
    token_of,
)
from jaxbert.compat.named_prompts import one_prompt
from jaxbert.compat.pairs import encode_pairs, has_pairs, texts_and_pairs
from jaxbert.compat.quantised import quantised
from jaxbert.compat.tensors import as_numpy, as_tensor, as_theirs, is_tensor
from jaxbert.embedder import Embedder
from jaxbert.errors import InputError, InputTypeError, shown
from jaxbert.inference.equal_texts import each_once
from jaxbert.inference.outputs import check_output
from jaxbert.inference.quantise import DTYPES
from jaxbert.inference.settings import DOCUMENT_PROMPTS


class SentenceTransformer(EmbedderModel):
    """An Embedder that takes and gives what sentence-transformers' class of this name does."""

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        modules: Any = None,
        device: Any = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        similarity_fn_name: Any = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        use_auth_token: bool | str | None = None,
        truncate_dim: int | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        config_kwargs: Mapping[str, Any] | None = None,
        model_card_data: Any = None,
        backend: str = "torch",
        deterministic: bool = False,
        ignore_config: Sequence[str] = (),
    ) -> None:
        """Load a model; the arguments are those of sentence-transformers, and two more.

        trust_remote_code changes nothing, no code of a checkpoint is run; model_kwargs may ask for
        dtype "bfloat16"; deterministic and ignore_config are as in Embedder.from_pretrained.
        modules are those of sentence-transformers, which writes a folder of them that is read here.
        Raises InputTypeError for others, and as Embedder.from_pretrained.
        """
        dtype, model_kwargs = dtype_of(model_kwargs)
        length, processor_kwargs = length_of(
            {**(tokenizer_kwargs or {}), **(processor_kwargs or {})}
        )
        with folder_for(model_name_or_path, modules) as name:
            embedder = Embedder.from_pretrained(
                name,
                deterministic=deterministic,
                ignore_config=ignore_config,
                dtype=dtype,
                revision=revision,
                token=token_of(token or use_auth_token),
                device=device,
                prompts=prompts,
                similarity_fn_name=similarity_fn_name,
                cache_folder=cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME"),
                local_files_only=local_files_only,
                trust_remote_code=trust_remote_code,
                model_kwargs=model_kwargs,
                processor_kwargs=processor_kwargs,
                config_kwargs=config_kwargs,
                backend=backend,
            )
        if model_name_or_path is None:  # the folder of the modules is gone
            embedder._source = embedder.tokenizer.folder = None
        self._begin(embedder, name, model_card_data)
        if default_prompt_name is not None:
            self.default_prompt_name = default_prompt_name
        if length is not None:
            self.max_seq_length = length
        if truncate_dim is not None:
            self.truncate_dim = truncate_dim

    @classmethod
    def of(cls, embedder: Embedder) -> Self:
        """The same embedder under these names."""
        model = cls.__new__(cls)
        model._begin(embedder, "an Embedder")
        return model

    # --- texts -> vectors --------------------------------------------------------------------

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether the input is one text, or one of what is no text, and no list of them."""
        if isinstance(inputs, str | Mapping) or is_tensor(inputs):
            return True
        if isinstance(inputs, np.ndarray):
            return inputs.ndim == 0 or inputs.dtype.kind not in "UO"
        messages = isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], Mapping)
        return messages and {"role", "content"} <= set(inputs[0])

    def encode(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: Any = "sentence_embedding",
        precision: Any = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: Any = None,
        chunk_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Vectors as an array, a tensor (convert_to_tensor), or a list of tensors (neither).

        output_value "token_embeddings" and None give tensors, arrays without torch. device, pool
        and chunk_size say where others compute: here it is this process. batch_size is the most
        rows that run together. Raises InputError for what is not offered, and as Embedder.encode.
        A pair of texts (a, b) is read as one, the second with its token types; a prompt stands
        before the first. Differs: no texts give [0, d]; equal texts are embedded once, so that
        their vectors are equal; dicts and images are refused.
        """
        check_devices_argument(device)
        inputs = texts_given(inputs, kwargs.pop("sentences", None))
        length = max_length_of(kwargs)
        check_no_more("encode", kwargs)
        if precision not in (None, *DTYPES):
            raise InputError(
                f"Precision {shown(precision)} is not supported; choose one of {', '.join(DTYPES)}"
            )
        single = self.is_singular_input(inputs)
        inputs = inputs.tolist() if isinstance(inputs, np.ndarray) else inputs
        whole = output_value == "sentence_embedding"
        prompt_name = one_prompt(prompt_name, prompt, self.prompts)
        request = (prompt_name, prompt, batch_size, show_progress_bar)
        width, normalize = self._width(truncate_dim), normalize_embeddings and whole

        def encode(own: Any) -> Any:
            return self.native.encode(
                own,
                *request,
                output_value,
                normalize_embeddings=normalize,
                truncate_dim=width,
                max_length=length,
            )

        def texts(own: Any) -> Any:
            return each_once(as_list(own), encode) if whole else encode(own)

        def pairs(own: list[Any]) -> Any:
            finish = self.native.finish(width, normalize, None, None)
            check_output(output_value, finish, len(own))
            asked = self.native.request(*request, length, "truncate")
            return encode_pairs(self.native, asked, own, output_value, finish)

        if has_pairs(inputs):
            found: Any = texts_and_pairs(inputs, texts, pairs)
            found = np.stack(found) if whole else found
        else:
            found = texts([inputs] if single else inputs)
        if not whole:
            if output_value is None:
                prefix = self.native.prompt(prompt_name, prompt)
                found = [self._features(row, prefix) for row in found]
            found = as_theirs(found)
        else:
            found = quantised(found, precision)
            if convert_to_tensor or not convert_to_numpy:
                found = as_tensor(found)
            if not (convert_to_tensor or convert_to_numpy):
                found = list(found)
        return found[0] if single else found

    def _features(self, row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """All that is known of a text, under the names of sentence-transformers' features."""
        names = ("input_ids", "attention_mask", "token_embeddings", "sentence_embedding")
        found: dict[str, Any] = {name: row[name] for name in names}
        for name in names[:2]:
            found[name] = found[name].astype(np.int64)
        types = row.get("token_type_ids", np.zeros_like(found["input_ids"]))
        found["token_type_ids"] = types.astype(np.int64)
        if prefix:
            found["prompt_length"] = self.native.tokenizer.prompt_length(prefix)
        return {**found, "modality": "text"}

    def encode_query(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """`encode` with the prompt named query, where the model has it and none is given."""
        return self._encode_as("query", ("query",), inputs, prompt_name, prompt, *more, **options)

    def encode_document(
        self,
        inputs: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """`encode` with the prompt named document, passage or corpus: the first that there is."""
        names = DOCUMENT_PROMPTS
        return self._encode_as("document", names, inputs, prompt_name, prompt, *more, **options)

    def _encode_as(
        self,
        task: str,
        names: tuple[str, ...],
        inputs: Any,
        prompt_name: str | None,
        prompt: str | None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """`encode` with the first prompt of these names; all is passed by name."""
        if prompt_name is None and prompt is None:
            prompt_name = next((name for name in names if name in self.prompts), None)
        inputs = texts_given(inputs, options.pop("sentences", None))
        if len(more) > len(POSITIONAL) or set(POSITIONAL[: len(more)]) & options.keys():
            raise InputTypeError("an argument was given twice, or too many were; pass them by name")
        given = dict(zip(POSITIONAL, more, strict=False)) | options
        return self.encode(
            inputs=inputs, prompt_name=prompt_name, prompt=prompt, task=task, **given
        )

    def encode_multi_process(
        self,
        inputs: Any = None,
        pool: Any = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        chunk_size: int | None = None,
        show_progress_bar: bool | None = None,
        normalize_embeddings: bool = False,
        precision: Any = "float32",
        truncate_dim: int | None = None,
        **options: Any,
    ) -> Any:
        """`encode` in this process, which is the whole pool."""
        return self.encode(
            inputs,
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            precision=precision,
            normalize_embeddings=normalize_embeddings,
            truncate_dim=truncate_dim,
            **options,
        )

    # --- features ----------------------------------------------------------------------------

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The features with token_embeddings and sentence_embedding, of all features, added."""
        check_no_more("forward", kwargs)
        ids, mask = (np.asarray(as_numpy(features[k])) for k in ("input_ids", "attention_mask"))
        # As `encode` gives them: none for a model that is never given the tokenizer's types.
        typed = "token_type_ids" in features and self.native.tokenizer.gives_types
        types = np.asarray(as_numpy(features["token_type_ids"])) if typed else None
        states = np.asarray(self.native.encoder(ids, mask, types), np.float32)
        pooled = mask.astype(bool)
        if "prompt_length" in features and not self.native.stack.pooling.include_prompt:
            pooled &= np.cumsum(mask, axis=1) > int(features["prompt_length"])
        rows = [state[own != 0] for state, own in zip(states, mask, strict=True)]
        masks = [own[there != 0] for own, there in zip(pooled, mask, strict=True)]
        vectors = self.native.engine.pool(rows, masks)
        features["token_embeddings"] = as_theirs(states)
        features["sentence_embedding"] = as_theirs(vectors)
        return features

    __call__ = forward


# Behind the first three arguments of encode.
POSITIONAL = (
    "batch_size show_progress_bar output_value precision convert_to_numpy convert_to_tensor device "
    "normalize_embeddings truncate_dim pool chunk_size"
).split()
