"""JAX's backend: starting it, with an error of one sentence, and checking its devices."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from jaxbert.errors import DeviceUnavailableError, InputError, InputTypeError
from jaxbert.process.forked import check_not_forked

# The extra of jaxbert that installs a platform, by JAX's names of the platform.
EXTRAS = {"cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}


def backend() -> str:
    """The platform that this process computes on; starts JAX if it has not started yet.

    Raises ForkedProcessError, and DeviceUnavailableError where JAX cannot start.
    """
    check_not_forked()
    try:
        return jax.default_backend()
    except Exception as error:  # RuntimeError, and AssertionError for a plugin that is not there
        raise unavailable(error) from error


@contextmanager
def computing() -> Iterator[None]:
    """The context in which a public call computes: JAX has started, transfers are allowed.

    The user's transfer guard is off, since such a call is meant to move its arguments to the
    device. Raises as `backend`.
    """
    backend()
    with jax.transfer_guard("allow"):
        yield


def option(name: str) -> Any:
    """The value of one of JAX's options, now and in this thread."""
    return getattr(jax.config, name)


def unavailable(error: Exception) -> DeviceUnavailableError:
    """The error that says what JAX could not start, why, and what to do."""
    platforms = str(option("jax_platforms") or "")
    reason = str(error).split("(set JAX_PLATFORMS")[0].strip() or "it is not installed"
    if not platforms:
        return DeviceUnavailableError(f"JAX cannot start ({reason}); repair its installation")
    extra = next((EXTRAS[name] for name in platforms.lower().split(",") if name in EXTRAS), None)
    install = f'install "jaxbert[{extra}]", ' if extra else "correct it, "
    return DeviceUnavailableError(
        f"JAX cannot start on JAX_PLATFORMS={platforms} ({reason}); {install}or unset JAX_PLATFORMS"
    )


def check_devices(devices: Iterable[Any] | None) -> tuple[jax.Device, ...] | None:
    """The devices as a tuple; each must belong to this process and occur once. None stays None.

    Raises InputTypeError for anything but a list of devices, InputError for devices of another
    process, duplicates and an empty list, and as `backend`.
    """
    backend()
    if devices is None:
        return None
    wrong = InputTypeError(
        f"devices is a {type(devices).__name__}; pass a list of them, such as jax.local_devices()"
    )
    if isinstance(devices, str | bytes):
        raise wrong
    try:
        chosen, here = tuple(devices), jax.local_devices()
    except TypeError as error:  # also an array without axes, which calls itself iterable
        raise wrong from error
    for device in chosen:
        if not isinstance(device, jax.Device):
            raise InputTypeError(
                f"devices holds a {type(device).__name__}; pass those of jax.local_devices()"
            )
        if device not in here:
            raise InputError(
                f"devices holds {device} of another backend or process; choose among "
                f"jax.local_devices(), which are {', '.join(map(str, here))}, and the platform "
                "with the environment variable JAX_PLATFORMS"
            )
    if not chosen:
        raise InputError("devices is empty; pass at least one, or None for the first")
    if len(set(chosen)) < len(chosen):
        raise InputError("devices holds one of them twice; each computes batches of its own")
    return chosen


def device_of(array: Any) -> jax.Device | None:
    """The device that an array is on; None for a traced array, and for one on several devices."""
    if isinstance(array, jax.core.Tracer) or len(array.devices()) != 1:
        return None
    return next(iter(array.devices()))
