"""The options of `jaxbert serve`, as argparse takes them; imports no jax."""

import argparse
from collections.abc import Sequence
from typing import Any


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """These options alone, of words as on a command line; SystemExit for those that are none."""
    parser = argparse.ArgumentParser(prog="jaxbert serve MODEL", add_help=False)
    serve_options(parser)
    return parser.parse_args(words)


def serve_options(command: argparse.ArgumentParser) -> None:
    """Where to listen, what to serve beside the model, and what requests may ask for."""
    command.set_defaults(output=None)  # nothing is written on stdout
    shown = "(default: %(default)s)"
    give = command.add_argument_group("where").add_argument
    give("--host", default="127.0.0.1", help=f"0.0.0.0 is for other machines too {shown}")
    give("--port", type=int, default=8000, metavar="P", help=f"0 is any that is free {shown}")
    give("--key-file", metavar="FILE", help="keys, one a line (also: JAXBERT_API_KEYS)")
    give("--cors", action="append", default=[], metavar="ORIGIN", help="may ask from its pages")
    give = command.add_argument_group("what").add_argument
    give("--rerank", metavar="MODEL", help="a cross-encoder for /rerank (default: by cosine)")
    give("--served-name", metavar="NAME", help="what clients call the model (default: its own)")
    give("--prompt-name", metavar="NAME", help="the prompt of requests that name none")
    give("--max-length", type=int, metavar="N", help="tokens of a text (default: the model's)")
    give("--deterministic", action="store_true", help="the same bits for a text under any load")
    give("--warm", type=int, default=512, metavar="N", help=f"compile up to N tokens {shown}")
    about = f"compute long texts in a process of lower priority, on a CPU, or in this one {shown}"
    give("--long-texts", choices=("apart", "here"), default="apart", help=about)
    give("--warm-states", action="store_true", help="compile /embed_all and late_chunking too")
    give("--ranges", metavar="FILE", help="of int8 and uint8, as Ranges.save writes it")
    give = command.add_argument_group("requests").add_argument
    give("--on-long", choices=("truncate", "error"), default="truncate", help=shown)
    give("--accept-ids", action="store_true", help="take token ids of this model's tokenizer")
    give("--strict-model", action="store_true", help="refuse the names of other models")
    give("--max-texts", type=int, default=2048, metavar="N", help=f"of a request {shown}")
    give("--max-tokens", type=int, default=300_000, metavar="N", help=f"of a request {shown}")
    about = f"tokens of one to /embed_all or with late_chunking {shown}"
    give("--max-states", type=int, default=16_384, metavar="N", help=about)
    give("--max-body", type=int, default=8, metavar="MIB", help=f"of a request {shown}")
    seconds: dict[str, Any] = {"type": float, "metavar": "S"}
    give("--body-seconds", default=30.0, **seconds, help=f"for a body to arrive {shown}")
    give("--max-wait", default=30.0, **seconds, help=f"refuse beyond so much work {shown}")
    give("--timeout", default=120.0, **seconds, help=f"drop what has waited longer {shown}")
    give("--grace-before", default=0.0, **seconds, help=f"/ready is 503 before the end {shown}")
