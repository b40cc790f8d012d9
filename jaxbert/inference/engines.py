"""What computes: JAX, or an engine of another library, chosen by name or given as an object.

The JAX encoder is the definition; another engine runs a graph of it (graphs/), and compares itself
with it before it gives a result.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, Protocol

import jax

from jaxbert.errors import InputError, InputTypeError, shown
from jaxbert.inference.data_parallel import Devices, devices_for
from jaxbert.inference.memory import check_memory
from jaxbert.inference.planning import Planner, by_length
from jaxbert.inference.unrolled import unrolled_where_faster
from jaxbert.model.module import first_weight
from jaxbert.model.transformer import Transformer
from jaxbert.process.backend import backend

# What it costs to compile a shape on a CPU, in products of a weight with a token, which is what the
# time of a token consists of (notes/06-cpu.md).
COMPILING = 32 * 10**9


class AnyEngine(Protocol):
    """The interface of JaxEngine and OpenVino: how an encoder is run, and in which batches."""

    name: str

    def check(self, devices: Sequence[jax.Device] | None) -> None:
        """Refuse what needs no model to be refused: a package that is missing, other devices."""

    def runner(self, encoder: Transformer) -> Transformer:
        """The encoder as the programs take it."""

    def devices(self, encoder: Transformer, devices: Sequence[jax.Device] | None) -> Devices:
        """What makes programs of the encoder and runs batches; None: where its weights are."""

    def planner(self, encoder: Transformer) -> Planner:
        """What decides the shapes of batches where the caller does not."""

    def check_memory(
        self, encoder: Transformer, b: int, t: int, has_bias: bool, device: jax.Device | None
    ) -> None:
        """Raise DeviceMemoryError for b rows of t tokens that the device cannot hold."""

    def identity(self) -> dict[str, Any]:
        """What decides about the bits of its results, for the record of a run; {} for JAX."""


class JaxEngine:
    """The encoder itself, compiled by XLA: one device, or a batch on each of several."""

    name = "jax"

    def check(self, devices: Sequence[jax.Device] | None) -> None:
        """Nothing, for the devices are checked by `check_devices`, and all else is there."""

    def runner(self, encoder: Transformer) -> Transformer:
        """The encoder, with its layers one by one on a CPU."""
        return unrolled_where_faster(encoder, backend())

    def devices(self, encoder: Transformer, devices: Sequence[jax.Device] | None) -> Devices:
        """OneDevice, or DataParallel for several of them."""
        return devices_for(devices, first_weight(encoder.embeddings))

    def planner(self, encoder: Transformer) -> Planner:
        """The default of the platform, which on a CPU knows what it costs to compile a shape."""
        planner = by_length(backend(), encoder.position.limit)
        if backend() != "cpu":
            return planner
        weights = sum(weight.size for weight in jax.tree.leaves(encoder.layers))
        return replace(planner, compiling=COMPILING // weights)

    def check_memory(
        self, encoder: Transformer, b: int, t: int, has_bias: bool, device: jax.Device | None
    ) -> None:
        """Refuse what is more than the estimate for the encoder's attention allows."""
        dtype = first_weight(encoder.embeddings).dtype
        check_memory(encoder.config, encoder.attention, dtype, b, t, has_bias, device)

    def identity(self) -> dict[str, Any]:
        """Nothing beside what every record says of JAX and the processor."""
        return {}


def openvino() -> AnyEngine:
    """The engine of OpenVINO, with its defaults; its module is imported when it is asked for."""
    engine: AnyEngine = import_module("jaxbert.inference.openvino").OpenVino()
    return engine


ENGINES: Mapping[str, Callable[[], AnyEngine]] = {"jax": JaxEngine, "openvino": openvino}
METHODS = ("check", "runner", "devices", "planner", "check_memory", "identity")


def chosen_engine(engine: str | AnyEngine) -> AnyEngine:
    """The engine of a name, or the object itself where it has the interface.

    Raises InputError for an unknown name, InputTypeError for another object.
    """
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise InputError(f"engine is {shown(engine)}; it must be one of: {', '.join(ENGINES)}")
        return ENGINES[engine]()
    whole = isinstance(getattr(engine, "name", None), str) and not isinstance(engine, type)
    if not (whole and all(callable(getattr(engine, method, None)) for method in METHODS)):
        raise InputTypeError(
            f"engine is {shown(engine)}; pass a name ({', '.join(ENGINES)}), or an object with the "
            "interface of jaxbert.inference.engines.AnyEngine"
        )
    return engine
