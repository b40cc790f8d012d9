"""Fewer bits: the numbers of the definition, ranges that are kept, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save_file

from jaxbert.errors import InputError, InputTypeError
from jaxbert.inference.outputs import Finish
from jaxbert.inference.quantise import DTYPES, Ranges, quantize_embeddings

FLOATS = st.floats(-9, 9, width=32)
VECTORS = arrays(np.float32, st.tuples(st.integers(1, 5), st.just(11)), elements=FLOATS)
RANGES = Ranges(np.full(11, -2, np.float32), np.linspace(-2, 7, 11, dtype=np.float32))


def random_vectors(number=130, width=11):
    return np.random.default_rng(3).normal(size=(number, width)).astype(np.float32)


@given(vectors=VECTORS)
def test_bytes_are_the_steps_between_low_and_high(vectors):
    quantised = quantize_embeddings(vectors, "uint8", RANGES)
    assert quantised.dtype == np.uint8
    for row, row_bytes in zip(vectors, quantised, strict=True):
        for x, low, high, byte in zip(row, RANGES.low, RANGES.high, row_bytes, strict=True):
            step = (high - low) / np.float32(255) or np.float32(1)
            assert byte == min(255, max(0, np.floor((x - low) / step)))
    signed = quantize_embeddings(vectors, "int8", RANGES)
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed.astype(int), quantised.astype(int) - 128)


@given(vectors=VECTORS)
def test_bits_are_the_signs_the_first_feature_highest(vectors):
    quantised = quantize_embeddings(vectors, "ubinary")
    assert quantised.shape == (len(vectors), 2)
    bits = [
        [row[byte] >> (7 - bit) & 1 for byte in (0, 1) for bit in range(8)] for row in quantised
    ]
    np.testing.assert_array_equal(np.array(bits)[:, :11], vectors > 0)
    assert not np.array(bits)[:, 11:].any()
    signed = quantize_embeddings(vectors, "binary")
    np.testing.assert_array_equal(signed.astype(int), quantised.astype(int) - 128)


def test_the_ends_of_a_range_are_the_ends_of_a_byte():
    low = np.full(11, -2, np.float32)
    ranges = Ranges(low, low + 255 / 64 * np.arange(11, dtype=np.float32))  # steps without rounding
    low, high = quantize_embeddings(np.stack([ranges.low, ranges.high]), "int8", ranges)
    assert (low == -128).all()
    assert (high[1:] == 127).all()
    assert high[0] == -128  # a feature that is always the same


def test_without_ranges_they_are_those_of_the_vectors_or_of_a_sample():
    vectors = random_vectors()
    got = quantize_embeddings(vectors, "uint8")
    np.testing.assert_array_equal(got, quantize_embeddings(vectors, "uint8", Ranges.of(vectors)))
    sample = random_vectors(117)
    np.testing.assert_array_equal(
        quantize_embeddings(vectors[:3], "uint8", calibration_embeddings=sample),
        quantize_embeddings(vectors[:3], "uint8", np.stack([sample.min(0), sample.max(0)])),
    )


def test_nothing_and_one_vector():
    for precision, dtype in DTYPES.items():
        empty = quantize_embeddings(np.zeros((0, 11), np.float32), precision)
        assert empty.shape == (0, 2 if "binary" in precision else 11)
        assert empty.dtype == dtype
    vector = random_vectors(1)[0]
    assert quantize_embeddings(vector, "int8", RANGES).shape == (11,)
    assert quantize_embeddings(vector, "binary").shape == (2,)


def test_ranges_are_kept_in_a_file(tmp_path):
    ranges = Ranges.of(random_vectors())
    ranges.save(tmp_path / "ranges.safetensors")
    again = Ranges.load(tmp_path / "ranges.safetensors")
    assert again.low.tobytes() == ranges.low.tobytes()
    assert again.high.tobytes() == ranges.high.tobytes()


def test_a_file_that_holds_no_ranges(tmp_path):
    (tmp_path / "a").write_bytes(b"no tensors at all")
    save_file({"low": np.zeros(3, np.float32)}, tmp_path / "b")
    for name in "ab":
        with pytest.raises(InputError, match="holds no ranges"):
            Ranges.load(tmp_path / name)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
@pytest.mark.parametrize("number", [1, 99])
def test_too_few_vectors_for_ranges(precision, number):
    with pytest.raises(InputError, match=f"{number} vectors are too few"):
        quantize_embeddings(random_vectors(number), precision)
    with pytest.raises(InputError, match="1 vectors are too few"):
        quantize_embeddings(random_vectors(1)[0], precision)
    assert quantize_embeddings(random_vectors(100), precision).shape == (100, 11)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: quantize_embeddings(random_vectors(), "int4"), "one of: float32, int8"),
        (lambda: quantize_embeddings(random_vectors(), None), "precision is None"),
        (lambda: quantize_embeddings(random_vectors() * np.nan, "binary"), "NaN"),
        (
            lambda: quantize_embeddings(random_vectors(), "int8", np.zeros((3, 11))),
            r"pass \[2, d\]",
        ),
        (lambda: quantize_embeddings(random_vectors(), "int8", np.zeros((2, 7))), "for 7 features"),
        (lambda: Ranges(np.ones(3), np.zeros(3)), "low above the high"),
        (lambda: Ranges(np.ones(3), np.full(3, np.inf)), "NaN or infinity"),
        (lambda: Ranges(np.ones(3), np.ones(5)), "shapes"),
        (lambda: Ranges.of(np.zeros((0, 3))), r"\[n, d\]"),
        (lambda: Finish(11, precision="binary", ranges=RANGES), "leave them out"),
        (lambda: Finish(7, precision="int8", ranges=RANGES), "for 11 features"),
    ],
)
def test_refusals(make, reason):
    with pytest.raises(InputError, match=reason):
        make()


def test_refusals_of_types():
    with pytest.raises(InputTypeError, match="floats, not int8"):
        quantize_embeddings(np.zeros((2, 3), np.int8), "binary")
    with pytest.raises(InputTypeError, match="pass Ranges"):
        Ranges.given("low to high")
