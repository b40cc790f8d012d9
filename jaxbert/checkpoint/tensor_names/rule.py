"""A rule, which ties a published tensor to a weight of ours, and the builders of rules.

A rule says: the tensor of this published name, rearranged by this einops pattern, is our weight at
this path. Turned round, the same pattern writes the tensor back. The letters are those of axes.py.
"""

import math
import re
from typing import NamedTuple

import numpy as np
from einops import rearrange


class Rule(NamedTuple):
    """Published name (with {l} for the layer), our path, pattern, and an axis read backwards."""

    name: str
    path: str
    pattern: str
    flipped: str = ""
    layer: int | None = None  # once written out for one layer

    def own_part(self, weight: np.ndarray) -> np.ndarray:
        """The part of our weight, stacked over layers, that this rule is about; a view."""
        return weight if self.layer is None else weight[self.layer]

    def unpack(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The published tensor in our layout, of the given shape."""
        ours = rearrange(tensor, self.pattern, **self.axes(shape))
        return self.flip(ours)

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Our weight in the published layout: unpack, undone."""
        left, right = self.pattern.split(" -> ")
        return rearrange(self.flip(weight), f"{right} -> {left}")

    def published_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the published tensor of our weight of this shape has."""
        axes = self.axes(shape)
        groups = re.findall(r"\(([^)]*)\)|(\w+)", self.pattern.split(" -> ")[0])
        return tuple(
            math.prod(axes[axis] for axis in (group or single).split()) for group, single in groups
        )

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


def linear(name: str, path: str, pattern: str, bias: str | None = None) -> list[Rule]:
    """Weight, and bias where there is one, of a product."""
    rules = [Rule(f"{name}.weight", f"{path}.weight", pattern)]
    return rules + ([Rule(f"{name}.bias", f"{path}.bias", bias)] if bias else [])


def per_layer(*groups: list[Rule]) -> list[Rule]:
    """The rules of one layer, under the layer's name and the path of the stacked layers."""
    return [
        rule._replace(name=f"encoder.layer.{{l}}.{rule.name}", path=f"layers.{rule.path}")
        for group in groups
        for rule in group
    ]
