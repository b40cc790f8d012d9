"""The mutations by what they are about."""

from tests.attack import files, headers, stacks, steps, tensors, tokens, values
from tests.attack.spoil import Mutation

GROUPS: dict[str, list[Mutation]] = {
    "bytes": files.BYTES,
    "places": files.PLACES,
    "contents": files.CONTENTS,
    "lost": files.LOST,
    "json": values.JSON,
    "config": stacks.CONFIGS,
    "modules": stacks.STACKS,
    "numbers": tensors.WEIGHTS,
    "headers": headers.HEADERS,
    "shards": headers.SHARDS,
    "ids": tokens.IDS,
    "tokens": tokens.TOKENS,
    "steps": steps.STEPS,
}
