"""A cache of compiled programs on disk, shared by all processes of a user; on by default.

JAX's persistent cache belongs to the whole process: turned on here, it would store the user's
programs too. So it stays as it is; if the user has turned it on, it stores our programs and this
one stores none. `JAXBERT_CACHE` names another folder, or is `off`.

A compiled program is code, so the folder and each file must belong to the user and be writable by
nobody else. Everything is done through an open descriptor of the folder, so that nobody can replace
it meanwhile.
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
# JAX's default threshold, below which it stores nothing; here only another value of it counts.
DEFAULT_SECONDS = 1.0
# Environment variables that XLA's compilers read.
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
DIGEST = hashlib.sha256().digest_size

log = logging.getLogger(__name__)


class DamagedError(Exception):
    """A cache file whose contents are not what was written."""


def processor() -> str:
    """A hash of the processor's features: a program runs only where these are the same."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = sorted({line for line in lines if line.startswith(("flags", "Features"))})
    except OSError:
        features = [platform.processor()]
    return hashlib.sha256("\n".join([platform.machine(), *features]).encode()).hexdigest()[:12]


def cores() -> int:
    """How many cores the process may use, which XLA divides work among."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- the folder --------------------------------------------------------------------------------


def default_folder() -> Path:
    """jaxbert/<processor> in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxbert" / processor()


def wanted() -> bool:
    """Whether programs are stored here: not where this or JAX's cache is off, or JAX's is used."""
    off = os.environ.get(VARIABLE, "").lower() == "off"
    jax_decides = option("jax_compilation_cache_dir") or not option("jax_enable_compilation_cache")
    return not off and not jax_decides


@cache
def folder(chosen: str) -> tuple[Path, int] | None:
    """The folder and its open descriptor, kept open; None, with a warning, if it cannot be used."""
    try:
        path = (Path(chosen).expanduser() if chosen else default_folder()).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no home folder
        not_kept(str(error))
        return None
    if not private(os.fstat(descriptor)):
        os.close(descriptor)
        not_kept(f"{path} is another user's or others may write there (chmod go-w closes a folder)")
        return None
    return path, descriptor


def private(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to the user and nobody else may write it.

    False on systems without POSIX's owners, where nothing is then kept.
    """
    if not hasattr(os, "geteuid"):
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def not_kept(reason: str) -> None:
    """Log a warning that there is no cache, and why."""
    log.warning(
        "compiled programs are not kept: %s; name a folder in %s, or set it to off",
        reason,
        VARIABLE,
    )


@cache
def say_once(text: str) -> None:
    """Log a warning, the first time that it is asked for."""
    log.warning(text)


# --- a program ---------------------------------------------------------------------------------


def through_cache(lowered: Lowered, devices: Sequence[jax.Device]) -> Compiled:
    """The compiled program, read from the cache or stored there; file errors are logged once."""
    text = lowered.as_text()
    cache = folder(os.environ.get(VARIABLE, "")) if wanted() else None
    if cache is None or "callback" in text:  # which is an address in this process
        return lowered.compile()
    path, descriptor = cache
    name = f"{key(text, devices)}.program"
    try:
        stored = read(descriptor, name)
        if stored is not None:
            return load(stored, lowered, devices)
    except (OSError, DamagedError) as error:
        say_once(f"a compiled program in {path} is made anew: {error}")
        with suppress(OSError):
            os.unlink(name, dir_fd=descriptor)
    start = time.perf_counter()
    compiled = lowered.compile()
    if time.perf_counter() - start >= kept_from():
        try:
            write(descriptor, name, serialize_executable.serialize(compiled)[0])
        except (ValueError, NotImplementedError) as error:
            log.info("a program is not kept: %s", error)
        except OSError as error:
            say_once(f"compiled programs in {path} are read, not kept: {error.strerror}")
    return compiled


def kept_from() -> float:
    """Seconds of the shortest compilation that is stored: 0 unless JAX's option was changed."""
    seconds = float(option("jax_persistent_cache_min_compile_time_secs"))
    return 0.0 if seconds == DEFAULT_SECONDS else seconds


def key(text: str, devices: Sequence[jax.Device]) -> str:
    """A hash of all that the compiled program depends on or may depend on."""
    client = devices[0].client
    dependencies = [
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
    return hashlib.sha256("\0".join(map(str, dependencies)).encode()).hexdigest()


def load(stored: bytes, lowered: Lowered, devices: Sequence[jax.Device]) -> Compiled:
    """The program from its stored bytes. Raises DamagedError where JAX cannot load them."""
    try:
        compiled = serialize_executable.deserialize_and_load(
            stored, lowered.in_tree, lowered.out_tree, devices[0].client, devices
        )
    except Exception as error:  # whatever JAX, XLA and pickle raise
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    log.debug("read a compiled program")
    return compiled


def read(folder: int, name: str) -> bytes | None:
    """The bytes that `write` stored under a name in the folder; None if there is no such file.

    folder is an open descriptor. Raises DamagedError for any other file, OSError for a link.
    """
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(file, "rb") as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or not private(status):
            raise DamagedError("its file is another user's, or no file")
        content = stream.read()
    digest, packed = content[:DIGEST], content[DIGEST:]
    if hashlib.sha256(packed).digest() != digest:
        raise DamagedError("its file is damaged")
    try:
        return zlib.decompress(packed)
    except zlib.error as error:
        raise DamagedError(f"its file is damaged ({error})") from error


def write(folder: int, name: str, program: bytes) -> None:
    """Store a program under a name, after a hash of its bytes; the file appears complete."""
    packed = zlib.compress(program, 1)
    temporary = f"{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with open(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as stream:
            stream.write(hashlib.sha256(packed).digest() + packed)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
