"""JAX's backend: started, or refused in one sentence; and which of its devices may be used."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from jaxbert.errors import DeviceUnavailableError, InputError, InputTypeError
from jaxbert.process.forked import check_not_forked

# The extra of jaxbert that brings a platform, by JAX's names of it.
EXTRAS = {"cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}


def backend() -> str:
    """The platform that this process computes on; starts JAX where nothing has yet.

    Raises ForkedProcessError, and DeviceUnavailableError where JAX cannot start.
    """
    check_not_forked()
    try:
        return jax.default_backend()
    except Exception as error:  # RuntimeError, and AssertionError for a plugin that is not there
        raise unavailable(error) from error


@contextmanager
def computing() -> Iterator[None]:
    """What a public call computes in: JAX has begun, and the user's transfer guard is not asked.

    Moving what is passed in to the device is what such a call is for. Raises as `backend`.
    """
    backend()
    with jax.transfer_guard("allow"):
        yield


def option(name: str) -> Any:
    """One of JAX's options as it is now and in this thread."""
    return getattr(jax.config, name)


def unavailable(error: Exception) -> DeviceUnavailableError:
    """What JAX could not start, why, and what to do."""
    asked = str(option("jax_platforms") or "")
    reason = str(error).split("(set JAX_PLATFORMS")[0].strip() or "it is not installed"
    if not asked:
        return DeviceUnavailableError(f"JAX cannot start ({reason}); repair its installation")
    extra = next((EXTRAS[name] for name in asked.lower().split(",") if name in EXTRAS), None)
    install = f'install "jaxbert[{extra}]", ' if extra else "correct it, "
    return DeviceUnavailableError(
        f"JAX cannot start on JAX_PLATFORMS={asked} ({reason}); {install}or unset JAX_PLATFORMS"
    )


def check_devices(devices: Iterable[Any] | None) -> tuple[jax.Device, ...] | None:
    """The devices, each of which must be one that this process computes on, named once.

    Raises InputTypeError for what is no list of devices, InputError for others' and for none, and
    as `backend`.
    """
    backend()
    if devices is None:
        return None
    if isinstance(devices, str | bytes) or not isinstance(devices, Iterable):
        raise InputTypeError(
            f"devices is a {type(devices).__name__}; pass a list of them, such as "
            "jax.local_devices()"
        )
    found, here = tuple(devices), jax.local_devices()
    for device in found:
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
    if not found:
        raise InputError("devices is empty; pass at least one, or None for the first")
    if len(set(found)) < len(found):
        raise InputError("devices holds one of them twice; each computes batches of its own")
    return found


def device_of(array: Any) -> jax.Device | None:
    """The device that an array is on; None for a traced one, and for one on several."""
    if isinstance(array, jax.core.Tracer) or len(array.devices()) != 1:
        return None
    return next(iter(array.devices()))
