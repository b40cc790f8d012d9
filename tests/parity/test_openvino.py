"""The engine openvino beside the JAX encoder: every model that has a graph, every way to encode."""

import asyncio
import copy
import importlib.util
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

for name in ("onnx", "openvino"):  # not imported here: openvino would tell a server of it
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (the extra openvino)", allow_module_level=True)

from jaxbert import CrossEncoder, Embedder, Encoder, MultiVectorEncoder, Position, cli
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import DeviceMemoryError, EngineError, InputError, InputTypeError
from jaxbert.graphs import encoder as graphs
from jaxbert.graphs.graph import NoGraphError
from jaxbert.inference import forward
from jaxbert.inference import openvino as module
from jaxbert.inference.batches import BatchArrays, Padded, narrow
from jaxbert.inference.engine import Engine
from jaxbert.inference.openvino import OpenVino
from jaxbert.inference.planning import ByText
from jaxbert.inference.queue import AsyncEmbedder
from jaxbert.inference.self_check import sample
from jaxbert.model.attention import named
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import POOLINGS, Dense, LabelHead, Normalize, Pooling, PoolingHead
from jaxbert.text.tokenizer import Tokenizer
from tests.models import CONFIGS, GOLDEN, encoder, make, scored, word_tokenizer, write_folder
from tests.models import write_late as late_folder
from tests.tolerances import (
    BFLOAT16,
    COMPANY,
    ENCODER,
    GOLDEN_ENCODER,
    GRAPH_BFLOAT16,
    MINILM,
    VISIBLE,
    close,
    norms,
    off,
)

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]
# Packed and alone, empty, one that is cut, and an emoji.
TEXTS = ["a b c", "", "q " * 40, "d e f g h i j k l m n o", "a", "x y z", "🙂 b", "c d e f g " * 3]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder of a small JinaBERT."""
    config = {"max_seq_length": 19}
    folder = tmp_path_factory.mktemp("model")
    return write_folder(folder, "jinabert-geglu", sentence_bert_config=config)


@pytest.fixture(scope="module")
def both(model):
    """The same model by JAX and by OpenVINO."""
    return Embedder.from_pretrained(model), Embedder.from_pretrained(model, engine="openvino")


def embedder(name, stack=None, **more):
    """An Embedder of a small encoder of CONFIGS."""
    tokenizer = Tokenizer(word_tokenizer(), "right")
    return Embedder(encoder(name), tokenizer, stack or Stack(max_length=17), **more)


def by_graph(encoder, batch, function=forward.token_states, *fixed, extra=(), precision="f32"):
    """What the graph gives of a batch, without the engine around it."""
    core = module.openvino().Core()
    read = core.read_model(model=module.program_graph(function, encoder, *fixed))
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    given, request = module.arguments(function, batch, *extra), compiled.create_infer_request()
    return request.infer({name: given[name] for name in module.input_names(compiled)})[0].copy()


def graph_beside_jax(encoder, function=forward.token_states, *fixed, precision="f32"):
    """What the graph and JAX give of a batch of texts alone, texts that share a row, and none.

    Without the engine's own check, which compares the same.
    """
    batch = sample(encoder, function is forward.expanded_vectors)
    extra = [np.array(1, np.int32)] if function is forward.vectors else []
    found = by_graph(encoder, batch, function, *fixed, extra=extra, precision=precision)
    assert np.isfinite(found).all(), "a row without tokens"
    expected = jax.jit(function)(encoder, *fixed, batch, *extra)
    there = narrow(batch.token_index[:4]) >= 0
    return (
        np.asarray(x)[:4, : there.shape[1]][there] if x.ndim == 3 else np.asarray(x)[:4]
        for x in (found, expected)
    )


# --- encoders ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_the_graph_of_every_config_has_the_states_of_the_encoder(name):
    close(*graph_beside_jax(encoder(name)), ENCODER)


GOLDEN_NAMES = (
    "bert-3heads bert-legacy-names-f16 jinabert-3heads jinabert-8heads-tokentypes"
    " jinabert-12heads-f16 jinabert-qk-post-norm"
).split()


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_the_graph_of_golden_folders_has_the_states_of_torch(name):
    folder = GOLDEN / name
    golden, encoder = load_file(folder / "golden.safetensors"), Encoder.from_pretrained(folder)
    mask, types = golden["attention_mask"] != 0, golden.get("token_type_ids")
    positions = np.arange(mask.shape[1], dtype=np.int32)[None]
    ids, segments = golden["input_ids"].astype(np.int32), mask.astype(np.int32)
    types = None if types is None else types.astype(np.int32)
    found = by_graph(encoder, BatchArrays(ids, segments, positions, None, types))
    last = golden[f"hidden.{encoder.config.num_layers}"]
    close(found[mask], last[mask], GOLDEN_ENCODER)


@pytest.mark.parametrize("name", ["bert-gelu", "qk-post-norm"])
def test_bfloat16_is_what_is_computed_in(name):
    half = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), encoder(name))
    found, _ = graph_beside_jax(half, precision="bf16")
    full = jax.tree.map(lambda leaf: leaf.astype("float32"), half)
    _, expected = graph_beside_jax(full)
    assert ENCODER < off(found, expected) < GRAPH_BFLOAT16


def test_expanded_queries_have_tokens_that_none_attends_to(tmp_path):
    folder, texts = late_folder(tmp_path / "late", query_maxlen=11), ["a b c", "d", "e f g h"]
    options = {"metadata": {"attend_to_mask_tokens": False}}
    late_folder(folder, **options)
    ours, theirs = (
        MultiVectorEncoder.from_pretrained(folder, engine=engine) for engine in ("openvino", "jax")
    )
    for task in ("query", "document"):
        for a, b in zip(
            ours.encode(texts, task=task), theirs.encode(texts, task=task), strict=True
        ):
            close(a, b, ENCODER)


# --- heads ---------------------------------------------------------------------------------------


def heads(encoder, stack):
    """Vectors by the graph and by JAX, of texts whose first token is not pooled."""
    head = PoolingHead(stack.pooling, stack.after)
    return graph_beside_jax(encoder, forward.vectors, head)


def test_every_pooling():
    found, expected = heads(encoder("bert-gelu"), Stack(Pooling(tuple(POOLINGS))))
    assert found.shape == (4, 15 * 6)
    for one, other in zip(np.split(found, 6, axis=1), np.split(expected, 6, axis=1), strict=True):
        close(one, other, COMPANY, norms)
    for one, other in itertools.combinations(np.split(expected, 6, axis=1), 2):
        assert off(one, other, norms) > VISIBLE, "two poolings are the same here"


def test_modules_behind_the_pooling():
    random, size = np.random.default_rng(3), (15, 15)
    steps = []
    for i, activation in enumerate(["Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid"]):
        weight = random.normal(size=size).astype(np.float32)
        steps += [Dense(weight, None if i == 1 else weight[0], activation), Normalize()]
    close(*heads(encoder("bert-gelu"), Stack(Pooling(), tuple(steps))), COMPANY, norms)


def test_a_prompt_that_is_not_pooled(both):
    ours, theirs = (copy.copy(one) for one in both)
    for one in (ours, theirs):
        one.set_pooling_include_prompt(False)
    prompted = ours.encode(TEXTS, prompt="a b ")
    close(prompted, theirs.encode(TEXTS, prompt="a b "), COMPANY, norms)
    ours.set_pooling_include_prompt(True)
    assert off(ours.encode(TEXTS, prompt="a b "), prompted) > COMPANY


def test_scores_of_pairs(tmp_path):
    folder = write_folder(tmp_path / "scorer", tensors=scored(labels=3))
    ours, theirs = (CrossEncoder.from_pretrained(folder, engine=e) for e in ("openvino", "jax"))
    pairs = [("a b", "c d e"), ("", ""), ("q " * 30, "x"), ("a", "b " * 9)]
    close(ours.predict(pairs), theirs.predict(pairs), ENCODER)
    assert ours.compilations == 1
    again = pickle.loads(pickle.dumps(ours))
    assert again.predict(pairs).tobytes() == ours.predict(pairs).tobytes()


# --- ways to encode ------------------------------------------------------------------------------


def test_every_way_to_encode(both):
    theirs, ours = both
    before = ours.compilations
    close(ours.encode(TEXTS), theirs.encode(TEXTS), COMPANY, norms)
    close(ours.encode(TEXTS, truncate_dim=7), theirs.encode(TEXTS, truncate_dim=7), COMPANY, norms)
    close(ours.encode(TEXTS, batch_size=3), theirs.encode(TEXTS), COMPANY, norms)
    assert ours.encode("a b").shape == (15,)
    assert ours.encode([]).shape == (0, 15)
    assert ours.compilations == before == 1  # whatever the shapes are
    for a, b in zip(ours.encode_tokens(TEXTS), theirs.encode_tokens(TEXTS), strict=True):
        close(a.embeddings, b.embeddings, ENCODER)
        assert (a.ids == b.ids).all()
    for a, b in zip(ours.encode(TEXTS, output_value=None), theirs.encode(TEXTS), strict=True):
        close(a["sentence_embedding"], b, COMPANY, norms)
    spans = [[(0, 3), (4, 5)]] * 2
    texts = ["a b c d", "q r s t"]
    for a, b in zip(
        ours.encode_chunks(texts, spans), theirs.encode_chunks(texts, spans), strict=True
    ):
        close(a, b, COMPANY, norms)
    assert ours.warmup(19) == 0
    assert ours.stats.texts == ours.stats.texts
    assert 0 < ours.stats.compile_seconds < ours.stats.seconds + ours.stats.compile_seconds


def test_a_text_of_1100_tokens(model):
    ours, theirs = (Embedder.from_pretrained(model, engine=e) for e in ("openvino", "jax"))
    texts = ["a b c d e f g " * 157, "a b"]
    close(
        ours.encode(texts, max_length=1100), theirs.encode(texts, max_length=1100), COMPANY, norms
    )
    assert len(ours.encode_tokens(texts, max_length=1100)[0].ids) == 1100


@pytest.fixture(scope="module")
def real(minilm):
    """Texts, and their vectors by JAX in float32."""
    texts = ["What is Deep Learning?", "", "A bias is a function of positions." * 30, "a"] * 3
    return texts, Embedder.from_pretrained(minilm).encode(texts)


@pytest.mark.parametrize(("dtype", "exact"), [("float32", True), ("bfloat16", False)])
def test_real_weights(minilm, real, dtype, exact):
    ours = Embedder.from_pretrained(minilm, engine="openvino", dtype=dtype, deterministic=True)
    found = ours.encode(real[0])
    close(found, real[1], MINILM if exact else BFLOAT16, norms)
    assert exact or off(found, real[1], norms) > MINILM, "it was computed in float32"
    alone = [ours.encode(text) for text in real[0][:4]]
    assert np.stack(alone * 3).tobytes() == found.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bits_depend_on_neither_neighbours_nor_place(dtype):
    config = EncoderConfig.jinabert(
        vocab_size=101, hidden_size=96, num_layers=2, num_heads=6, intermediate_size=176
    )
    own = jax.tree.map(lambda leaf: leaf.astype(dtype) * 0.3, make(config))
    stack = Stack(Pooling(("mean", "cls", "max")), (Normalize(),))
    engine, random = Engine(own, stack, ByText(), kind="openvino"), np.random.default_rng(1)
    for tokens in (3, 16, 31, 47, 100, 129, 250, 300, 511):
        rows, length = engine.planner.shape(tokens)
        text, seen = random.integers(0, 101, tokens, np.int32), set()
        for trial in range(5):
            row = int(random.integers(rows))
            texts = [random.integers(0, 101, n, np.int32) for n in random.integers(1, length, rows)]
            texts[row] = text
            members = np.arange(rows if trial % 2 else row + 1)  # the rest stays empty
            found = engine.vectors(Padded(members, rows, length).fill(texts), np.array(0, np.int32))
            seen.add(np.asarray(found)[row].tobytes())
        assert len(seen) == 1, (rows, length)


def test_streams_give_the_same_vectors():
    two = Engine(encoder("bert-gelu"), Stack(), kind=OpenVino(threads=2, streams=2))
    one = Engine(encoder("bert-gelu"), Stack(), kind="openvino")
    tokens = [[np.arange(1 + i % 11, dtype=np.int32) for i in range(200)]]
    skipped = np.array(0, np.int32)
    found = [
        np.concatenate([rows for _, rows in engine.run(engine.vectors, tokens, 7, skipped)])
        for engine in (one, two)
    ]
    close(found[1], found[0], COMPANY, norms)


def test_a_queue_of_the_engine_gives_the_vectors_of_it(model):
    """Of texts that share batches and have prompts of their own, which are not pooled."""
    ours = Embedder.from_pretrained(model, engine="openvino", deterministic=True)
    ours.set_pooling_include_prompt(False)
    ours = Embedder(ours.encoder, ours.tokenizer, ours.stack, ours.planner, engine="openvino")
    texts, prompts = [f"{'a b c ' * (i % 5)}d" for i in range(40)], ["", "e ", "f g h "]

    async def main():
        async with AsyncEmbedder(ours) as queue:
            assert await queue.warmup() == 1
            asked = zip(texts, itertools.cycle(prompts), strict=False)
            found = await asyncio.gather(*(queue.encode([t], prompt=p) for t, p in asked))
            return [answer.rows for answer in found], await queue.encode_tokens(texts[:5])

    rows, states = asyncio.run(main())
    for text, prompt, row in zip(texts, itertools.cycle(prompts), rows, strict=False):
        assert row.tobytes() == ours.encode([text], prompt=prompt).tobytes()
    for row, own in zip(states.rows, ours.encode_tokens(texts[:5]), strict=True):
        assert row.tobytes() == own.embeddings.tobytes()


# --- the check of itself -------------------------------------------------------------------------


def test_a_graph_with_a_broken_mask_is_refused(model, monkeypatch):
    monkeypatch.setattr(graphs, "MASKED", np.zeros((), np.float32))
    with pytest.raises(EngineError, match="differ from those of the JAX encoder"):
        Embedder.from_pretrained(model, engine="openvino")


def test_a_graph_of_nothing_but_nan_is_refused(model, monkeypatch):
    monkeypatch.setattr(graphs, "MASKED", np.array(np.nan, np.float32))
    with pytest.raises(EngineError, match="by nan of their length"):
        Embedder.from_pretrained(model, engine="openvino")


def test_what_was_refused_is_not_used_later(monkeypatch):
    ours = embedder("bert-gelu", engine="openvino")
    monkeypatch.setattr(graphs, "MASKED", np.zeros((), np.float32))
    for _ in range(2):
        with pytest.raises(EngineError):
            ours.encode(TEXTS)
    monkeypatch.undo()
    assert ours.encode(TEXTS).shape == (len(TEXTS), 15)


def test_float32_is_not_left_to_openvino(minilm, monkeypatch):
    monkeypatch.setitem(module.PRECISION, "float32", "bf16")
    core = module.openvino().Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    with pytest.raises(EngineError, match="is allowed in float32"):
        Embedder.from_pretrained(minilm, engine="openvino")


# --- refusals ------------------------------------------------------------------------------------


class Own(Position):
    """A scheme of a user."""


class OwnHead(LabelHead):
    """A head of a user."""


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"position": Own()}, "the position scheme is a Own"),
        ({"attention": named("dense")}, "attention is dense"),
        ({"attention": lambda *given: given[2]}, "attention is "),
    ],
)
def test_parts_that_no_graph_has(parts, what):
    own = make(CONFIGS["no-position"], **parts)
    with pytest.raises(NoGraphError, match=rf'{what}.*use engine="jax"'):
        Embedder(own, Tokenizer(word_tokenizer(), "right"), engine="openvino")


@pytest.mark.parametrize("name", ["modernbert", "distilbert", "nomic", "t5-relu-3heads"])
def test_families_that_have_no_graph(name):
    own = Encoder.from_pretrained(GOLDEN / name)
    with pytest.raises(NoGraphError, match="the encoder is a "):
        Engine(own, Stack(), kind="openvino")


def test_a_head_that_no_graph_has():
    engine = Engine(encoder("bert-gelu"), Stack(), kind="openvino")
    with pytest.raises(NoGraphError, match="the head is a OwnHead"):
        engine.program(forward.logits, OwnHead()).prepare()
    with pytest.raises(NoGraphError, match="<lambda> is a function of your own"):
        engine.program(lambda encoder, batch: batch).prepare()


def test_other_arguments_that_cannot_be(model):
    with pytest.raises(InputError, match="leave devices out"):
        Embedder.from_pretrained(model, engine="openvino", devices=jax.local_devices())
    with pytest.raises(InputError, match="streams is 3; it must be from 1 to 2"):
        OpenVino(threads=2, streams=3)
    with pytest.raises(InputTypeError, match="threads is a str"):
        OpenVino(threads="all")


def test_a_platform_that_is_no_cpu(model, monkeypatch):
    monkeypatch.setattr(module, "backend", lambda: "gpu")
    with pytest.raises(InputError, match="JAX_PLATFORMS=cpu"):
        Embedder.from_pretrained(model, engine="openvino")


def test_memory_for_the_term_of_a_scheme_is_counted(monkeypatch):
    engine = Engine(encoder("jinabert-geglu"), Stack(), kind="openvino")
    monkeypatch.setattr("jaxbert.inference.memory.device_memory", lambda device: 2**28)
    engine.check_memory(1, 2048)
    with pytest.raises(DeviceMemoryError, match='engine="jax", whose attention needs'):
        engine.check_memory(1, 8192)
    Engine(encoder("bert-gelu"), Stack(), kind="openvino").check_memory(1, 8192)


def test_an_error_of_openvino_is_one_sentence(both):
    program = both[1].engine.vectors
    batch = Padded(np.arange(1), 1, 16).fill([np.array([2, 3], np.int32)])
    wrong = batch._replace(positions=np.zeros((1, 7), np.int32))
    with pytest.raises(EngineError, match="OpenVINO failed") as caught:
        np.asarray(program(wrong, np.array(0, np.int32)))
    assert "\n" not in str(caught.value)


# --- copies, other processes, signals ------------------------------------------------------------


def test_copies_and_pickles_have_the_engine(both, tmp_path):
    ours = both[1]
    expected = ours.encode(TEXTS)
    for again in (copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert again.engine.kind == OpenVino()
        assert again.encode(TEXTS).tobytes() == expected.tobytes()
    ours.save_pretrained(tmp_path / "saved")
    close(Embedder.from_pretrained(tmp_path / "saved").encode(TEXTS), expected, COMPANY, norms)


def test_an_engine_that_cannot_be_pickled_says_so():
    class Local(OpenVino):
        pass

    with pytest.raises(InputTypeError, match=r"engine is .*cannot be pickled"):
        pickle.dumps(embedder("bert-gelu", engine=Local()))


def test_threads_share_an_embedder(both):
    theirs, ours = both
    lists = [TEXTS[i:] + TEXTS[:i] for i in range(4)]
    found = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: ours.encode(lists[i])}))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, texts in enumerate(lists):
        close(found[i], theirs.encode(texts), COMPANY, norms)


def test_an_interrupt_ends_a_call_and_the_next_one_is_right(both):
    ours = both[1]
    expected = ours.encode(TEXTS)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ours.encode([f"a b c {'d ' * (i % 15)}" for i in range(400_000)])
    timer.join()
    assert ours.encode(TEXTS).tobytes() == expected.tobytes()


def test_nothing_is_sent_and_nothing_forks():
    """openvino_telemetry would do both at the import of openvino."""
    script = """
import os, sys, jax
jax.devices()
def refuse(): raise SystemExit("forked")
os.fork = refuse
from jaxbert import Embedder
embedder = Embedder.from_pretrained("all-MiniLM-L6-v2", engine="openvino")
embedder.encode("a text")
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
import openvino_telemetry
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


# --- commands ------------------------------------------------------------------------------------


def embed(*arguments):
    """The exit status of the command."""
    return cli.main(["embed", *map(str, arguments), "--quiet"])


def test_a_run_says_its_engine_and_another_one_does_not_go_on(model, tmp_path, capsys):
    lines, out = tmp_path / "in.txt", tmp_path / "out.npy"
    lines.write_text("\n".join(TEXTS * 3))
    given = [lines, "-o", out, "--model", model]
    assert embed(*given, "--engine", "openvino") == 0
    about = json.loads((tmp_path / "out.npy.json").read_text())["engine"]
    assert about["name"] == "openvino"
    assert {"version", "threads", "streams", "capabilities"} < set(about)
    encoded = Embedder.from_pretrained(model, engine="openvino", deterministic=True)
    expected = encoded.encode([text.strip() for text in TEXTS * 3])
    assert np.load(out).tobytes() == expected.tobytes()
    capsys.readouterr()
    assert embed(*given, "--engine", "openvino") == 0
    assert "complete already" in capsys.readouterr().err
    assert embed(*given, "--engine", "jax") == 0  # which makes it anew
    assert json.loads((tmp_path / "out.npy.json").read_text())["engine"] == {"name": "jax"}
    close(np.load(out), expected, COMPANY, norms)


def test_a_run_that_stopped_is_not_resumed_by_another_engine(model, tmp_path, capsys):
    lines, out = tmp_path / "in.txt", tmp_path / "out.npy"
    lines.write_text("\n".join(TEXTS))
    given = [lines, "-o", out, "--model", model, "--rows-per-part", 3]
    # Another worker's parts are missing, so that the run is not finished.
    assert embed(*given, "--engine", "openvino", "--shard", "0/2") == 0
    capsys.readouterr()
    assert embed(*given, "--engine", "jax", "--shard", "1/2") == 1
    assert 'engine.name was "openvino" and is "jax"' in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["model", "scorer"])
def test_verify_compares_the_engine_with_the_reference(
    model, tmp_path, capsys, monkeypatch, folder
):
    if folder == "scorer":
        model = write_folder(tmp_path / "scorer", tensors=scored())
    assert cli.main(["verify", str(model), "--engine", "openvino"]) == 0
    told = capsys.readouterr().out
    assert "the engine openvino in float32 agrees with the float64 reference" in told
    assert "last states" in told
    monkeypatch.setattr(module, "check_program", lambda *given: None)
    monkeypatch.setattr(graphs, "MASKED", np.array(-3.0, np.float32))
    assert cli.main(["verify", str(model), "--engine", "openvino"]) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_other_commands_take_an_engine(model, tmp_path, capsys):
    similarity = ["similarity", "a b", "a c", "--model", str(model)]
    told = []
    for engine in ("jax", "openvino"):
        assert cli.main([*similarity, "--engine", engine]) == 0
        told.append(float(capsys.readouterr().out))
    close(told[1], told[0], COMPANY)
    assert cli.main(["info", str(model)]) == 0
    assert "jax, openvino 20" in capsys.readouterr().out
    folder = write_folder(tmp_path / "scorer", tensors=scored())
    (tmp_path / "texts.txt").write_text("a b\nc d\n")
    rank = ["rank", "a", str(tmp_path / "texts.txt"), "--model", str(folder)]
    assert cli.main([*rank, "--engine", "openvino"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
