"""The settings, steps and similarities of a SentenceTransformer, under their names.

Source: sentence-transformers 6.2, sentence_transformer/model.py and base/model.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Self

from jaxbert.checkpoint.sentence_transformers.settings import SIMILARITIES
from jaxbert.compat.model import Model, restored
from jaxbert.compat.modules import Step, steps_of
from jaxbert.compat.named_prompts import check_named
from jaxbert.compat.tensors import as_numpy, as_theirs
from jaxbert.embedder import Embedder
from jaxbert.errors import InputError


class EmbedderModel(Model):
    """An Embedder under sentence-transformers' names, all but `encode`."""

    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = SIMILARITIES
    native: Embedder

    def _begin(self, embedder: Embedder, name: str, model_card_data: Any = None) -> None:
        """The fields of a model."""
        super().__init__(embedder, name, model_card_data)
        self._steps = steps_of(self)

    def __copy__(self) -> Self:
        """A model with settings of its own, which shares weights and programs."""
        new = super().__copy__()
        new._steps = steps_of(new)
        return new

    @property
    def embedder(self) -> Embedder:
        """The Embedder that does the work."""
        return self.native

    # --- steps -------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many steps the model has."""
        return len(self._steps)

    def __getitem__(self, i: Any) -> Any:
        """A step, described; its weights are in model.embedder."""
        return self._steps[int(i) if isinstance(i, str) else i]

    def __iter__(self) -> Iterator[Step]:
        """The steps in their order."""
        return iter(self._steps)

    def children(self) -> Iterator[Step]:
        """The steps in their order."""
        return iter(self._steps)

    def _first_module(self) -> Step:
        """The step with tokenizer and encoder."""
        return self._steps[0]

    def _last_module(self) -> Step:
        """The last step of the model."""
        return self._steps[-1]

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Whether the tokens of a prompt are pooled with those of the text."""
        self.native.set_pooling_include_prompt(include_prompt)
        self._steps = steps_of(self)

    # --- settings ----------------------------------------------------------------------------

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts by name; changes count at once."""
        return self.native.prompts

    @prompts.setter
    def prompts(self, prompts: Mapping[str, str]) -> None:
        self.native.prompts = dict(prompts)

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt where a call names none."""
        return self.native.default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, name: str | None) -> None:
        check_named("Default prompt name", name, self.prompts)
        self.native.default_prompt_name = name

    @property
    def similarity_fn_name(self) -> str:
        """What `similarity` computes: cosine, dot, euclidean or manhattan."""
        return self.native.similarity_fn_name

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: Any) -> None:
        if getattr(name, "value", name) == "maxsim":
            raise InputError(
                "similarity_fn_name is 'maxsim', which compares vectors of tokens; use "
                "jaxbert.MultiVectorEncoder"
            )
        self.native.similarity_fn_name = name

    @property
    def truncate_dim(self) -> int | None:
        """How many features of a vector are kept; None, or more than there are: all."""
        return self.native.truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, width: int | None) -> None:
        self.native.truncate_dim = self._width(width)

    def _width(self, width: int | None) -> int | None:
        """A width as the embedder takes it: one beyond the vectors' changes nothing."""
        large = width is not None and width > self.native.full_width
        return self.native.full_width if large else width

    def truncate_embeddings(self, truncate_dim: int | None) -> AbstractContextManager[None]:
        """A context in which truncate_dim is another."""
        return restored(self, "truncate_dim", truncate_dim)

    truncate_sentence_embeddings = truncate_embeddings

    def get_embedding_dimension(self) -> int:
        """The width of a vector."""
        return self.native.get_embedding_dimension()

    get_sentence_embedding_dimension = get_embedding_dimension

    def get_model_kwargs(self) -> list[str]:
        """Keywords of encode that steps take for themselves: none."""
        return []

    # --- similarities ---------------------------------------------------------------------------

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """[n, d] and [m, d] -> [n, m], a tensor if torch is installed."""
        return as_theirs(self.native.similarity(as_numpy(embeddings1), as_numpy(embeddings2)))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """[n, d] and [n, d] -> [n], a tensor if torch is installed."""
        a, b = as_numpy(embeddings1), as_numpy(embeddings2)
        return as_theirs(self.native.similarity_pairwise(a, b))
