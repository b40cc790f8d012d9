"""However texts are put together the vectors are the same: shared rows, windows, single layers."""

import logging

import jax
import numpy as np
import pytest

from jaxbert import Embedder, Encoder
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.tensors import open_folder
from jaxbert.errors import InputError, InputTypeError
from jaxbert.inference.batches import Padded
from jaxbert.inference.coarse_first import finest
from jaxbert.inference.engine import vectors
from jaxbert.inference.inputs import prepare
from jaxbert.inference.packing import Packing
from jaxbert.inference.planning import ByLength
from jaxbert.inference.programs import Program
from jaxbert.inference.stats import Stats
from jaxbert.inference.unrolled import Unrolled
from jaxbert.model.head import POOLINGS, PoolingHead
from tests.models import CONFIGS, encoder, write_folder
from tests.tolerances import BFLOAT16, COMPANY, ENCODER, VISIBLE, close, norms, off

WORDS = ["a", "b c", "d e f", "", "a b c d e f a", "f", "e d", "c b a d"]


@pytest.fixture(scope="module", params=["jinabert-geglu", "bert-gelu"])
def folder(request, tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("model"), request.param)


@pytest.mark.parametrize("mode", POOLINGS)
def test_texts_that_share_rows_have_the_vectors_of_rows_of_their_own(folder, mode):
    config = Embedder.from_pretrained(folder)
    stack = Stack(pooling=config.stack.pooling.__class__((mode,)), max_length=19)
    shared, alone = (
        Embedder(config.encoder, config.tokenizer, stack, ByLength(packing=packing))
        for packing in (Packing(longest=11, length=23, texts=3), None)
    )
    texts = WORDS * 3
    close(shared.encode(texts), alone.encode(texts), COMPANY, norms)
    assert shared.stats.slots < alone.stats.slots
    assert shared.stats.tokens == alone.stats.tokens


def test_a_prompt_is_left_out_of_shared_rows_too(tmp_path):
    folder = write_folder(
        tmp_path,
        "jinabert-geglu",
        sentence_bert_config={"max_seq_length": 29},
    )
    embedder = Embedder.from_pretrained(folder)
    pooling = embedder.stack.pooling.__class__(("mean",), include_prompt=False)
    stack = Stack(pooling=pooling, max_length=29)
    packing = Packing(longest=13, length=29, texts=3)
    shared, alone = (
        Embedder(embedder.encoder, embedder.tokenizer, stack, ByLength(packing=packing))
        for packing in (packing, None)
    )
    got, expected = (e.encode(WORDS * 2, prompt="a f ") for e in (shared, alone))
    close(got, expected, COMPANY, norms)
    assert off(got, shared.encode(WORDS * 2)) > VISIBLE


@pytest.mark.parametrize("name", CONFIGS)
def test_layers_one_by_one_are_the_scan(name):
    model = encoder(name)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (3, 11))
    mask = np.arange(11)[None, :] < np.array([[11], [7], [1]])
    inputs = prepare(model.config, model.position.limit, ids, mask, None, None, None)
    got = jax.jit(Unrolled.forward)(Unrolled(model), inputs)
    expected = model.forward(inputs)
    close(got[mask], expected[mask], ENCODER)


def test_layers_one_by_one_share_memory_where_it_is_aligned(minilm):
    model = Encoder.from_pretrained(minilm)
    stacked = model.layers.feed_forward.up.weight[...]
    first = Unrolled(model).layers[0].feed_forward.up.weight[...]
    second = Unrolled(model).layers[1].feed_forward.up.weight[...]
    start = stacked.unsafe_buffer_pointer()
    assert first.unsafe_buffer_pointer() == start
    assert second.unsafe_buffer_pointer() == start + first.nbytes
    np.testing.assert_array_equal(second, stacked[1])


def test_windows_and_their_batches_give_every_text_its_vector(folder, monkeypatch):
    embedder = Embedder.from_pretrained(folder)
    texts = [f"{word} {'b ' * (i % 7)}" for i, word in enumerate(WORDS * 4)]
    expected = embedder.encode(texts)
    seen = []
    real = embedder.tokenizer.__class__.__call__

    def watched(self, part, *more):
        seen.append(len(part))
        return real(self, part, *more)

    monkeypatch.setattr(embedder.tokenizer.__class__, "__call__", watched)
    monkeypatch.setattr("jaxbert.inference.request.text_windows", lambda texts, _: small(texts))
    close(embedder.encode(texts), expected, COMPANY, norms)
    assert len(seen) > 3
    assert sum(seen) == len(texts)


def small(texts):
    return [(i, texts[i : i + 5]) for i in range(0, len(texts), 5)]


def test_bad_texts_are_named_by_their_place_in_the_whole_list(folder, monkeypatch):
    embedder = Embedder.from_pretrained(folder)
    monkeypatch.setattr("jaxbert.inference.request.text_windows", lambda texts, _: small(texts))
    with pytest.raises(InputTypeError, match="text 13 is a int"):
        embedder.encode(["a"] * 13 + [7])
    with pytest.raises(InputError, match="text 11 has a lone surrogate at character 1"):
        embedder.encode(["é"] * 11 + ["a\ud800"])
    assert embedder.compilations == 0


def test_what_was_done_is_counted_and_logged(folder, caplog):
    embedder = Embedder.from_pretrained(folder)
    assert embedder.stats == Stats()
    with caplog.at_level(logging.INFO, "jaxbert.inference.request"):
        embedder.encode(["a b", "c"])
    first = embedder.stats
    assert (first.texts, first.batches, first.compilations) == (2, 1, 1)
    assert first.tokens == sum(map(len, embedder.tokenizer(["a b", "c"], embedder.max_seq_length)))
    assert first.slots == 16  # one row of both
    assert 0 < first.compile_seconds < first.seconds
    assert "2 texts, " in caplog.text
    embedder.encode(["a b", "c"])
    again = embedder.stats - first
    assert (again.texts, again.compilations, again.compile_seconds) == (2, 0, 0)


def test_warm_is_warm(folder):
    embedder = Embedder.from_pretrained(folder)
    limit = embedder.max_seq_length
    done = embedder.warmup(16)
    assert done == embedder.compilations > 0
    assert embedder.warmup(16) == 0
    embedder.encode("a b")
    embedder.encode(["a b c d e f a b"] * 48)  # six in a row, eight rows
    assert embedder.compilations == done
    with pytest.raises(InputError, match="max_length is 0"):
        embedder.warmup(0)
    assert embedder.max_seq_length == limit


def test_a_warm_up_runs_new_shapes_once_unless_they_are_long(folder, monkeypatch):
    """The first run of a shape is slower than the next ones, however long ago it was compiled."""
    monkeypatch.setattr("jaxbert.inference.engine.RUN_ONCE", 16)
    embedder, run = Embedder.from_pretrained(folder), []
    call = Program.__call__

    def recorded(program, batch, *arrays):
        run.append(batch.ids.shape)
        return call(program, batch, *arrays)

    monkeypatch.setattr(Program, "__call__", recorded)
    engine, none = embedder.engine, np.zeros(0, np.int64)
    batches = [Padded(none, rows, length) for rows, length in ((1, 11), (3, 11), (2, 17))]
    assert engine.prepare(engine.vectors, batches) == 3
    assert run == [(1, 11), (3, 11)]
    assert engine.prepare(engine.vectors, batches) == 0
    assert len(run) == 2


def test_a_long_text_does_not_pad_short_ones(tmp_path):
    folder = write_folder(tmp_path, "jinabert-geglu", sentence_bert_config={"max_seq_length": 2048})
    embedder = Embedder.from_pretrained(folder)
    embedder.engine.planner = finest(embedder.planner)
    long = "a b c " * 500
    embedder.encode(["a b"] * 40 + [long] + ["c"] * 40)
    slots = sum(
        batch.rows * batch.length
        for batch in embedder.planner.plan(
            [
                len(ids)
                for ids in embedder.tokenizer(
                    ["a b"] * 40 + [long] + ["c"] * 40, embedder.max_seq_length
                )
            ],
            None,
        )
    )
    assert slots == embedder.stats.slots
    assert slots < len(embedder.tokenizer([long], embedder.max_seq_length)[0]) * 9 / 8 + 1000


def test_bfloat16_is_near_float32(folder):
    wide, narrow = (
        Embedder.from_pretrained(folder, dtype=name) for name in ("float32", "bfloat16")
    )
    texts = WORDS * 9
    a, b = wide.encode(texts), narrow.encode(texts)
    assert b.dtype == np.float32
    assert 0 < off(b, a) < BFLOAT16


def test_an_encoder_with_a_forward_of_its_own_is_what_runs(folder):
    class Doubled(Encoder):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    embedder = Embedder.from_pretrained(folder)
    stored = open_folder(folder)
    twice = Embedder(Doubled.from_checkpoint(stored), embedder.tokenizer, embedder.stack)
    close(twice.encode("a b"), 2 * embedder.encode("a b"), COMPANY, norms)


def test_an_encoder_with_embeddings_of_its_own_is_what_runs(folder):
    class Blind(Encoder):
        def forward_embeddings(self, inputs):
            x, metadata = super().forward_embeddings(inputs)
            return 0 * x, metadata

    embedder = Embedder.from_pretrained(folder)
    blind = Embedder(Blind.from_checkpoint(open_folder(folder)), embedder.tokenizer, embedder.stack)
    a, b = blind.encode(["a b", "c d"])
    close(a, b, COMPANY)


def test_an_accelerator_runs_the_scan(folder, monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "tpu")
    embedder = Embedder.from_pretrained(folder)
    assert embedder.planner.budget > ByLength().budget
    leaves = jax.tree.leaves(embedder.encoder)
    assert len(embedder.engine.vectors.fixed) == len(leaves)


def test_vectors_of_a_batch_are_those_of_the_encoder_and_the_head(folder):
    embedder = Embedder.from_pretrained(folder)
    tokens = embedder.tokenizer(["a b c", "d"], embedder.max_seq_length)
    batch = Padded(np.array([1, 0]), 3, 16).fill(tokens)
    program = Program(
        vectors, embedder.encoder, PoolingHead(embedder.stack.pooling, embedder.stack.after)
    )
    got = np.asarray(program(batch, np.array(0, np.int32)))
    for row, ids in zip(got, (tokens[1], tokens[0]), strict=False):
        hidden = np.asarray(embedder.encoder(ids[None]))
        close(row, hidden[0].mean(axis=0), COMPANY, norms)
