"""An Embedder as an encoder of the benchmark mteb 2; mteb is imported when one is made.

Source: mteb 2.26, models/models_protocols.py for the methods, and sentence_transformer_wrapper.py
beside it for the prompts, so that scores can be compared with those of sentence-transformers.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from jaxbert.arguments import choice
from jaxbert.checkpoint.sentence_transformers.settings import SIMILARITIES
from jaxbert.embedder import Embedder
from jaxbert.errors import InputError, JaxbertError
from jaxbert.inference.equal_texts import each_once
from jaxbert.inference.similarity import similarity, similarity_pairwise


class MtebMissingError(JaxbertError, ImportError):
    """mteb is not installed, or not in a version that is supported."""


class MtebEncoder:
    """What `mteb.evaluate` and `mteb.mock_run` take as a model; `mteb_model_meta` describes it."""

    def __init__(self, embedder: Embedder, name: str, revision: str | None = None) -> None:
        """name is "organisation/model"; mteb keeps results under it and the revision.

        An embedder whose settings were changed (truncate_dim, prompts, dtype ...) needs another
        name or revision, or mteb would return the stored results of the unchanged one.
        """
        self.embedder = embedder
        self.mteb = mteb_objects()
        # An attribute, since mteb's wrappers replace it.
        self.mteb_model_meta: Any = self.mteb.ModelMeta.create_empty(
            {
                "name": checked_name(name),
                "revision": revision,
                "framework": ["JAX"],
                "embed_dim": embedder.get_embedding_dimension(),
                "max_tokens": embedder.max_seq_length,
                "similarity_fn_name": self.mteb.ScoringFunction(embedder.similarity_fn_name),
            }
        )

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **options: Any,
    ) -> np.ndarray:
        """One vector per text of a DataLoader, [n, d]; all texts go through one call of `encode`.

        Equal texts are embedded once: metrics that sort by score, such as nAUC, would order them by
        the last bits of their vectors.
        The prompt is the model's one for the task, else for the task's type, else for queries or
        documents. options are those of `Embedder.encode`, from mteb's encode_kwargs;
        mteb always passes batch_size, 32 by default, which is low for an accelerator. Raises
        InputError for packed bits, TypeError for an unknown option.
        """
        refuse_bits(options.get("precision"))
        texts = [text for batch in inputs for text in batch["text"]]
        prompt_name = self.mteb.get_prompt_name(self.embedder.prompts, task_metadata, prompt_type)
        encode = {
            None: self.embedder.encode,
            "query": self.embedder.encode_query,
            "document": self.embedder.encode_document,
        }[None if prompt_type is None else prompt_type.value]
        # Ranges of integers, token states and reports of long texts are of all texts as they came.
        plain = options.get("precision") in (None, "float32")
        plain &= options.get("output_value", "sentence_embedding") == "sentence_embedding"
        if plain and "on_long" not in options:
            return each_once(texts, partial(encode, prompt_name=prompt_name, **options))
        return encode(texts, prompt_name=prompt_name, **options)

    def similarity(self, a: np.ndarray, b: np.ndarray) -> Any:
        """[n, d] and [m, d] -> [n, m]; one number for two single vectors [d].

        Differs from `Embedder.similarity`, which gives [1, 1]: mteb makes a float of it, which
        NumPy 2.4 refuses.
        """
        matrix = similarity(a, b, self.similarity_kind())
        return matrix[0, 0] if np.ndim(a) == np.ndim(b) == 1 else matrix

    def similarity_pairwise(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """[n, d] and [n, d] -> [n]: the similarity of each a[i] with b[i]."""
        return similarity_pairwise(a, b, self.similarity_kind())

    def similarity_kind(self) -> str:
        """The similarity that mteb_model_meta names, by which mteb's indices search too.

        Raises InputError for one that compares no vectors of texts.
        """
        named = self.mteb_model_meta.similarity_fn_name
        kind = self.embedder.similarity_fn_name if named is None else named.value
        return choice(kind, "similarity_fn_name", SIMILARITIES)


def mteb_objects() -> SimpleNamespace:
    """The functions and classes of mteb that are used here. Raises MtebMissingError."""
    try:
        from mteb.models.abs_encoder import get_prompt_name
        from mteb.models.model_meta import ModelMeta, ScoringFunction
    except ImportError as error:
        raise MtebMissingError(
            f"MtebEncoder needs mteb 2.26 or later ({error}); install it with the extra mteb: "
            'pip install "jaxbert[mteb]"'
        ) from error
    return SimpleNamespace(
        get_prompt_name=get_prompt_name, ModelMeta=ModelMeta, ScoringFunction=ScoringFunction
    )


def checked_name(name: str) -> str:
    """The name. Raises InputError unless it is "organisation/model", which mteb rarely checks."""
    halves = name.split("/")
    if len(halves) != 2 or not all(halves):
        raise InputError(f'name is {name!r}, but mteb needs "organisation/model"; pass such a name')
    return name


def refuse_bits(precision: Any) -> None:
    """Raise InputError for packed bits, whose bytes mteb would compare as numbers."""
    if precision in ("binary", "ubinary"):
        raise InputError(
            f"precision is {precision!r}, and mteb compares the packed bytes as numbers; leave it "
            "out, and put mteb's CompressionWrapper around this encoder"
        )
