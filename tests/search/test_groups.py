"""Pairs, communities and MaxSim against definitions written out in loops."""

import numpy as np
import pytest

from jaxbert.errors import InputError, InputTypeError
from jaxbert.inference.late_interaction import maxsim
from jaxbert.inference.similarity import similarity
from jaxbert.search import community_detection, maxsim_top_k, mining, paraphrase_mining
from jaxbert.search import maxsim as maxsim_module
from tests.search.memory import traced
from tests.tolerances import FUNCTION


def vectors(n, seed=0, d=7):
    """Random vectors of some directions, so that many are similar."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(5, d))
    return centres[random.integers(0, 5, n)] + 0.3 * random.normal(size=(n, d))


def cosines(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def test_pairs_are_those_of_all_neighbours(monkeypatch):
    monkeypatch.setattr(mining, "ROWS", 16)
    x, neighbours = vectors(61), 3
    scores, pairs = paraphrase_mining(x, neighbours=neighbours)
    full = cosines(x)
    expected = set()
    for i, row in enumerate(full):
        others = [j for j in np.argsort(-row, kind="stable") if j != i][:neighbours]
        expected |= {(min(i, j), max(i, j)) for j in others}
    assert set(map(tuple, pairs.tolist())) == expected
    assert len(pairs) == len(expected)
    assert np.abs(scores - full[pairs[:, 0], pairs[:, 1]]).max() < FUNCTION
    assert (np.diff(scores) <= 0).all()
    few, best = paraphrase_mining(x, neighbours=neighbours, max_pairs=13)
    np.testing.assert_array_equal(few, scores[:13])
    np.testing.assert_array_equal(best, pairs[:13])


def test_pairs_of_equal_score_go_by_their_rows():
    scores, pairs = paraphrase_mining(np.ones((4, 3)))
    assert (scores == scores[0]).all()
    np.testing.assert_array_equal(pairs, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_for_a_pair(n):
    scores, pairs = paraphrase_mining(np.ones((n, 3)))
    assert scores.shape == (0,)
    assert pairs.shape == (0, 2)


def communities(x, threshold, least):
    """The definition: the largest first, each row in the first that takes it."""
    full = cosines(x)
    all_of_them = [
        (i, [j for j in np.argsort(-row, kind="stable") if row[j] >= threshold])
        for i, row in enumerate(full)
    ]
    all_of_them = [own for own in all_of_them if len(own[1]) >= least]
    used, found = set(), []
    for centre, members in sorted(all_of_them, key=lambda own: -len(own[1])):
        left = [centre] + [j for j in members if j not in used and j != centre]
        if centre not in used and len(left) >= least:
            found.append(left)
            used |= set(left)
    return sorted(found, key=len, reverse=True)


@pytest.mark.parametrize("budget", [8 * 61 * 5, 2**20])
@pytest.mark.parametrize("least", [2, 5])
def test_communities(budget, least):
    x = vectors(61, seed=3)
    found = community_detection(x, 0.8, least, budget=budget)
    expected = communities(x, 0.8, least)
    assert len(expected) >= 3
    assert [own.tolist() for own in found] == expected


def test_communities_do_not_depend_on_the_budget():
    """Not even where the threshold is one of the scores."""
    x = vectors(397, seed=5, d=384).astype(np.float32)
    scores = np.unique(np.triu(similarity(x, x, "cosine"), 1))
    for threshold in scores[len(scores) // 2 :: len(scores) // 61]:
        found = [community_detection(x, threshold, 2, budget=b) for b in (1, 2**14, 2**27)]
        lists = [[own.tolist() for own in one] for one in found]
        assert lists[0] == lists[1] == lists[2]


def test_members_at_the_very_threshold_are_members():
    found = community_detection(np.ones((37, 16)), 1.0, 3)
    assert [len(own) for own in found] == [37]
    assert community_detection(np.eye(3), 0.99, 2) == []
    assert community_detection(np.zeros((0, 3)), 0.5, 1) == []


def test_a_corpus_is_not_copied_to_find_communities(tmp_path):
    """Beside it there is room for a piece, and a block of scores."""
    n, d = 4001, 509
    np.save(tmp_path / "x.npy", np.repeat(np.eye(29, d, dtype=np.float32), 139, axis=0)[:n])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    community_detection(mapped[:300], 0.9, 100)  # what is imported on the first call
    found, most = traced(lambda: community_detection(mapped, 0.9, 100, budget=2**20))
    assert [len(own) for own in found][:28] == [139] * 28
    assert most < mapped.nbytes / 2


def test_the_best_documents_by_maxsim(monkeypatch):
    monkeypatch.setattr(maxsim_module, "DOCUMENTS", 3)
    random = np.random.default_rng(1)
    queries = [random.normal(size=(t, 5)).astype(np.float32) for t in (2, 3)]
    documents = [random.normal(size=(t, 5)).astype(np.float32) for t in (3, 2, 7, 1, 4, 2, 6)]
    documents.append(documents[2])  # a tie
    full = maxsim(queries, documents)
    order = np.argsort(-full, axis=1, kind="stable")[:, :5]
    scores, rows = maxsim_top_k(queries, documents, 5)
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(scores, np.take_along_axis(full, order, axis=1))
    assert maxsim_top_k(queries, documents, 99)[0].shape == (2, 8)
    assert maxsim_top_k(queries, [], 3)[1].shape == (2, 0)


def test_refusals():
    with pytest.raises(InputError, match="threshold is no finite number"):
        community_detection(np.ones((3, 2)), np.nan)
    with pytest.raises(InputError, match="neighbours is 0"):
        paraphrase_mining(np.ones((3, 2)), neighbours=0)
    with pytest.raises(InputTypeError, match="documents is a str"):
        maxsim_top_k([np.ones((2, 3))], "text", 1)
