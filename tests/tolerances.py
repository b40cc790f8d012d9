"""Every tolerance of the tests, with its reason. Widening one is a decision for notes/."""

# Third-party torch code in float32 against our float64 reference: torch's own rounding was at most
# 3.5e-6 on the golden folders (states are of size 1 to 5 behind a LayerNorm).
GOLDEN_REFERENCE = 5e-6

# Two float32 programs that sum in different orders, each about 4e-6 from the truth.
GOLDEN_ENCODER = 1e-5

# float32 against float64 on random weights of the same size as the golden ones; hypothesis finds
# rows that are worse than average, so this is twice what single draws show.
ENCODER = 1e-5

# Random weights can make a state of which float32 decides few digits: where the reference itself
# moves by so much when each weight is rounded (half a unit of its last digit), a float32 program,
# which rounds some ten times as often, may be off by this many times that. Measured: 2.3.
ROUNDINGS = 8

# One function of a few float32 operations on numbers of size 1: a handful of roundings of 6e-8.
FUNCTION = 2e-6

# bfloat16 has 8 bits: a rounding is 4e-3 of the number, states are of size 3, and two layers round
# about ten times each.
BFLOAT16 = 1.5e-1

# Real MiniLM, normalised, against sentence-transformers in float32: both are within 4e-7.
MINILM = 1e-6

# Batches of other shapes sum in another order: a component moves by at most 3.9e-7 of the vector's
# norm on real MiniLM over ten shapes; the README promises this.
COMPANY = 5e-7

# Sums of about fifteen float32 products of numbers of size 5.
PRODUCT = 2e-5

# LayerNorm beside a mean or an outlier of some hundreds, which float32 rounds to 2^-16 of it.
LARGE_MEAN = 1e-4

# One rounding to bfloat16, eight bits, of numbers of size up to 4.
BFLOAT16_ROUNDING = 2**-6

# Softmax of scores in the millions: the largest takes all, up to ties that are nearly there.
ONE_HOT = 1e-3

# Slopes that are written with eleven digits.
PRINTED = 1e-8

# A factor, not a difference: the estimate counts the large arrays that live together, and XLA's
# choice of what it fuses moved the truth by 0.7 to 1.5 of that over fourteen programs.
ESTIMATE = 1.6
