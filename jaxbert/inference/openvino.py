"""OpenVINO as an engine: the encoder as a graph, compiled once for batches of every shape.

engine="openvino", or OpenVino(threads=4) for other settings. It computes on the CPU.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from threading import Lock
from typing import Any

import jax
import numpy as np

from jaxbert.arguments import integer
from jaxbert.errors import EngineError, InputError, MissingPackageError
from jaxbert.graphs.encoder import check_graph
from jaxbert.graphs.graph import onnx
from jaxbert.inference.batches import BatchArrays
from jaxbert.inference.data_parallel import OneDevice
from jaxbert.inference.graph_programs import INPUTS, arguments, program_graph
from jaxbert.inference.memory import check_memory, projections
from jaxbert.inference.planning import ByLength, Planner, cores
from jaxbert.inference.self_check import check_program
from jaxbert.model.module import first_weight
from jaxbert.model.transformer import Transformer
from jaxbert.process.backend import backend, device_of

# Tokens of a batch for each core: the most that was fastest (notes/13-engines.md).
CORE = {"float32": 512, "bfloat16": 1024}
PRECISION = {"float32": "f32", "bfloat16": "bf16"}


def openvino() -> Any:
    """The package openvino; MissingPackageError where it is not installed.

    It is imported without openvino_telemetry: with it, an import tells a server of it, in a process
    that is forked from this one, which JAX's threads do not survive.
    """
    with without_module("openvino_telemetry"):
        try:
            return import_module("openvino")
        except ModuleNotFoundError as error:
            raise MissingPackageError("openvino", "openvino") from error


@contextmanager
def without_module(name: str) -> Iterator[None]:
    """A context in which a module cannot be imported, unless it has been before."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@dataclass(frozen=True)
class OpenVino:
    """The settings of the engine; None is what suits this machine.

    threads is the cores that compute, streams the batches that run at once, each on an equal share
    of them.
    """

    threads: int | None = None
    streams: int = 1
    name = "openvino"

    def __post_init__(self) -> None:
        """Raise InputTypeError and InputError for numbers that cannot be."""
        if self.threads is not None:
            object.__setattr__(self, "threads", integer(self.threads, "threads", 1))
        object.__setattr__(self, "streams", integer(self.streams, "streams", 1, self.number))

    @property
    def number(self) -> int:
        """The threads that compute, however they were given."""
        return cores() if self.threads is None else self.threads

    def check(self, devices: Sequence[jax.Device] | None) -> None:
        """Raise MissingPackageError without the extra, InputError for devices, or without a CPU."""
        openvino(), onnx()
        if devices is not None:
            raise InputError(
                "devices are for the JAX engine, and OpenVINO takes all cores of the CPU; leave "
                "devices out"
            )
        if backend() != "cpu":
            raise InputError(
                f"the engine openvino computes on the CPU, and this process on {backend()}; set "
                "the environment variable JAX_PLATFORMS=cpu"
            )

    def runner(self, encoder: Transformer) -> Transformer:
        """The encoder itself, of which a graph is made."""
        return encoder

    def devices(
        self, encoder: Transformer, devices: Sequence[jax.Device] | None
    ) -> "OpenVinoDevice":
        """What makes and runs programs; NoGraphError for an encoder that has no graph."""
        self.check(devices)
        check_graph(encoder)
        return OpenVinoDevice(self, first_weight(encoder.embeddings))

    def planner(self, encoder: Transformer) -> Planner:
        """Batches of CORE tokens for each core; short texts share rows."""
        dtype = str(first_weight(encoder.embeddings).dtype)
        budget = CORE[dtype] * self.number // self.streams
        return ByLength(budget=budget, longest=encoder.position.limit)

    def check_memory(
        self, encoder: Transformer, b: int, t: int, has_bias: bool, device: jax.Device | None
    ) -> None:
        """Raise DeviceMemoryError for b rows of t tokens that memory cannot hold.

        Scores exist a tile at a time; a position scheme's term is an array [b, n, t, t], and the
        states inside a feed-forward are of all tokens at once.
        """
        config, dtype = encoder.config, first_weight(encoder.embeddings).dtype
        inner = projections(config) * config.intermediate_size * dtype.itemsize // 4
        written_out = WrittenOut(dtype.itemsize)
        about = (config, written_out, dtype, b, t, has_bias, device, inner)
        check_memory(*about, remedy='engine="jax", whose attention needs less')

    def identity(self) -> dict[str, Any]:
        """Version, processor as OpenVINO sees it, threads and streams: what decides about bits."""
        core = openvino().Core()
        return {
            "version": version("openvino"),
            "capabilities": sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
            "threads": self.number,
            "streams": self.streams,
        }


@dataclass(frozen=True)
class WrittenOut:
    """What is written out of attention: the term of a position scheme, and no scores.

    Measured in notes/13-engines.md. It is for `check_memory` alone.
    """

    width: int  # of a number
    name = "graph"

    def score_bytes(self, b: int, n: int, t: int, bias: bool) -> int:
        """The term of each row and head, and the distances, which are float32."""
        return self.width * b * n * t * t + 8 * t * t if bias else 0

    def __call__(self, *arguments: Any) -> Any:
        """Nothing, for a graph has its own attention."""
        raise NotImplementedError("a graph has its own attention")


class OpenVinoDevice(OneDevice):
    """Batches in OpenVINO, as many at once as there are streams, and one that waits."""

    def __init__(self, engine: OpenVino, weight: jax.Array) -> None:
        """weight is one of the encoder's; its dtype is that of the computation.

        Raises InputError for a dtype that OpenVINO does not compute in on this processor.
        """
        super().__init__(device_of(weight))
        self.engine, self.dtype = engine, str(weight.dtype)
        self.ahead = engine.streams + 1
        if self.dtype not in PRECISION:
            raise InputError(
                f"dtype is {self.dtype}; with the engine openvino it must be one of: "
                f"{', '.join(PRECISION)}"
            )
        can = openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if self.dtype == "bfloat16" and "BF16" not in can:
            raise InputError(
                "dtype is bfloat16, which OpenVINO does not multiply on this processor; take "
                'dtype="float32"'
            )

    def program(self, function: Callable[..., jax.Array], *fixed: Any) -> "OpenVinoProgram":
        """The program of function(*fixed, *arrays), for arrays of one batch; not compiled yet.

        Raises NoGraphError for a function or a head that has no graph.
        """
        return OpenVinoProgram(self, function, *fixed)

    def settings(self) -> dict[str, Any]:
        """The properties of a compiled model; nothing that decides about results is left open."""
        return {
            "INFERENCE_PRECISION_HINT": PRECISION[self.dtype],
            "EXECUTION_MODE_HINT": "ACCURACY" if self.dtype == "float32" else "PERFORMANCE",
            "INFERENCE_NUM_THREADS": self.engine.number,
            "NUM_STREAMS": self.engine.streams,
            "ENABLE_CPU_PINNING": False,
        }


class OpenVinoProgram:
    """A function of forward.py as a compiled model; it counts and times its one compilation."""

    def __init__(
        self, device: OpenVinoDevice, function: Callable[..., jax.Array], *fixed: Any
    ) -> None:
        """fixed are the leading arguments of every call: the encoder, and a head."""
        self.device, self.function, self.fixed = device, function, fixed
        self.idle: deque[Any] = deque(maxlen=device.ahead)  # requests that no batch has
        self.seconds, self.lock = 0.0, Lock()
        self.model: Any = None
        self.inputs: list[str] = []

    @property
    def compilations(self) -> int:
        """1 once the model is compiled, whatever shapes have run."""
        return int(self.model is not None)

    def prepare(self) -> None:
        """Compile the model, and compare it with the JAX encoder."""
        self.compile()

    def compile(self, *arrays: Any) -> Any:
        """The compiled model, for arrays of any shape; it is made, and checked, by the first call.

        Raises EngineError where it does not agree with the JAX encoder.
        """
        with self.lock:
            if self.model is None:
                start, core = time.perf_counter(), openvino().Core()
                graph = program_graph(self.function, *self.fixed)
                with one_sentence():
                    read = core.read_model(model=graph)
                    model = core.compile_model(read, "CPU", self.device.settings())
                self.idle.clear()  # of a model that was refused
                self.inputs = input_names(model)

                def run(*given: Any) -> Pending:
                    return self.started(model, *given)

                check_program(run, self.function, self.fixed, self.device.first)
                self.model = model
                self.seconds += time.perf_counter() - start
            return self.model

    def __call__(self, batch: BatchArrays, *extra: Any) -> "Pending":
        """The result of a batch, which is computed while the caller goes on."""
        return self.started(self.compile(), batch, *extra)

    def started(self, model: Any, batch: BatchArrays, *extra: Any) -> "Pending":
        """The result by a compiled model, on a request that is idle, or a new one."""
        try:
            request = self.idle.pop()
        except IndexError:
            request = model.create_infer_request()
        given = arguments(self.function, batch, *extra)
        return Pending(self, request, {name: given[name] for name in self.inputs})


def input_names(model: Any) -> list[str]:
    """The inputs that a graph was made with; OpenVINO gives some of them more names."""
    return [name for name in INPUTS for port in model.inputs if name in port.get_names()]


class Pending:
    """A result that is being computed; as an array it is waited for."""

    def __init__(self, program: OpenVinoProgram, request: Any, given: dict[str, Any]) -> None:
        """Begin to compute; the arrays stay alive, for OpenVINO reads them where they are."""
        self.program, self.request = program, request
        self.given: dict[str, Any] | None = given
        with one_sentence():
            request.start_async(given, share_inputs=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The numbers, once they are there; a copy, for the next batch takes their memory."""
        if self.request is not None:
            with one_sentence():
                self.request.wait()
                self.result = np.array(self.request.get_output_tensor(0).data)
            self.program.idle.append(self.request)
            self.request = self.given = None
        return self.result if dtype is None else self.result.astype(dtype)


@contextmanager
def one_sentence() -> Iterator[None]:
    """A context in which OpenVINO's errors, of many lines, become an EngineError."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        reason = next((line for line in reversed(lines) if line), type(error).__name__)
        raise EngineError(
            f'OpenVINO failed ({reason}); take shorter texts or engine="jax"'
        ) from error
