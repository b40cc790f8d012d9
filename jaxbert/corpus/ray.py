"""Vectors in a Ray Data pipeline: a class for map_batches, and any program that hands over batches.

A driver imports this module and builds its pipeline with nothing of JAX: that is imported where a
model is loaded, in the actor.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxbert.errors import InputError


class EmbedBatch:
    """A column of vectors beside the texts of a batch: dict of columns in, dict of columns out.

        rows.map_batches(
            EmbedBatch,
            fn_constructor_args=(model,),
            batch_size=4096,
            compute=ray.data.ActorPoolStrategy(size=2),  # actors
            num_gpus=1,  # to each; or resources={"TPU": 4}
        )

    Each actor loads the model once, on the chips that Ray shows it: give each all chips of a host,
    or one, and always say so, for two processes cannot share a chip. The class travels by name, so
    jaxbert must be installed on every host.
    batch_size is best some thousands (None, Ray's default, is a whole block): the texts of a batch
    are sorted by length and run together, and a small batch leaves mostly padding.
    deterministic=True makes a text's vector the same bits however Ray cuts the data, on one kind of
    device and one version; False agrees within 1e-5 of the vector's norm (float32).
    An actor that dies is started again and computes again what it had: Ray Data's default, without
    end. max_restarts=3, max_task_retries=3 ends it where a batch kills every actor; max_restarts=0
    ends it at once. An error of `encode` is not tried again, it ends the run.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        text_column: str = "text",
        output_column: str = "embedding",
        deterministic: bool = True,
        model_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Load the model on all devices of this process, and try the options on no texts.

        model is a folder that every host has, or a hub name. model_options are keywords of
        `Embedder.from_pretrained` (revision, ignore_config, dtype="bfloat16"), options those of
        `Embedder.encode`. Raises their errors; InputError for options that would make a vector
        depend on its batch, or give no vectors.
        """
        check_options(options)
        import jax

        from jaxbert.embedder import Embedder

        self.embedder = Embedder.from_pretrained(
            model, deterministic=deterministic, devices=jax.local_devices(), **(model_options or {})
        )
        self.text_column = text_column
        self.output_column = output_column
        self.options = options
        self.embedder.encode([], **options)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The batch and its vectors: [n, d] float32, or what precision and truncate_dim make of it.

        All n texts go through one call of `encode`. Raises InputTypeError for what is no text,
        InputError for a batch without the column of texts, or with that of vectors.
        """
        check_columns(batch, self.text_column, self.output_column)
        texts = np.asarray(batch[self.text_column]).tolist()
        return {**batch, self.output_column: self.embedder.encode(texts, **self.options)}


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of `encode` that do not fit a column of vectors made batch by batch."""
    if "output_value" in options:
        raise InputError(
            "output_value is not for batches, which get one vector per text; leave it out"
        )
    if options.get("precision") in ("int8", "uint8") and options.get("ranges") is None:
        raise InputError(
            f"precision is {options['precision']!r} without ranges, which would then differ from "
            "batch to batch; pass ranges=Ranges.of(vectors) of some hundred texts"
        )


def check_columns(batch: Mapping[str, np.ndarray], text: str, output: str) -> None:
    """Refuse a batch whose texts are missing, or whose column would be lost."""
    if text not in batch:
        raise InputError(
            f"a batch has no column {text!r}, only {', '.join(map(repr, batch))}; name the column "
            "of texts with text_column"
        )
    if output in batch:
        raise InputError(
            f"a batch has a column {output!r} already; choose another name with output_column"
        )
