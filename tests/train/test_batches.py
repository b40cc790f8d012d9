"""Batches: a function of the step, no row twice in an epoch, few shapes."""

import numpy as np
import pytest

from jaxbert.errors import InputError
from jaxbert.train.batches import Batches, bucket_lengths, buckets_of, permutation
from jaxbert.train.data import Taught
from jaxbert.train.ragged import Ragged


def data(lengths):
    """Rows of these lengths whose first id is their number."""
    rows = [np.full(n, i, np.int32) for i, n in enumerate(lengths)]
    return Taught(Ragged.of(rows), np.arange(len(lengths), dtype=np.float32)[:, None])


LENGTHS = [1 + i % 13 for i in range(101)]


def test_lengths_of_buckets():
    assert bucket_lengths(64, 1) == (64,)
    assert bucket_lengths(64, 3) == (16, 32, 64)
    assert bucket_lengths(50, 3) == (16, 32, 50)
    assert bucket_lengths(11, 4) == (8, 11)


def test_a_batch_depends_on_step_and_seed_alone():
    one, other = (Batches(data(LENGTHS), 7, 3, (5, 13)) for _ in range(2))
    another = Batches(data(LENGTHS), 7, 4, (5, 13))
    steps = [0, 29, 3, 1000, 3]
    first = [one(step) for step in steps]
    second = [other(step) for step in reversed(steps)][::-1]
    for a, b in zip(first, second, strict=True):
        assert all((a[name] == b[name]).all() for name in a)
    assert any(one.rows_of(i)[0].tolist() != another.rows_of(i)[0].tolist() for i in range(3))


def test_no_row_comes_twice_in_an_epoch_and_epochs_differ():
    batches = Batches(data(LENGTHS), 7, 0, (5, 9, 13))
    n = batches.steps_per_epoch
    assert n == sum(len(bucket.rows) // 7 for bucket in batches.buckets)
    epochs = []
    for epoch in range(3):
        rows = [batches.rows_of(step) for step in range(epoch * n, (epoch + 1) * n)]
        seen = np.concatenate([own for own, _ in rows])
        assert len(seen) == len(set(seen)) == 7 * n
        for own, length in rows:
            assert max(LENGTHS[i] for i in own) <= length
        epochs.append(seen.tolist())
    assert len({tuple(own) for own in epochs}) == 3
    assert set(range(101)) == set().union(*epochs)


def test_a_batch_holds_its_rows():
    batches = Batches(data(LENGTHS), 7, 0, (5, 13))
    for step in range(4):
        rows, length = batches.rows_of(step)
        batch = batches(step)
        assert batch["ids"].shape == (7, length)
        assert batch["ids"][:, 0].tolist() == rows.tolist() == batch["teacher"][:, 0].tolist()
        assert batch["segments"].sum() == batches.tokens(step) == sum(LENGTHS[i] for i in rows)


def test_rows_go_to_the_smallest_bucket_that_has_enough():
    def found(lengths, sizes, rows):
        buckets = buckets_of(np.array(lengths), sizes, rows)
        assert sorted(np.concatenate([b.rows for b in buckets])) == list(range(len(lengths)))
        return [(b.length, b.rows.tolist()) for b in buckets]

    assert found([3, 8, 2, 5], (8, 4), 2) == [(4, [0, 2]), (8, [1, 3])]
    assert found([3, 8, 5], (4, 8), 2) == [(8, [0, 1, 2])]
    assert found([3, 2, 8], (4, 8), 2) == [(8, [0, 1, 2])]
    assert found([3, 2, 5], (4, 6, 8), 2) == [(6, [0, 1, 2])]
    assert found([1, 6, 8], (2, 6, 8), 3) == [(8, [0, 1, 2])]


def test_less_rows_than_a_batch_are_refused():
    with pytest.raises(InputError, match=r"^the data has 3 rows, which is less than a batch of 4;"):
        Batches(data([1, 2, 3]), 4, 0, (8,))
    with pytest.raises(InputError, match="a row has 9 tokens, and the longest bucket 8"):
        Batches(data([1, 9]), 1, 0, (8,))


def test_permutations_are_those_of_every_version():
    """A run goes on with another NumPy only if these stay."""
    assert permutation(11, 5, 0, 0).tolist() == PERMUTATION
    assert permutation(11, 5, 0, 1).tolist() != PERMUTATION
    assert permutation(11, 5, 1, 0).tolist() != PERMUTATION
    assert sorted(permutation(11, 6, 0, 0)) == list(range(11))


PERMUTATION = [9, 10, 2, 4, 3, 1, 5, 0, 6, 7, 8]
