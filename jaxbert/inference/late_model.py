"""What callers read and set of a late-interaction model: lengths, prompts, similarity."""

from jaxbert.arguments import choice, integer
from jaxbert.checkpoint.late_settings import DOCUMENT, QUERY, SIMILARITIES, LateSettings
from jaxbert.errors import InputError, shown
from jaxbert.inference.settings import DOCUMENT_PROMPTS
from jaxbert.model.config import LARGEST
from jaxbert.text.late_interaction import LateTokenizer
from jaxbert.text.prompts import check_str
from jaxbert.text.tokenizer import Tokenizer


class LateModel:
    """The two sides of a late-interaction model, with the words of its settings looked up."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        settings: LateSettings,
        vocab_size: int,
        positions: int | None,
        width: int,
    ) -> None:
        """positions is how many the encoder has, None for any; width is that of the vectors.

        Raises CheckpointError for words of the settings that are no tokens of the vocabulary.
        """
        self.tokenizer, self.settings = tokenizer, settings
        self.positions, self.width = positions, width
        self.sides = {
            QUERY: LateTokenizer.of(tokenizer, settings.query, settings.expansion, vocab_size),
            DOCUMENT: LateTokenizer.of(tokenizer, settings.document, None, vocab_size),
        }
        self.similarity_fn_name = settings.similarity

    @property
    def prompts(self) -> dict[str, str]:
        """A copy of the prompts by name, which stand before a text."""
        return dict(self.settings.prompts)

    @property
    def query_length(self) -> int:
        """The most tokens of a query, marker and special tokens included; longer ones are cut."""
        return self.sides[QUERY].length

    @query_length.setter
    def query_length(self, tokens: int) -> None:
        self.set_length(QUERY, tokens)

    @property
    def document_length(self) -> int:
        """The most tokens of a document, marker and special tokens included; others are cut."""
        return self.sides[DOCUMENT].length

    @document_length.setter
    def document_length(self, tokens: int) -> None:
        self.set_length(DOCUMENT, tokens)

    def set_length(self, side: str, tokens: int) -> None:
        """Set the most tokens of queries or documents, for which the model must have positions."""
        length = integer(tokens, f"{side}_length", 1, self.positions or LARGEST)
        self.sides = self.sides | {side: self.sides[side].with_length(length)}

    @property
    def similarity_fn_name(self) -> str:
        """What `similarity` computes: maxsim, or meanmaxsim, the share of each query token."""
        return self._similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: str) -> None:
        self._similarity = choice(name, "similarity_fn_name", SIMILARITIES)

    def get_embedding_dimension(self) -> int:
        """The features of each token's vector, before truncate_dim."""
        return self.width

    def prompt(self, side: str, name: str | None, text: str | None) -> str:
        """The prompt that applies: the text, else the named one, the side's, the default one."""
        if text is not None:
            check_str(text, "prompt")
            return str.__str__(text)
        own, prompts = ((QUERY,) if side == QUERY else DOCUMENT_PROMPTS), self.settings.prompts
        if name is None:
            name = next((known for known in own if known in prompts), None)
        if name is None:
            name = self.settings.default_prompt_name
        if name is None:
            return ""
        check_str(name, "prompt_name")
        if name not in prompts:
            known = ", ".join(map(repr, prompts)) or "none"
            raise InputError(f"the model has no prompt named {shown(name)}; it has: {known}")
        return prompts[name]
