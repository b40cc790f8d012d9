"""The notation: one letter per axis, then a name for every shape.

    b  rows of a batch              d  model width
    t  query positions              f  feed-forward width
    s  key positions (s = t here)   v  vocabulary
    n  attention heads              k  token types
    h  width of one head            l  layers
    r  buckets of distances         g  the two halves of a gated layer: gate, value

Heads beside an encoder add c (labels), e (the width d once more) and w (a token vector's width).

The same letters stand in einsum strings, in the tables that map stored tensors to weights
(checkpoint/tensor_names) and in prose. Weights of a projection onto heads are `d n h`, so no
reshape happens in a forward pass; queries, keys and values are `b n t h`, the layout in which a CPU
multiplies them fastest. `#b` may be 1: positions that all rows share are kept once.

"Differs:" in a docstring says where another library's default would give other numbers; "Source:"
says where the formula or file format is published.

The tests check these shapes at every call (jaxtyping and beartype); outside tests they cost
nothing.
"""

from collections.abc import Mapping

from jaxtyping import Array, Bool, Float, Int

Ids = Int[Array, "b t"]  # token ids
Types = Int[Array, "b t"]  # token type ids
Segments = Int[Array, "b t"]  # 0 is padding; tokens with equal numbers attend to each other
Positions = Int[Array, "#b t"]  # position of each token in its text
Mask = Bool[Array, "b t"]  # True where a token counts

Hidden = Float[Array, "b t d"]  # token states
Queries = Float[Array, "b n t h"]
Keys = Float[Array, "b n s h"]
Values = Float[Array, "b n s h"]
Heads = tuple[Queries, Keys, Values]
Scores = Float[Array, "b n t s"]
Lse = Float[Array, "b n t"]  # log of the sum over s of exp(score), for each query
AttentionMask = Bool[Array, "b 1 t s"]  # True where query t attends to key s
Pooled = Float[Array, "b d"]  # one vector per row

Sizes = Mapping[str, int]  # the size of each letter in one encoder
