"""Whole words, a fixed number of places, the same for the same key; texts that are too short."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbert.errors import InputError, InputTypeError, TextError
from jaxbert.train.masking import WholeWords, check, count

MASK = WholeWords(share=0.3, mask_id=4, vocab_size=31, special_ids=(0, 1, 2, 3, 4))
B, T = 64, 23
of_rule = jax.jit(lambda rule, ids, words, key: rule(ids, words, key), static_argnums=0)


def masked(ids, words, key):
    return of_rule(MASK, ids, words, key)


def words_of(sizes, length=T):
    """The numbers of words with these numbers of tokens, behind a special token."""
    row = [-1, *np.repeat(np.arange(len(sizes)), sizes)]
    return np.array(row + [-1] * (length - len(row)), np.int32)


def drawn_batch(seed=0):
    """Rows of words with 1 to 3 tokens, of many lengths."""
    random = np.random.default_rng(seed)
    sizes = [random.integers(1, 4, random.integers(3, 8)) for _ in range(B)]
    words = np.stack([words_of(row) for row in sizes])
    return random.integers(5, 31, (B, T)).astype(np.int32), words


IDS, WORDS = drawn_batch()


def used_places(result, row):
    return np.asarray(result.places)[row][np.asarray(result.weights)[row] == 1].tolist()


def test_shapes_are_fixed_and_the_share_is_reached_by_whole_words():
    result = masked(IDS, WORDS, jax.random.key(0))
    p = MASK.slots(T)
    assert p == 7
    assert result.places.shape == result.weights.shape == (B, p)
    assert result.ids.dtype == result.places.dtype == jnp.int32
    for row, words in enumerate(WORDS):
        used = used_places(result, row)
        assert len(set(used)) == len(used)
        most = count((words >= 0).sum(), 0.3)
        own = {words[place] for place in used}
        assert -1 not in own
        assert sorted(used) == np.flatnonzero(np.isin(words, list(own))).tolist()  # whole words
        # The next word, of at most 3 tokens, did not fit.
        assert max(1, most - 2) <= len(used) <= most
        untouched = np.delete(np.arange(T), used)
        assert (np.asarray(result.ids)[row, untouched] == IDS[row, untouched]).all()


def test_the_same_key_masks_the_same_and_another_another():
    first, again = (masked(IDS, WORDS, jax.random.key(7)) for _ in range(2))
    for x, y in zip(first, again, strict=True):
        assert (np.asarray(x) == np.asarray(y)).all()
    other = masked(IDS, WORDS, jax.random.key(8))
    assert (np.asarray(other.places) != np.asarray(first.places)).mean() > 0.5


def test_every_word_has_the_same_chance():
    """Of ten words with one token three are masked: each three times in ten, within 5 sigma."""
    words = np.tile(words_of([1] * 10), (B, 1))
    times, trials = np.zeros(T), 20 * B
    for seed in range(20):
        result = masked(IDS, words, jax.random.key(seed))
        for row in range(B):
            times[used_places(result, row)] += 1
    assert times[1:11].sum() == 3 * trials
    assert np.abs(times[1:11] - 0.3 * trials).max() < 5 * np.sqrt(0.21 * trials)


def test_eighty_ten_ten():
    own, mask, other = 0, 0, []
    for seed in range(40):
        result = masked(IDS, WORDS, jax.random.key(seed))
        row = np.arange(B)[:, None]
        used = np.asarray(result.weights) == 1
        new, old = np.asarray(result.ids)[row, result.places][used], IDS[row, result.places][used]
        mask += (new == 4).sum()
        own += (new == old).sum()
        other += new[(new != 4) & (new != old)].tolist()
    total = mask + own + len(other)
    assert total > 5000
    # 10 % are drawn, of which one in 26 is what stood there.
    expected = {"mask": (mask, 0.8), "own": (own, 0.1 + 0.1 / 26), "other": (len(other), 2.5 / 26)}
    for found, share in expected.values():
        assert abs(found - share * total) < 5 * np.sqrt(share * (1 - share) * total)
    assert set(other) == set(range(5, 31))  # all but the special ones


@pytest.mark.parametrize("parts", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)])
def test_one_rule_alone(parts):
    names = dict(zip(("mask", "random", "keep"), parts, strict=True))
    rule = WholeWords(share=0.3, mask_id=4, vocab_size=6, special_ids=(0, 1, 2, 3, 4), **names)
    ids = np.full_like(IDS, 3)
    result = of_rule(rule, ids, WORDS, jax.random.key(0))
    new = np.asarray(result.ids)[np.arange(B)[:, None], result.places]
    expected = {(1.0, 0.0, 0.0): 4, (0.0, 0.0, 1.0): 3, (0.0, 1.0, 0.0): 5}[parts]
    assert set(new[np.asarray(result.weights) == 1].tolist()) == {expected}


def test_words_longer_than_the_share():
    """A word of 6 in a text of 10 never fits into 3; where all are too long, one is cut."""
    long, only = words_of([6, 1, 1, 1, 1]), words_of([5, 5])
    words = np.stack([long, only] * (B // 2))
    cut = set()
    for seed in range(5):
        result = masked(IDS, words, jax.random.key(seed))
        for row in range(B):
            used = used_places(result, row)
            assert len(used) == 3
            if row % 2 == 0:
                assert min(used) >= 7
            else:
                cut.add(tuple(used))
    assert cut == {(1, 2, 3), (6, 7, 8)}  # the first tokens of either


def test_a_row_without_words_is_left_alone():
    words = np.full((B, T), -1, np.int32)
    result = masked(IDS, words, jax.random.key(0))
    assert (np.asarray(result.ids) == IDS).all()
    assert not np.asarray(result.weights).any()


def test_the_count_is_a_rounded_share_never_none_and_never_all():
    assert [count(n, 0.15) for n in (1, 2, 3, 9, 10, 17, 64)] == [1, 1, 1, 1, 2, 3, 10]
    assert [count(n, 0.9) for n in (2, 3, 4, 20)] == [1, 2, 3, 18]
    assert all(count(n, 0.3) <= count(n + 1, 0.3) for n in range(1, 200))


def test_texts_shorter_than_three_tokens_are_refused():
    words = np.stack([words_of([1, 2]), words_of([1, 1]), words_of([1])])
    check(words[:1])
    with pytest.raises(TextError, match=r"^text 1 has 2 tokens beside special ones, and masking "):
        check(words)
    with pytest.raises(TextError, match="text 907 has 2 tokens"):
        check(words, texts=[901, 907, 911])


def test_words_that_are_none_are_refused():
    with pytest.raises(InputError, match="from -1 to 23; pass -1 to 22"):
        check(np.where(WORDS == 0, T, WORDS))
    with pytest.raises(InputError, match="float32"):
        check(WORDS.astype(np.float32))
    with pytest.raises(InputError, match="words"):
        MASK(IDS, WORDS[:, 1:], jax.random.key(0))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"share": 1.0}, "share is 1.0"),
        ({"share": -0.1}, "share is -0.1"),
        ({"share": float("nan")}, "share is nan"),
        ({"mask": 0.7}, "must sum to 1"),
        ({"keep": 1.5}, "keep is 1.5"),
        ({"mask_id": 31}, "mask_id is 31"),
        ({"special_ids": (0, 99)}, "a special id is 99"),
        ({"special_ids": tuple(range(31))}, "the whole vocabulary"),
    ],
)
def test_rules_that_cannot_be_are_refused(change, sentence):
    given = {"share": 0.3, "mask_id": 4, "vocab_size": 31, "special_ids": (0,)}
    with pytest.raises(InputError, match=sentence):
        WholeWords(**given | change)


def test_a_share_that_is_no_number_is_refused():
    with pytest.raises(InputTypeError, match=r"share is '0.3'"):
        WholeWords(share="0.3", mask_id=4, vocab_size=31, special_ids=(0,))
