"""Every tolerance of the tests, each a share of the scale of what is compared, with its reason.

float32 rounds a number to a share of itself, and processors sum in different orders; so a bound is
a relation between numbers, and none is what one machine happened to give. `make isa` proves them
on other instruction sets. Widening one is a decision for notes/.
"""

import numpy as np

# One rounding of float32, as a share of the number: half a unit of its last digit, 6.0e-8.
ROUNDING = 2.0**-24

# One function of a few operations, among them a sum of at most some hundred numbers in any order.
# The worst case of a sum of n is n roundings of its largest part; usual is the root of that.
FUNCTION = 32 * ROUNDING

# Two layers on random weights, against float64 or against the same in another order. Each layer
# rounds some fifteen times in a row, and a LayerNorm divides by a spread that may be small, which
# makes the rounding before it larger by as much.
ENCODER = 1e-5

# Gradients of two layers, as a share of the length of the whole gradient, for some are zero but for
# rounding: a shift of all keys moves no softmax. A backward pass rounds as often as two forward.
GRADIENT = 2 * ENCODER

# What must differ does so by more than this share: no rounding reaches it.
VISIBLE = 10 * ENCODER

# The states of the golden folders against stored outputs of torch, which rounds as we do.
GOLDEN_ENCODER = 1e-5

# The same stored outputs against float64: one side rounds instead of two.
GOLDEN_REFERENCE = 5e-6

# Random weights can make a state of which float32 decides few digits: where the reference itself
# moves by so much when each weight is rounded (half a unit of its last digit), a float32 program,
# which rounds some ten times as often, may be off by this many times that. Measured: 2.3.
ROUNDINGS = 8

# bfloat16 has 8 bits: a rounding is 2^-9 of the number. Two layers round some twenty times, and the
# weights are rounded once.
BFLOAT16 = 32 * 2.0**-9

# The same two layers in OpenVINO, which rounds the states to bfloat16 where it likes: one rounding
# more between any two operators.
GRAPH_BFLOAT16 = 2 * BFLOAT16

# Two layers with weights in int8, of the norm of a row. A weight is off by at most 2^-9 of the
# range of its feature, some four times a usual weight, and OpenVINO rounds states to 8 bits too.
INT8_WEIGHTS = 2.0**-4

# The same with both sides of every product in int8: two roundings more, and what is beyond the
# ranges that were measured is cut.
INT8_FULL = 2 * INT8_WEIGHTS

# Two ways to compute attention, each of which rounds the probabilities and what comes out.
BFLOAT16_ROUNDING = 4 * 2.0**-9

# Vectors of the real MiniLM, of their norm: two programs in float32, jaxbert's and that of
# sentence-transformers or jaxbert's in another company. Each is some ten roundings from the truth.
MINILM = 2e-6

# What is promised to users of a vector in any company, as a share of its norm: trained weights give
# at most a tenth, random ones, which make a rounding larger, a third of it (notes/02-parity.md).
COMPANY = 1e-5

# Scores of a benchmark task in two programs in float32, of numbers up to 1: they are made of the
# order of similarities, which rounding does not change but for ties, and equal texts are none.
MTEB = 1e-4

# LayerNorm beside a mean or an outlier of some hundreds, which float32 rounds to 2^-16 of it.
LARGE_MEAN = 1e-4

# Softmax of scores in the millions: the largest takes all, up to ties that are nearly there.
ONE_HOT = 1e-3

# Slopes that are written with eleven digits.
PRINTED = 1e-8

# Two ways to the same power of two in float64, of which a rounding is 1.1e-16.
FLOAT64 = 1e-14

# Values of the normal distribution, which tables print with some ten digits.
TABLES = 1e-7

# A factor, not a difference: the estimate counts the large arrays that live together, and XLA's
# choice of what it fuses moved the truth by 0.7 to 1.5 of that over fourteen programs.
ESTIMATE = 1.6


def largest(x):
    """The scale of states, of which the parts are added up with each other: their largest |x|."""
    return np.abs(x).max(initial=0.0)


def norms(x):
    """The scale of vectors [..., d]: each one's own length, so that none hides behind another."""
    return np.linalg.norm(x, axis=-1, keepdims=True)


def off(got, expected, scale=largest):
    """The largest |got - expected| as a share of the scale; NaN, which passes no test, for NaN.

    scale: a function of what is expected, or an array that broadcasts to it.
    """
    got, expected = (np.asarray(x).astype(np.float64) for x in (got, expected))
    assert got.shape == expected.shape or expected.ndim == 0, (got.shape, expected.shape)
    size = np.abs(scale(expected) if callable(scale) else np.asarray(scale, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(got == expected, 0.0, np.abs(got - expected) / size)
    return float(share.max(initial=0.0))


def close(got, expected, bound, scale=largest):
    """Refuse a difference of more than the bound, which is a share of the scale."""
    found = off(got, expected, scale)
    assert found <= bound, f"off by {found:.1e} of the scale, where {bound:.1e} is allowed"
