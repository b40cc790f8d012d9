"""jaxbert.corpus.ray in a local Ray: the vectors of one encode, also where an actor dies."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray")

import jax
import ray

from jaxbert import Embedder, Ranges
from jaxbert.corpus.ray import EmbedBatch
from jaxbert.errors import InputError, InputTypeError
from tests.models import write_folder
from tests.tolerances import COMPANY, close, norms

# Ray and what it stands on warn of each other.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
ACTORS = 2
# Of all lengths, in no order; 53 leaves no batch size of the tests without a smaller last batch.
WORDS = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), (53, 17))
TEXTS = [" ".join(row[: 1 + 7 * i % 17]) for i, row in enumerate(WORDS)]
ROWS = [{"id": 3 * i, "text": text, "source": f"s{i % 5}"} for i, text in enumerate(TEXTS)]
PROMPTS = {"prompts": {"query": "q u ", "document": "d "}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model with prompts."""
    files = {"config_sentence_transformers": PROMPTS}
    return str(write_folder(tmp_path_factory.mktemp("model") / "own", **files))


@pytest.fixture(scope="module")
def embedder(folder):
    """What every test compares with: one process, one device, all texts in one call."""
    return Embedder.from_pretrained(folder, deterministic=True)


@pytest.fixture(scope="module")
def cluster():
    """A local Ray, whose actors see two devices each; its address."""
    # Ray's sockets need a short path, so it is not pytest's.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="r") as own:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("JAX_NUM_CPU_DEVICES", "2")
        patch.setenv("PYTHONPATH", str(ROOT))
        context = ray.init(
            num_cpus=ACTORS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            object_store_memory=2**27,
            _temp_dir=own,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield context.address_info["gcs_address"]
        ray.shutdown()


def collected(kind, folder, batch_size, options, **more):
    """The rows that a pipeline over ROWS gives, by id; seven blocks, so that both actors work."""
    rows = ray.data.from_items(ROWS, override_num_blocks=7)
    embedded = rows.map_batches(
        kind,
        fn_constructor_args=(folder,),
        fn_constructor_kwargs=options,
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=ACTORS),
        **more,
    )
    return sorted(embedded.take_all(), key=lambda row: row["id"])


def check(found, expected):
    """All rows are there once, with what they had and the vectors to the bit."""
    assert [{name: row[name] for name in ROWS[0]} for row in found] == ROWS
    assert all(set(row) == {*ROWS[0], "embedding"} for row in found)
    vectors = np.stack([row["embedding"] for row in found])
    assert vectors.dtype == expected.dtype
    np.testing.assert_array_equal(vectors, expected)


def test_two_actors_give_the_vectors_of_one_encode(cluster, embedder, folder):
    check(collected(EmbedBatch, folder, 3, {}), embedder.encode(TEXTS))


def test_options_reach_encode_whatever_the_size_of_batches(cluster, embedder, folder):
    ranges = Ranges.of(embedder.encode(TEXTS, truncate_dim=11, normalize_embeddings=True))
    options = {
        "prompt_name": "query",
        "truncate_dim": 11,
        "normalize_embeddings": True,
        "precision": "uint8",
        "ranges": ranges,
    }
    check(collected(EmbedBatch, folder, 5, options), embedder.encode(TEXTS, **options))


def test_an_actor_that_dies_costs_no_row(cluster, embedder, folder, tmp_path):
    died = tmp_path / "died"

    class Dying(EmbedBatch):  # in here, so that it travels to the actors by value
        def __call__(self, batch):
            done = super().__call__(batch)
            try:
                died.touch(exist_ok=False)
            except FileExistsError:
                return done
            os.kill(os.getpid(), signal.SIGKILL)

    found = collected(Dying, folder, 3, {}, max_restarts=3, max_task_retries=3)
    assert died.exists()
    check(found, embedder.encode(TEXTS))


def test_a_driver_imports_no_jax(cluster, embedder, folder, tmp_path):
    code = """
import sys
import numpy as np
from jaxbert.corpus.ray import EmbedBatch
early = [m for m in ("jax", "flax", "tokenizers", "ray") if m in sys.modules]
import ray
address, folder, file = sys.argv[1:]
ray.init(address, log_to_driver=False, logging_level="error")
rows = ray.data.from_items([{"text": text} for text in ("a b", "c")]).map_batches(
    EmbedBatch, fn_constructor_args=(folder,), compute=ray.data.ActorPoolStrategy(size=1)
)
planned = [m for m in ("jax", "flax", "tokenizers") if m in sys.modules]
found = sorted(rows.take_all(), key=lambda row: row["text"])
np.save(file, np.stack([row["embedding"] for row in found]))
print(early, planned, [m for m in ("jax", "flax", "tokenizers") if m in sys.modules])
"""
    file = tmp_path / "vectors.npy"
    done = subprocess.run(
        [sys.executable, "-c", code, cluster, folder, str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert done.stdout == "[] [] []\n", done.stderr
    np.testing.assert_array_equal(np.load(file), embedder.encode(["a b", "c"]))


def test_a_batch_in_one_process(embedder, folder):
    embed = EmbedBatch(folder, text_column="body", output_column="vector")
    batch = {"body": np.array(TEXTS), "id": np.arange(len(TEXTS))}
    found = embed(batch)
    assert list(batch) == ["body", "id"]  # the caller's own is left as it was
    assert list(found) == ["body", "id", "vector"]
    assert found["id"] is batch["id"]
    np.testing.assert_array_equal(found["vector"], embedder.encode(TEXTS))
    empty = {"body": np.array([], object), "id": np.arange(0)}
    assert embed(empty)["vector"].shape == (0, embedder.get_embedding_dimension())


def test_the_model_stands_on_all_devices_of_the_process_and_takes_its_own_options(
    folder, embedder, monkeypatch
):
    asked = {}
    load = Embedder.from_pretrained

    def from_pretrained(name, **options):
        asked.update(options)
        return load(name, **options)

    monkeypatch.setattr(Embedder, "from_pretrained", from_pretrained)
    embed = EmbedBatch(folder, deterministic=False, model_options={"dtype": "bfloat16"})
    devices = jax.local_devices()
    assert asked == {"deterministic": False, "devices": devices, "dtype": "bfloat16"}
    assert len(devices) == 2
    assert embed.embedder.encoder.embeddings.word[...].dtype == jax.numpy.bfloat16
    asked.clear()
    found = EmbedBatch(folder, deterministic=False)({"text": np.array(TEXTS)})["embedding"]
    expected = embedder.encode(TEXTS)
    close(found, expected, COMPANY, norms)


def test_all_texts_of_a_batch_go_through_one_call(folder, monkeypatch):
    embed, calls = EmbedBatch(folder), []
    encode = embed.embedder.encode

    def counted(texts, **options):
        calls.append(texts)
        return encode(texts, **options)

    monkeypatch.setattr(embed.embedder, "encode", counted)
    embed({"text": np.array(TEXTS)})
    assert calls == [TEXTS]


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (np.array(["a", None, "b"], object), "text 1 is a NoneType"),
        (np.array(["a", b"b"], object), "text 1 is a bytes"),
        (np.arange(3), "text 0 is a int"),
        (np.array([["a", "b"], ["c", "d"]]), "text 0 is a list"),
    ],
)
def test_what_is_no_text_is_refused(folder, texts, named):
    with pytest.raises(InputTypeError, match=named):
        EmbedBatch(folder)({"text": texts})


def test_columns_that_are_missing_or_would_be_lost_are_refused(folder):
    embed = EmbedBatch(folder)
    with pytest.raises(InputError, match="no column 'text', only 'body', 'id'"):
        embed({"body": np.array(["a"]), "id": np.array([1])})
    with pytest.raises(InputError, match="a column 'embedding' already"):
        embed({"text": np.array(["a"]), "embedding": np.array([1])})


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"prompt_name": "zebra"}, InputError, "no prompt named 'zebra'"),
        ({"truncate_dim": 99}, InputError, "truncate_dim is 99"),
        ({"precision": "int8"}, InputError, "without ranges"),
        ({"precision": "uint8", "ranges": None}, InputError, "without ranges"),
        ({"output_value": None}, InputError, "one vector per text"),
        ({"normalise": True}, TypeError, "unexpected keyword argument 'normalise'"),
        ({"model_options": {"devices": None}}, TypeError, "devices"),
    ],
)
def test_options_are_refused_before_the_first_batch(folder, options, error, named):
    with pytest.raises(error, match=named):
        EmbedBatch(folder, **options)


def test_an_error_of_encode_ends_the_run_with_its_sentence(cluster, folder):
    rows = ray.data.from_items([{"text": "a"}, {"text": None}], override_num_blocks=1)
    actor = ray.data.ActorPoolStrategy(size=1)
    with pytest.raises(ray.exceptions.RayTaskError, match="InputTypeError: text 1 is a NoneType"):
        rows.map_batches(EmbedBatch, fn_constructor_args=(folder,), compute=actor).take_all()
