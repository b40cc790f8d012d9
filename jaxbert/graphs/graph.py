"""An ONNX graph under construction: operators in their order, and the arrays that they read."""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from jaxbert.errors import InputError, MissingPackageError

# The first version of ONNX's operators that has Gelu with its exact form.
OPSET = 20
# Protocol buffers, which ONNX files are, hold less than this many bytes.
LARGEST = 2**31 - 2**20


class NoGraphError(InputError):
    """A part of an encoder, or a head, that no graph has; the message names it."""


def onnx() -> ModuleType:
    """The package onnx; MissingPackageError where it is not installed."""
    try:
        import onnx as package
    except ModuleNotFoundError as error:
        raise MissingPackageError("onnx", "openvino") from error
    return package


class Graph:
    """Operators and constants; a value is known by its name, a str that they give back."""

    def __init__(self) -> None:
        """Begin without operators and constants."""
        self.onnx = onnx()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.shared: dict[tuple[Any, ...], str] = {}

    def op(self, kind: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """The one output of an operator; an array among its inputs is a constant."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(
        self, kind: str, outputs: int, *inputs: str | np.ndarray, **attributes: Any
    ) -> list[str]:
        """The outputs of an operator that has several."""
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        made = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, names, made, **attributes))
        return made

    def constant(self, array: np.ndarray) -> str:
        """An array as a value; equal small ones are one."""
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size < 16 else ()
        if key and key in self.shared:
            return self.shared[key]
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        if key:
            self.shared[key] = name
        return name

    def model(
        self,
        inputs: Mapping[str, tuple[Any, Sequence[Any]]],
        outputs: Mapping[str, tuple[str, Sequence[Any]]],
    ) -> bytes:
        """The file of a model: inputs by name, with dtype and shape; outputs, with value and shape.

        A size that is free is a str, its name. What no output needs is left out, inputs too.
        Raises NoGraphError for what no file can hold.
        """
        helper = self.onnx.helper
        nodes, needed = self.needed([value for value, _ in outputs.values()])
        constants = [constant for constant in self.constants if constant.name in needed]
        dtype = {np.int32: 6, np.int64: 7}  # onnx.TensorProto.INT32 and INT64
        given = [
            helper.make_tensor_value_info(name, dtype[kind], shape)
            for name, (kind, shape) in inputs.items()
            if name in needed
        ]
        made = [
            helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape)
            for name, (_, shape) in outputs.items()
        ]
        named = [
            helper.make_node("Identity", [value], [name]) for name, (value, _) in outputs.items()
        ]
        size = sum(len(constant.raw_data) for constant in constants)
        if size > LARGEST:
            raise NoGraphError(
                f"the weights take {size / 2**30:.1f} GiB in float32, and an ONNX file holds less "
                "than 2; use the JAX engine"
            )
        graph = helper.make_graph([*nodes, *named], "jaxbert", given, made, constants)
        opsets = [helper.make_opsetid("", OPSET)]
        # The oldest version of the file format that this version of the operators goes with.
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=9, producer_name="jaxbert"
        )
        return bytes(model.SerializeToString())

    def needed(self, outputs: Sequence[str]) -> tuple[list[Any], set[str]]:
        """The operators that lead to these values, in order, and all values that they read."""
        values, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if values.intersection(node.output):
                values.update(node.input)
                nodes.append(node)
        return nodes[::-1], values


def floats(weight: Any) -> np.ndarray:
    """A weight as a float32 array, which holds every bfloat16."""
    return np.asarray(weight[...]).astype(np.float32)
