"""TEI's /tokenize: how much of it is taken, and a thread that does it."""

import asyncio
import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from jaxbert.inference.model_queue import SOON
from jaxbert.inference.prefetch import spans
from jaxbert.inference.queue_tokens import WINDOW
from jaxbert.serve.token_ids import described
from jaxbert.serve.wire.errors import RequestError
from jaxbert.text.tokenizer import Tokenizer

Described = list[list[dict[str, Any]]]
# Characters of a token of prose, about.
PER_TOKEN = 4
# Requests of the largest size that may wait for the thread.
WAITING = 4


class TokenReader:
    """Describes the tokens of texts in one thread, with a tokenizer that holds up no other."""

    def __init__(self, tokenizer: Tokenizer, most: int) -> None:
        """most is the number of tokens that a request may have."""
        self.shared, self.most = tokenizer, most
        self.characters = most * PER_TOKEN  # that a request may have
        self.waiting = 0  # of those that are not answered yet
        self.pool = ThreadPoolExecutor(1, "jaxbert-describe")

    async def tokenized(self, texts: Sequence[str], with_special: bool) -> Described:
        """The tokens of each text as TEI writes them: {"id", "text", "special", "start", "stop"}.

        Raises RequestError for too many characters or tokens, and while too much of it waits.
        """
        characters = sum(map(len, texts))
        if characters > self.characters:
            raise too_many(characters, "characters", self.characters)
        if self.waiting + characters > WAITING * self.characters:
            raise RequestError(
                f"{self.waiting} characters wait to be tokenised; try again later",
                status=429,
                code="queue_full",
                retry_after=SOON,
            )
        self.waiting += characters
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.pool, self.read, texts, with_special)
        finally:
            self.waiting -= characters

    def read(self, texts: Sequence[str], with_special: bool) -> Described:
        """The same in this thread. Raises RequestError for too many tokens."""
        found: Described = []
        number = 0
        for first, last in spans([len(text) for text in texts], WINDOW):
            window = texts[first:last]
            for text, tokens in zip(window, self.own.detailed(window), strict=True):
                number += len(tokens.ids)
                if number > self.most:
                    raise too_many(number, "or more tokens", self.most)
                rows = described(self.own, text, tokens)
                found.append([row for row in rows if with_special or not row["special"]])
        return found

    @cached_property
    def own(self) -> Tokenizer:
        """A copy of the tokenizer, whose lock holds up nobody else; for the thread alone."""
        return copy.deepcopy(self.shared)


def too_many(number: int, what: str, most: int) -> RequestError:
    """The refusal of a request that is too large to be tokenised."""
    return RequestError(
        f"the request has {number} {what}, and the most is {most}; send several requests",
        code="too_many_tokens",
    )
