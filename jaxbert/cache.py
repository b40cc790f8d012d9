"""Compiled programs are kept between processes: JAX's persistent compilation cache, on by default.

JAX leaves it off, and when on drops what compiles in under a second, which is most shapes here.
Whoever has set JAX's own options (`jax_compilation_cache_dir`, `jax_enable_compilation_cache`)
keeps them; `JAXBERT_CACHE` names another folder, or is `off`.
"""

import hashlib
import logging
import os
import platform
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TypeVar

import jax

VARIABLE = "JAXBERT_CACHE"
# JAX's own threshold: compilations of fewer seconds are not kept.
DEFAULT_SECONDS = 1.0
# The names of JAX's files: a program's name, and a hash.
ENTRY = re.compile(r"-[0-9a-f]{64}-cache$")
# How JAX's warnings about its cache begin.
TROUBLE = ("Error reading persistent compilation", "Error writing persistent compilation")

log = logging.getLogger(__name__)
# Warnings are caught for the whole process, so by one thread at a time.
one_at_a_time = Lock()
Result = TypeVar("Result")


def processor() -> str:
    """What tells processors apart: a program runs where it was compiled."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = sorted({line for line in lines if line.startswith(("flags", "Features"))})
    except OSError:
        features = [platform.processor()]
    return hashlib.sha256("\n".join([platform.machine(), *features]).encode()).hexdigest()[:12]


def default_folder() -> Path:
    """jaxbert/<processor> in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxbert" / processor()


@cache
def folder() -> Path | None:
    """The folder in use, after turning JAX's cache on, for the whole process; None if it is not."""
    chosen = os.environ.get(VARIABLE, "")
    options = jax.config.values
    theirs = options["jax_compilation_cache_dir"] is not None
    if chosen.lower() == "off" or theirs or not options["jax_enable_compilation_cache"]:
        return None
    try:
        path = Path(chosen) if chosen else default_folder()
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody knows the home folder
        log.warning(
            "compiled programs are not kept: %s; name a folder in %s, or set it to off",
            error,
            VARIABLE,
        )
        return None
    kept_from = options["jax_persistent_cache_min_compile_time_secs"]
    if kept_from == DEFAULT_SECONDS:
        kept_from = 0.0
    if not os.access(path, os.W_OK):
        kept_from = float("inf")
        log.warning("%s cannot be written: compiled programs are read there, not kept", path)
    update: Callable[[str, object], None] = jax.config.update
    update("jax_compilation_cache_dir", str(path))
    update("jax_persistent_cache_min_compile_time_secs", kept_from)
    return path


def through_cache(compile_it: Callable[[], Result]) -> Result:
    """What compile_it gives; trouble with the cache is said once, and a damaged one is emptied."""
    with one_at_a_time:
        path = folder()
        if path is None:
            return compile_it()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = compile_it()
    for warning in caught:
        text = str(warning.message)
        if text.startswith(TROUBLE):
            say_once(f"compiled programs in {path}: {' '.join(text.split())}")
            if text.startswith(TROUBLE[0]):
                empty(path)
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return result


def empty(path: Path) -> None:
    """Remove the programs: JAX would read a damaged one again in every process."""
    for file in path.glob("*-cache"):
        if ENTRY.search(file.name):
            with suppress(OSError):
                file.unlink(missing_ok=True)


@cache
def say_once(text: str) -> None:
    """A warning in the log, the first time."""
    log.warning(text)
