"""A rule, which ties a published tensor to a weight of ours, and the builders of rules.

A rule says: the tensor of this published name, rearranged by this einops pattern, is our weight at
this path. Turned round, the same pattern writes the tensor back. The letters are those of axes.py.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from einops import rearrange


class Rule(NamedTuple):
    """Published name (with {l} for the layer), our path, pattern, and an axis read backwards.

    One tensor may hold several weights, one behind the other: part says which of how many this is.
    One weight may be stored as two tensors, the halves of its axis g: half says which.
    """

    name: str
    path: str
    pattern: str
    flipped: str = ""
    part: tuple[int, int] = (0, 1)
    half: int | None = None
    first_layer: int = 0  # layers before this one have no such tensor, and do not read the weight
    layer: int | None = None  # once written out for one layer

    def own_part(self, weight: np.ndarray) -> np.ndarray:
        """The part of our weight, stacked over layers, that this rule is about; a view."""
        own = weight if self.layer is None else weight[self.layer]
        return own if self.half is None else own[:, self.half]

    def own_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of own_part of a weight of this shape."""
        shape = shape if self.layer is None else shape[1:]
        return shape if self.half is None else (shape[0], *shape[2:])

    def unpack(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The published tensor, or its part, in our layout, of the given shape."""
        i, parts = self.part
        own = np.split(tensor, parts)[i] if parts > 1 else tensor
        return self.flip(rearrange(own, self.pattern, **self.axes(shape)))

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Our weight in the published layout: unpack, undone."""
        left, right = self.pattern.split(" -> ")
        return rearrange(self.flip(weight), f"{right} -> {left}")

    def published_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the published tensor of our weight of this shape has."""
        axes = self.axes(shape)
        groups = re.findall(r"\(([^)]*)\)|(\w+)", self.pattern.split(" -> ")[0])
        first, *rest = (
            math.prod(axes[axis] for axis in (group or single).split()) for group, single in groups
        )
        return (first * self.part[1], *rest)

    def axes(self, shape: tuple[int, ...]) -> dict[str, int]:
        """The size of each letter in our layout."""
        return dict(zip(self.pattern.split(" -> ")[1].split(), shape, strict=True))

    def flip(self, weight: np.ndarray) -> np.ndarray:
        """Read the flipped axis, where there is one, from its end."""
        if not self.flipped:
            return weight
        return np.flip(weight, self.pattern.split(" -> ")[1].split().index(self.flipped))


def norm(name: str, path: str, pattern: str = "d -> d") -> list[Rule]:
    """Scale and shift of a LayerNorm."""
    return [
        Rule(f"{name}.weight", f"{path}.scale", pattern),
        Rule(f"{name}.bias", f"{path}.shift", pattern),
    ]


def scale(name: str, path: str) -> list[Rule]:
    """The scale of a norm that has no shift."""
    return [Rule(f"{name}.weight", f"{path}.scale", "d -> d")]


def linear(name: str, path: str, pattern: str, bias: str | None = None) -> list[Rule]:
    """Weight, and bias where there is one, of a product."""
    rules = [Rule(f"{name}.weight", f"{path}.weight", pattern)]
    return rules + ([Rule(f"{name}.bias", f"{path}.bias", bias)] if bias else [])


def joined(name: str, paths: Sequence[str], pattern: str) -> list[Rule]:
    """One tensor that holds the weights at several paths, one behind the other."""
    return [Rule(name, path, pattern, part=(i, len(paths))) for i, path in enumerate(paths)]


def per_layer(*groups: list[Rule], under: str = "encoder.layer.") -> list[Rule]:
    """The rules of one layer, under the layer's name and the path of the stacked layers."""
    return [
        rule._replace(name=f"{under}{{l}}.{rule.name}", path=f"layers.{rule.path}")
        for group in groups
        for rule in group
    ]
