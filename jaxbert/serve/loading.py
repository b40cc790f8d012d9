"""From the command's options to an application and, when they are loaded, its models."""

import argparse
import os
from collections.abc import Mapping
from typing import Any

import jax

from jaxbert.arguments import integer
from jaxbert.cross_encoder import CrossEncoder
from jaxbert.embedder import Embedder
from jaxbert.inference.apart import Apart
from jaxbert.inference.quantise import Ranges
from jaxbert.inference.scoring import check_order
from jaxbert.serve import routes
from jaxbert.serve.app import App, BodyLimits
from jaxbert.serve.bounded import BoundedCrossEncoder, BoundedEmbedder
from jaxbert.serve.command import MEBIBYTE, check, served_name
from jaxbert.serve.cors import Cors
from jaxbert.serve.keys import ENVIRONMENT, ApiKeys
from jaxbert.serve.metrics import Metrics
from jaxbert.serve.served import Rules, Served
from jaxbert.serve.server import in_thread
from jaxbert.serve.state import State

# Texts of more tokens have threads of their own on a CPU, as have those whose shapes are not
# compiled before the server is ready: who compiles holds up all behind.
LONG = 1024


def app(options: argparse.Namespace, name: str) -> App:
    """The application before its models are there. Raises InputError for keys that are none."""
    limits = BodyLimits(options.max_body * MEBIBYTE, options.body_seconds)
    keys = ApiKeys.read(options.key_file, os.environ.get(ENVIRONMENT))
    return App(State(name, Metrics(routes.PATHS)), keys, Cors(options.cors), limits)


def rules(options: argparse.Namespace) -> Rules:
    """What requests may ask for. Raises InputError for ranges that cannot be read."""
    return Rules(
        most_texts=options.max_texts,
        most_tokens=options.max_tokens,
        most_states=options.max_states,
        on_long=options.on_long,
        accept_ids=options.accept_ids,
        strict_model=options.strict_model,
        ranges=None if options.ranges is None else Ranges.load(options.ranges),
    )


async def served(
    options: argparse.Namespace, models: Mapping[str, Any], state: State, rules: Rules
) -> Served:
    """The models with their queues, every usual shape of a batch compiled."""
    embedder, ranker = await in_thread(lambda: opened(options, models))
    waits = {"max_wait": options.max_wait, "timeout": options.timeout, "listener": state.metrics}
    most = rules.most_tokens
    length, lane = lanes(options, embedder.max_seq_length)
    queue = BoundedEmbedder(embedder, most, rules.most_states, **lane, **waits)
    await queue.warmup(length, states=options.warm_states)
    ranks = None
    if ranker is not None:
        length, lane = lanes(options, ranker.max_seq_length)
        ranks = BoundedCrossEncoder(ranker, most, **lane, **waits)
        await ranks.warmup(length)
    return Served(
        name=state.name,
        queue=queue,
        ranker_name=None if ranker is None else served_name_of(options),
        ranker=ranks,
        rules=rules,
        facts={
            "revision": str(models.get("revision") or ""),
            "dtype": str(models.get("dtype", "float32")),
            "device": jax.default_backend(),
            "engine": str(models.get("engine", "jax")),
        },
    )


def opened(
    options: argparse.Namespace, models: Mapping[str, Any]
) -> tuple[Embedder, CrossEncoder | None]:
    """The models, read from disk. Raises whatever from_pretrained raises.

    JAX on a CPU must compute in the thread that asks: else a short text that is dispatched while a
    long one runs comes back behind it, whatever the queue's lanes say.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # type: ignore[no-untyped-call]
    embedder = Embedder.from_pretrained(**models, deterministic=options.deterministic)
    if options.max_length is not None:
        embedder.max_seq_length = integer(options.max_length, "--max-length", 1)
    if options.prompt_name is not None:
        embedder.default_prompt_name = options.prompt_name
    if options.rerank is None:
        return embedder, None
    own = {**models, "name": options.rerank, "revision": None}
    ranker = CrossEncoder.from_pretrained(**own, deterministic=options.deterministic)
    check_order(ranker.settings.labels)
    return embedder, ranker


def served_name_of(options: argparse.Namespace) -> str:
    """What clients call the reranker."""
    return served_name(argparse.Namespace(served_name=None), options.rerank)


def warm(options: argparse.Namespace, longest: int) -> int:
    """The tokens up to which batches are compiled before the server is ready."""
    return min(integer(options.warm, "--warm", 1), longest)


def lanes(options: argparse.Namespace, longest: int) -> tuple[int, dict[str, Any]]:
    """The tokens up to which batches are compiled, and which texts are computed as long ones.

    Those are the ones that are not compiled, in a process of their own, or of over LONG tokens.
    """
    length = warm(options, longest)
    if options.long_texts == "apart" and longest > length:
        return length, {"long": length, "apart": Apart()}
    return length, {"long": min(LONG, length), "apart": None}


async def ready(options: argparse.Namespace, models: Mapping[str, Any]) -> App:
    """The application with its models loaded, for another server to drive; arguments as `served`.

    Raises whatever checking, reading and compiling raise.
    """
    check(options)
    made, promised = app(options, served_name(options, str(models["name"]))), rules(options)
    made.state.serve(await served(options, models, made.state, promised))
    return made
