"""AsyncEmbedder and AsyncCrossEncoder: the results of the models they serve, whoever else asks."""

import asyncio
import random
import threading

import jax
import numpy as np
import pytest

from jaxbert import CrossEncoder, Embedder
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import (
    ComputationError,
    InputError,
    InputTypeError,
    QueueClosedError,
    TextError,
)
from jaxbert.inference.planning import ByLength, ByText
from jaxbert.inference.queue import AsyncCrossEncoder, AsyncEmbedder
from jaxbert.inference.queue_tokens import COUNTED
from jaxbert.model.config import EncoderConfig
from jaxbert.text.tokenizer import Tokenizer
from tests.models import encoder, make, scored, word_tokenizer, write_folder
from tests.tolerances import COMPANY, close, norms

MOST = 67
TEXTS = [f"{'a b c d e '[: 2 * (i % 6)]}{'q ' * (i % 59)}z" for i in range(71)]
PROMPTS = {"none": "", "query": "a b ", "document": "c d e f g "}


def embedder(planner=None, devices=None, own=None, **stack):
    """A small embedder; batches of at most 128 tokens keep the number of shapes low."""
    tokenizer, settings = Tokenizer(word_tokenizer(), "right"), {"max_length": MOST} | stack
    own = encoder("jinabert-geglu") if own is None else own
    return Embedder(own, tokenizer, Stack(**settings), planner or ByLength(budget=128), devices)


def run(main, limit=100):
    """The result of a coroutine function; what hangs fails."""

    async def limited():
        async with asyncio.timeout(limit):
            return await main()

    return asyncio.run(limited())


async def one_by_one(queue, texts, **options):
    """The rows of texts that are asked for at once, each alone."""
    answers = await asyncio.gather(*(queue.encode([text], **options) for text in texts))
    return np.concatenate([answer.rows for answer in answers])


def dispatches(monkeypatch, engine):
    """What an engine is given from now on: (batch, ids, skipped) of each batch."""
    seen, dispatch = [], engine.dispatch

    def noted(program, batch, tokens, skipped=None):
        seen.append((batch, tokens, skipped))
        return dispatch(program, batch, tokens, skipped)

    monkeypatch.setattr(engine, "dispatch", noted)
    return seen


# --- the rows are those of the model -------------------------------------------------------------


def test_many_callers_get_the_vectors_of_one(monkeypatch):
    model = embedder()
    expected, seen = model.encode(TEXTS), dispatches(monkeypatch, model.engine)

    async def main():
        async with AsyncEmbedder(model) as queue:
            return await one_by_one(queue, TEXTS), await queue.encode(TEXTS)

    alone, together = run(main)
    close(alone, expected, COMPANY, norms)
    close(together.rows, expected, COMPANY, norms)
    assert together.rows.dtype == np.float32
    np.testing.assert_array_equal(together.uncut, model.count_tokens(TEXTS))
    np.testing.assert_array_equal(together.tokens, model.count_tokens(TEXTS))
    assert len(seen) < len(TEXTS)  # they shared batches
    stats = model.stats
    assert (stats.texts, stats.tokens) == (3 * len(TEXTS), 3 * sum(model.count_tokens(TEXTS)))


@pytest.mark.parametrize("modes", [("mean",), ("cls",), ("lasttoken",)])
def test_texts_with_prompts_of_their_own_share_a_batch(monkeypatch, modes):
    model = embedder(ByText(budget=128), prompts=PROMPTS)
    pooling = type(model.stack.pooling)(modes, include_prompt=False)
    model.change(pooling=pooling)
    model = Embedder(model.encoder, model.tokenizer, model.stack, model.planner)
    seen, names = dispatches(monkeypatch, model.engine), [*PROMPTS] * 9

    async def main():
        async with AsyncEmbedder(model) as queue:
            asked = zip(names, TEXTS, strict=False)
            found = (queue.encode([text], prompt_name=name) for name, text in asked)
            return [answer.rows for answer in await asyncio.gather(*found)]

    for name, text, rows in zip(names, TEXTS, run(main), strict=False):
        assert rows.tobytes() == model.encode([text], prompt_name=name).tobytes()
    mixed = [{skipped[i] for i in batch.members} for batch, _, skipped in seen]
    assert max(map(len, mixed)) > 1


def test_no_text_and_the_empty_text_have_rows():
    async def main():
        async with AsyncEmbedder(embedder()) as queue:
            return await queue.encode([]), await queue.encode([""]), await queue.encode_tokens([])

    none, empty, states = run(main)
    assert none.rows.shape == (0, 15)
    assert none.tokens.shape == none.uncut.shape == (0,)
    assert empty.rows.tobytes() == embedder().encode([""]).tobytes()
    assert states.rows == []


def test_states_chunks_and_ids():
    model = embedder(ByText(budget=128), prompts=PROMPTS)
    parts = ["a b c ", "d " * 90, "e f"]
    ends = [(0, 6), (6, 186), (186, 189)]

    async def main():
        async with AsyncEmbedder(model) as queue:
            states = await queue.encode_tokens(TEXTS[:9], prompt_name="query")
            chunks = await queue.encode_chunks(parts, prompt_name="query")
            ids = model.tokenizer(TEXTS, MOST)
            return states, chunks, await queue.encode_ids([list(map(int, row)) for row in ids])

    states, chunks, vectors = run(main)
    for row, own in zip(states.rows, model.encode_tokens(TEXTS[:9], "query"), strict=True):
        assert row.tobytes() == own.embeddings.tobytes()
    expected = model.encode_chunks("".join(parts), ends, "query")
    assert chunks.rows.tobytes() == expected.tobytes()
    assert chunks.tokens.sum() == model.count_tokens("".join(parts), "query")
    assert vectors.rows.tobytes() == model.encode(TEXTS).tobytes()


def test_scores_are_those_of_the_cross_encoder(tmp_path):
    folder = write_folder(tmp_path, tensors=scored(), tokenizer_config={"model_max_length": 19})
    model = CrossEncoder.from_pretrained(folder, deterministic=True)
    documents = [*(text[: 2 + i] for i, text in enumerate(TEXTS[:11])), "b " * 5000]

    async def main():
        async with AsyncCrossEncoder(model) as queue:
            assert await queue.warmup() > 0
            before = queue.compilations
            asked = [queue.rerank(query, documents) for query in ("a b", "", "c d e f")]
            answers = await asyncio.gather(*asked)
            assert queue.compilations == before
            return answers

    for query, answer in zip(("a b", "", "c d e f"), run(main), strict=True):
        expected = model.predict([(query, text) for text in documents])
        assert answer.rows.tobytes() == expected.tobytes()
        own = model.tokenizer.pairs([(query, text) for text in documents], 10**6, False)
        before = np.array([len(ids) for ids in own])
        np.testing.assert_array_equal(answer.uncut[:-1], before[:-1])
        np.testing.assert_array_equal(answer.tokens, np.minimum(before, 19))
        assert 19 < answer.uncut[-1] <= before[-1]


def test_callers_of_several_event_loops():
    model, found = embedder(ByText(budget=128)), {}

    async def main():
        async with AsyncEmbedder(model) as queue:

            def other(i):
                found[i] = run(lambda: one_by_one(queue, TEXTS[i::3]))

            threads = [threading.Thread(target=other, args=(i,)) for i in range(3)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.01)

    run(main)
    for i in range(3):
        assert found[i].tobytes() == model.encode(TEXTS[i::3]).tobytes()


# --- long texts ----------------------------------------------------------------------------------


def test_long_texts_are_cut_at_either_side_and_counted():
    model = embedder(ByText(budget=128))
    letters = "abcdefghijklmnopqrstuvwxyz"
    text = " ".join(random.Random(0).choices(letters, k=200))

    async def main():
        async with AsyncEmbedder(model) as queue:
            end = await queue.encode([text, "a"], max_length=13)
            start = await queue.encode([text, "a"], max_length=13, side="start")
            with pytest.raises(InputError, match="text 1 has 202 tokens, and the maximum is 13"):
                await queue.encode(["a", text], max_length=13, on_long="error")
            with pytest.raises(InputError, match="would cut the prompt away"):
                await queue.encode([text], prompt="a ", side="start")
            return end, start

    end, start = run(main)
    words = text.split()
    for answer, kept in ((end, words[:11]), (start, words[-11:])):
        assert answer.rows.tobytes() == model.encode([" ".join(kept), "a"]).tobytes()
        np.testing.assert_array_equal(answer.tokens, [13, 3])
        np.testing.assert_array_equal(answer.uncut, [202, 3])


def test_a_very_long_text_is_not_read_to_its_end():
    """Two million characters, of which the first thousands decide; the rest is not looked at."""
    model = embedder(ByText(budget=128))
    text, read = "a b c " * 333_333, []
    beginnings = model.tokenizer.beginnings

    def noted(texts, tokens):
        read.extend(map(len, found := beginnings(texts, tokens)))
        return found

    async def main():
        async with AsyncEmbedder(model) as queue:
            model.tokenizer.beginnings = noted
            return await queue.encode([text])

    answer = run(main)
    assert answer.rows.tobytes() == model.encode([text]).tobytes()
    assert answer.tokens[0] == MOST < COUNTED <= answer.uncut[0] < 20 * COUNTED
    assert max(read) < 20 * COUNTED


def test_a_pair_that_is_cut_is_refused_where_it_may_not_be(tmp_path):
    folder = write_folder(tmp_path, tensors=scored(), tokenizer_config={"model_max_length": 19})
    model = CrossEncoder.from_pretrained(folder)
    seen = []
    model.engine.dispatch = lambda *_: seen.append(1)

    async def refused(queue, query, documents):
        with pytest.raises(InputError) as error:
            await queue.rerank(query, documents, on_long="error")
        return str(error.value)

    async def main():
        async with AsyncCrossEncoder(model) as queue:
            with pytest.raises(InputError, match="on_long"):
                await queue.rerank("a", ["b"], on_long="warn")
            found = [
                await refused(queue, "a b", ["c", "d " * 15]),
                await refused(queue, "a b " * 99, ["c"]),
                await refused(queue, "a b", ["c", "d " * 5000]),
            ]
            assert not seen
            del model.engine.dispatch
            whole = await queue.rerank("a b", ["c", "d " * 14], on_long="error")
            return found, whole

    (one, query, many), whole = run(main)
    assert one.startswith("text 1 has 20 tokens, and the maximum is 19, with those of the query")
    assert query.startswith("text 0 has 202 tokens, and the maximum is 19")
    assert many.startswith("text 1 has ")
    np.testing.assert_array_equal(whole.tokens, [6, 19])


# --- shapes and bits -----------------------------------------------------------------------------


@pytest.mark.parametrize("planner", [ByLength(budget=128), ByText(budget=128)])
def test_nothing_is_compiled_after_the_warmup(planner):
    model, choice = embedder(planner), random.Random(1)

    async def some(queue):
        for _ in range(5):
            texts = ["a " * choice.randrange(80) for _ in range(choice.choice((1, 1, 3, 17)))]
            await queue.encode(texts, prompt=choice.choice(list(PROMPTS.values())))

    async def main():
        async with AsyncEmbedder(model) as queue:
            assert await queue.warmup() == queue.compilations > 0
            before = queue.compilations
            await asyncio.gather(*(some(queue) for _ in range(13)))
            assert await queue.warmup(MOST) == 0
            return queue.compilations - before

    assert run(main) == 0


@pytest.mark.parametrize("devices", [1, 2])
def test_late_chunking_compiles_nothing_after_a_warmup_with_states(devices):
    model = embedder(ByText(budget=128), jax.local_devices()[:devices])

    async def main():
        async with AsyncEmbedder(model) as queue:
            assert await queue.warmup(states=True) == queue.compilations
            before = queue.compilations, model.compilations
            for i in range(1, MOST - 3, 3):
                await queue.encode_chunks(["a " * i, "b " * (MOST - 2 - i)])
            return before, (queue.compilations, model.compilations)

    before, after = run(main)
    assert before == after


def wide():
    """An encoder whose bits change with the number of rows, as the small ones' do not always."""
    sizes = {"vocab_size": 101, "hidden_size": 96, "num_layers": 2, "num_heads": 6}
    config = EncoderConfig.jinabert(**sizes, intermediate_size=176)
    return jax.tree.map(lambda leaf: leaf * 0.3, make(config))


def under_load(planner):
    """The different bytes that each of some texts got, among changing others."""
    model, choice = embedder(planner, own=wide()), random.Random(2)
    got = {text: set() for text in TEXTS[:23]}

    async def some(queue):
        for _ in range(7):
            text, others = choice.choice([*got]), choice.sample(TEXTS, choice.randrange(9))
            rows = (await queue.encode([*others, text])).rows
            got[text].add(rows[-1].tobytes())

    async def main():
        async with AsyncEmbedder(model) as queue:
            await asyncio.gather(*(some(queue) for _ in range(24)))

    run(main)
    for text, found in got.items():
        found.add(model.encode([text])[0].tobytes())
    return max(map(len, got.values()))


def test_a_deterministic_model_gives_a_text_the_same_bits_in_any_company():
    assert under_load(ByText(budget=128)) == 1
    assert under_load(ByLength(budget=128)) > 1  # else this would show nothing


def test_several_devices_take_from_one_queue(monkeypatch):
    devices = jax.local_devices()[:2]
    model = embedder(ByText(budget=32), devices)
    expected = embedder(ByText(budget=32)).encode(TEXTS)

    async def main():
        async with AsyncEmbedder(model) as queue:
            assert await queue.warmup() == 2 * len(ByText(budget=32).shapes(MOST, 512))
            own = [computer.engine for computer in queue.computers]
            seen = [dispatches(monkeypatch, engine) for engine in own]
            return own, seen, await one_by_one(queue, TEXTS)

    engines, seen, rows = run(main)
    assert [engine.devices.first for engine in engines] == list(devices)
    assert rows.tobytes() == expected.tobytes()
    assert all(seen)  # each device had some
    assert sum(len(batch.members) for batches in seen for batch, *_ in batches) == len(TEXTS)
    for engine, device in zip(engines, devices, strict=True):
        (batch, tokens, skipped), *_ = seen[engines.index(engine)]
        assert engine.dispatch(engine.vectors, batch, tokens, skipped).result.devices() == {device}
    assert model.stats.texts == len(TEXTS)


# --- what is refused, and what fails -------------------------------------------------------------


def test_a_vector_that_is_not_finite_fails_its_request_alone(monkeypatch):
    model = embedder(ByText(budget=128))
    expected, program = model.encode(TEXTS[:5]), model.engine.vectors
    (_, letter, _), *_ = model.tokenizer(["u"])

    def broken(arrays, *skipped):
        rows = np.array(program(arrays, *skipped))
        rows[(np.asarray(arrays.ids) == letter).any(axis=1)] = np.nan
        return rows

    monkeypatch.setattr(model.engine, "vectors", broken)

    async def main():
        async with AsyncEmbedder(model) as queue:
            asked = [[TEXTS[0], TEXTS[1]], ["a", "u"], [TEXTS[2], TEXTS[3], TEXTS[4]]]
            found = await asyncio.gather(*map(queue.encode, asked), return_exceptions=True)
            assert queue.healthy
            return found

    first, failed, last = run(main)
    assert np.concatenate([first.rows, last.rows]).tobytes() == expected.tobytes()
    assert isinstance(failed, ComputationError)
    assert failed.text == 1


def test_wrong_arguments_are_refused_before_anything_waits():
    model = embedder()
    ids = [[2, 3], [[2]], [2.5], [2, 31], [2, -1], [], [2] * 68]
    with pytest.raises(InputTypeError, match="pass one of the class Embedder"):
        AsyncEmbedder("a model")
    with pytest.raises(InputError, match="max_wait is 0"):
        AsyncEmbedder(model, max_wait=0)

    async def main():
        async with AsyncEmbedder(model) as queue:
            for row in ids[1:]:
                with pytest.raises((InputTypeError, TextError)):
                    await queue.encode_ids([ids[0], row])
            for wrong in ({"on_long": "warn"}, {"side": "left"}, {"max_length": 0}):
                with pytest.raises(InputError):
                    await queue.encode(["a"], **wrong)
            for texts in ([3], 7, {"a": "b"}, ["\ud800"]):
                with pytest.raises((InputTypeError, TextError)):
                    await queue.encode(texts)
            for parts in (["a", ""], ["a", "\x00"]):
                with pytest.raises(InputError):
                    await queue.encode_chunks(parts)
            assert queue.load() == (0, 0, 0.0)
            assert (await queue.encode(["a"])).rows.shape == (1, 15)

    run(main)


def test_after_the_close_nothing_is_taken_and_the_threads_are_gone():
    model = embedder()

    async def main():
        queue = AsyncEmbedder(model)
        asked = [asyncio.ensure_future(queue.encode([text])) for text in TEXTS]
        await asyncio.sleep(0)  # all of them are accepted
        queue.stop()
        with pytest.raises(QueueClosedError):
            await queue.encode(["a"])
        await queue.close()
        assert all(future.done() for future in asked)
        assert not any(thread.is_alive() for lane in queue.lanes for thread in lane.threads)
        return np.concatenate([future.result().rows for future in asked])

    close(run(main), model.encode(TEXTS), COMPANY, norms)


def test_the_weights_may_not_change_under_a_queue():
    model = embedder(own=make(encoder("jinabert-geglu").config))

    async def main():
        async with AsyncEmbedder(model) as queue:
            model.encoder.final_norm = model.encoder.embeddings.norm
            with pytest.raises(InputError, match="was changed after"):
                await queue.encode(["a"])

    run(main)
