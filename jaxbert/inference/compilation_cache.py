"""Compiled programs are kept between processes, in files of our own; on by default.

JAX's persistent cache is one for the whole process: turned on here, it would take the user's
programs too. So it stays as it is; whoever has turned it on has our programs in it, and none are
kept here. `JAXBERT_CACHE` names another folder, or is `off`.

A compiled program is code, so the folder must be the user's own and closed to others, and so must
each file. Everything is done through an open descriptor of the folder, so that nobody can put
another in its place.
"""

import hashlib
import logging
import os
import platform
import secrets
import stat
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jax
from jax.experimental import serialize_executable
from jax.stages import Compiled, Lowered

from jaxbert.process.backend import option

VARIABLE = "JAXBERT_CACHE"
# JAX's own threshold, below which it keeps nothing; here another one counts, if the user sets it.
DEFAULT_SECONDS = 1.0
# Environment variables that XLA's compilers read.
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
DIGEST = hashlib.sha256().digest_size

log = logging.getLogger(__name__)


class DamagedError(Exception):
    """A file that does not hold what was written there."""


def processor() -> str:
    """What tells processors apart: a program runs where it was compiled."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = sorted({line for line in lines if line.startswith(("flags", "Features"))})
    except OSError:
        features = [platform.processor()]
    return hashlib.sha256("\n".join([platform.machine(), *features]).encode()).hexdigest()[:12]


def cores() -> int:
    """How many cores the process may use: XLA divides work among them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- the folder --------------------------------------------------------------------------------


def default_folder() -> Path:
    """jaxbert/<processor> in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxbert" / processor()


def wanted() -> bool:
    """Whether programs are kept here: not where this or JAX's cache is off, or JAX's is in use."""
    off = os.environ.get(VARIABLE, "").lower() == "off"
    theirs = option("jax_compilation_cache_dir") or not option("jax_enable_compilation_cache")
    return not off and not theirs


@cache
def folder(chosen: str) -> tuple[Path, int] | None:
    """The folder and a descriptor of it, for the life of the process; None if it cannot be used."""
    try:
        path = (Path(chosen).expanduser() if chosen else default_folder()).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: nobody knows the home
        not_kept(str(error))
        return None
    if not private(os.fstat(opened)):
        os.close(opened)
        not_kept(f"{path} is another user's or others may write there (chmod go-w closes a folder)")
        return None
    return path, opened


def private(found: os.stat_result) -> bool:
    """Whether a file or folder is the user's own and nobody else may write it."""
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def not_kept(reason: str) -> None:
    """The warning that there is no cache."""
    log.warning(
        "compiled programs are not kept: %s; name a folder in %s, or set it to off",
        reason,
        VARIABLE,
    )


@cache
def say_once(text: str) -> None:
    """A warning in the log, the first time."""
    log.warning(text)


# --- a program ---------------------------------------------------------------------------------


def through_cache(lowered: Lowered, devices: Sequence[jax.Device]) -> Compiled:
    """The compiled program, read if it is there, else kept; trouble with files is said once."""
    text = lowered.as_text()
    place = folder(os.environ.get(VARIABLE, "")) if wanted() else None
    if place is None or "callback" in text:  # which is an address in this process
        return lowered.compile()
    path, opened = place
    name = f"{key(text, devices)}.program"
    try:
        stored = read(opened, name)
        if stored is not None:
            return load(stored, lowered, devices)
    except (OSError, DamagedError) as error:
        say_once(f"a compiled program in {path} is made anew: {error}")
        with suppress(OSError):
            os.unlink(name, dir_fd=opened)
    start = time.perf_counter()
    compiled = lowered.compile()
    if time.perf_counter() - start >= kept_from():
        try:
            write(opened, name, serialize_executable.serialize(compiled)[0])
        except (ValueError, NotImplementedError) as error:
            log.info("a program is not kept: %s", error)
        except OSError as error:
            say_once(f"compiled programs in {path} are read, not kept: {error.strerror}")
    return compiled


def kept_from() -> float:
    """Compilations of fewer seconds are not kept: none, unless the user has changed JAX's limit."""
    seconds = float(option("jax_persistent_cache_min_compile_time_secs"))
    return 0.0 if seconds == DEFAULT_SECONDS else seconds


def key(text: str, devices: Sequence[jax.Device]) -> str:
    """A sum of all that the compiled program depends on; what it may depend on counts too."""
    client = devices[0].client
    parts = [
        text,
        jax.__version__,
        version("jaxlib"),
        client.platform,
        client.platform_version,
        processor(),
        cores(),
        [(device.id, device.device_kind) for device in devices],
        [os.environ.get(name) for name in FLAGS],
        sorted((name, repr(getattr(jax.config, name, None))) for name in jax.config.values),
    ]
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def load(stored: bytes, lowered: Lowered, devices: Sequence[jax.Device]) -> Compiled:
    """The program of the bytes. Raises DamagedError where JAX cannot make one of them."""
    try:
        compiled = serialize_executable.deserialize_and_load(
            stored, lowered.in_tree, lowered.out_tree, devices[0].client, devices
        )
    except Exception as error:  # whatever JAX, XLA and pickle raise
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    log.debug("read a compiled program")
    return compiled


def read(opened: int, name: str) -> bytes | None:
    """What was written under the name in the folder; None if there is none.

    Raises DamagedError for anything but that, OSError for a link.
    """
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened)
    except FileNotFoundError:
        return None
    with open(file, "rb") as stream:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or not private(found):
            raise DamagedError("its file is another user's, or no file")
        whole = stream.read()
    digest, packed = whole[:DIGEST], whole[DIGEST:]
    if hashlib.sha256(packed).digest() != digest:
        raise DamagedError("its file is damaged")
    try:
        return zlib.decompress(packed)
    except zlib.error as error:
        raise DamagedError(f"its file is damaged ({error})") from error


def write(opened: int, name: str, program: bytes) -> None:
    """Put the program under the name, all at once, behind a sum of its bytes."""
    packed = zlib.compress(program, 1)
    beside = f"{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with open(os.open(beside, flags, 0o600, dir_fd=opened), "wb") as stream:
            stream.write(hashlib.sha256(packed).digest() + packed)
        os.rename(beside, name, src_dir_fd=opened, dst_dir_fd=opened)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=opened)
        raise
