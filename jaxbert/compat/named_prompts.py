"""Prompts by name, where a name is wrong or one too many.

Errors begin with the words for which code written for sentence-transformers looks.
"""

import logging
from collections.abc import Mapping
from typing import Any

from jaxbert.errors import InputError, shown
from jaxbert.text.prompts import check_str

log = logging.getLogger(__name__)

BOTH = "prompt and prompt_name are both given; the prompt is used, and prompt_name changes nothing"


def one_prompt(name: Any, text: Any, prompts: Mapping[str, str]) -> Any:
    """The name of the prompt that applies; None beside a text, which is logged.

    Differs: Embedder.encode gives a Python warning for both, which a program may turn into an
    error. Raises InputError for a name that is not there.
    """
    if text is None:
        check_named("Prompt name", name, prompts)
        return name
    if name is not None:
        log.warning(BOTH)
    return None


def check_named(title: str, name: Any, prompts: Mapping[str, str]) -> None:
    """Raise InputError for a name without a prompt, InputTypeError unless it is a str or None."""
    if name is None:
        return
    check_str(name, title)
    if name not in prompts:
        raise InputError(
            f"{title} {shown(name)} not found in the configured prompts dictionary with keys "
            f"{list(prompts)}. Name one of these, or add it to prompts"
        )
