"""What `jaxbert serve` does: the port first, then the models, then answers until a signal comes."""

import argparse
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxbert.arguments import integer
from jaxbert.errors import InputError, MissingPackageError
from jaxbert.process import interrupts, streams
from jaxbert.serve.address import opened, url

EXTRA = ("uvicorn", "httptools", "orjson", "prometheus_client")
MEBIBYTE = 2**20


def check_installed() -> None:
    """Raise MissingPackageError for a package of the extra `serve` that is not there."""
    for package in EXTRA:
        if find_spec(package) is None:
            raise MissingPackageError(package, "serve")


def served_name(options: argparse.Namespace, model: str) -> str:
    """What clients call the model: as asked for, else a folder's last name, else the hub name."""
    if options.served_name is not None:
        return str(options.served_name)
    return Path(model).resolve().name if Path(model).is_dir() else model


def run(options: argparse.Namespace, models: Mapping[str, Any]) -> int:
    """Serve until SIGTERM or SIGINT; models are the arguments of from_pretrained."""
    check_installed()
    check(options)
    listener = opened(options.host, integer(options.port, "--port", 0, 65_535))
    name = served_name(options, str(models["name"]))
    streams.say(f"jaxbert: {url(listener)} is open; loading {name}")
    from jaxbert.serve import loading, server

    interrupts.check()
    app, rules = loading.app(options, name), loading.rules(options)
    life = server.Life(
        app,
        lambda: loading.served(options, models, app.state, rules),
        listener,
        options.grace_before,
        options.body_seconds + options.timeout,
    )
    return server.serve(life)


def check(options: argparse.Namespace) -> None:
    """Raise InputError for numbers that no server can keep to."""
    for name in ("max_texts", "max_tokens", "max_states", "max_body"):
        integer(getattr(options, name), f"--{name.replace('_', '-')}", 1)
    for name in ("body_seconds", "max_wait", "timeout"):
        if not 0 < getattr(options, name) < float("inf"):
            raise InputError(f"--{name.replace('_', '-')} must be more than 0 seconds")
    if not 0 <= options.grace_before < float("inf"):
        raise InputError("--grace-before must be 0 seconds or more")
