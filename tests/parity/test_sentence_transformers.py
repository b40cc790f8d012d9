"""Embedder.encode beside SentenceTransformer.encode, on folders that the latter has written."""

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Dropout,
    Normalize,
    Pooling,
    Transformer,
)

from jaxbert import Embedder
from jaxbert.checkpoint.sentence_transformers.dense import ACTIVATIONS
from jaxbert.checkpoint.sentence_transformers.pooling import MODES, OLD_FLAGS
from jaxbert.checkpoint.sentence_transformers.settings import SIMILARITIES
from tests.parity.torch_models import SIZES, save_model
from tests.tolerances import FUNCTION, GOLDEN_ENCODER, MINILM, close, norms

pytestmark = pytest.mark.torch

WIDTH = SIZES["hidden_size"]
# What must differ differs by more than this, which no rounding reaches.
VISIBLE = 1000 * GOLDEN_ENCODER

# Short, empty, beyond every maximum length, upper case, accents, another script, a lone mark.
TEXTS = [
    "the cat",
    "",
    "a text of many words, and of many pieces: " * 3,
    "The CAT's TEXT?",
    "Éclat 語 é",
    "query",
    "  ab\tc\nD  ",
    "!",
]
PROMPTS = {"query": "Query: ", "long": "the text of the query and "}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a small BERT and a lower-casing word-piece tokenizer.

    16 positions: all texts run in one shape, so that a test compiles once.
    """
    return save_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """The same with 37 positions, so that texts fall into several shapes."""
    return save_model(tmp_path_factory.mktemp("longer"), positions=37)


@pytest.fixture(scope="module")
def cased(tmp_path_factory):
    """The same with a tokenizer that keeps case."""
    return save_model(tmp_path_factory.mktemp("cased"), lowercase=False)


def build(base, *modules, max_seq_length=None, **settings):
    """A SentenceTransformer on the small BERT; modules come after it."""
    transformer = Transformer(str(base), max_seq_length=max_seq_length)
    return SentenceTransformer(modules=[transformer, *modules], device="cpu", **settings)


def write(model, folder):
    """Save a SentenceTransformer without the page that describes it."""
    model.save_pretrained(str(folder), create_model_card=False)


def saved(model, folder, **kwargs):
    """The Embedder of what the model writes to the folder."""
    write(model, folder)
    return Embedder.from_pretrained(folder, **kwargs)


def edit(file, **changes):
    """Set keys of a JSON file; None takes a key out."""
    contents = (json.loads(file.read_text()) if file.is_file() else {}) | changes
    left = {key: value for key, value in contents.items() if value is not None}
    file.write_text(json.dumps(left))


def reload(folder):
    """What sentence-transformers reads from a folder."""
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def check(ours, theirs, **options):
    """Both give the same vectors, which are not all near zero."""
    expected = theirs.encode(TEXTS, **options)
    found = ours.encode(TEXTS, **options)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(expected).max() > VISIBLE
    close(found, expected, GOLDEN_ENCODER, norms)
    return found


# --- pooling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_each_pooling_mode(base, tmp_path, mode):
    model = build(base, Pooling(WIDTH, mode))
    ours = saved(model, tmp_path)
    assert ours.stack.pooling.modes == (mode,)
    check(ours, model)


def test_pooling_modes_are_told_apart(base, tmp_path):
    found = saved(build(base, Pooling(WIDTH, MODES)), tmp_path).encode(TEXTS[0])
    parts = np.split(found, len(MODES))
    distances = [np.abs(a - b).max() for i, a in enumerate(parts) for b in parts[:i]]
    assert min(distances) > VISIBLE


@pytest.mark.parametrize(
    "modes", [("max", "cls", "mean"), ("lasttoken", "weightedmean"), ("mean", "mean")]
)
def test_modes_are_concatenated_in_their_own_order(base, tmp_path, modes):
    model = build(base, Pooling(WIDTH, modes))
    assert check(saved(model, tmp_path), model).shape[1] == len(modes) * WIDTH


@pytest.mark.parametrize(
    "modes", [["lasttoken"], ["mean", "cls"], ["lasttoken", "weightedmean", "max"], []]
)
def test_old_flags_are_read(base, tmp_path, modes):
    write(build(base, Pooling(WIDTH, "cls")), tmp_path)
    flags = {flag: mode in modes for flag, mode in OLD_FLAGS.items()}
    flags |= {"word_embedding_dimension": WIDTH, "pooling_mode": None, "embedding_dimension": None}
    edit(tmp_path / "1_Pooling" / "config.json", **flags)
    check(Embedder.from_pretrained(tmp_path), reload(tmp_path))


def test_old_flags_beside_the_new_key_do_not_count(base, tmp_path):
    write(build(base, Pooling(WIDTH, "max")), tmp_path)
    edit(tmp_path / "1_Pooling" / "config.json", pooling_mode_cls_token=True)
    check(Embedder.from_pretrained(tmp_path), reload(tmp_path))


# --- prompts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("include", [True, False])
def test_prompts_by_name_by_text_and_none(base, tmp_path, include):
    pooling = Pooling(WIDTH, MODES, include_prompt=include)
    model = build(base, pooling, prompts=PROMPTS)
    ours = saved(model, tmp_path)
    plain = check(ours, model)
    named = check(ours, model, prompt_name="query")
    check(ours, model, prompt_name="long")
    check(ours, model, prompt="text 7: ")
    check(ours, model, prompt="qu")  # grows together with the text into other pieces
    np.testing.assert_array_equal(check(ours, model, prompt=""), plain)
    assert np.abs(named - plain).max() > VISIBLE


def test_a_prompt_left_out_of_pooling_changes_the_vectors(base, tmp_path):
    with_prompt = saved(build(base, Pooling(WIDTH), prompts=PROMPTS), tmp_path / "with")
    pooling = Pooling(WIDTH, include_prompt=False)
    without = saved(build(base, pooling, prompts=PROMPTS), tmp_path / "without")
    a, b = (model.encode(TEXTS, prompt_name="query") for model in (with_prompt, without))
    assert np.abs(a - b).max() > VISIBLE


@pytest.mark.parametrize("include", [True, False])
def test_the_default_prompt_applies_unless_another_is_given(base, tmp_path, include):
    pooling = Pooling(WIDTH, include_prompt=include)
    model = build(base, pooling, prompts=PROMPTS, default_prompt_name="query")
    ours = saved(model, tmp_path)
    default = check(ours, model)
    np.testing.assert_array_equal(check(ours, model, prompt_name="query"), default)
    check(ours, model, prompt_name="long")
    check(ours, model, prompt="")


# --- after pooling -----------------------------------------------------------------------------


def dense(activation, *, bias=True, inputs=WIDTH, outputs=9):
    """A Dense module of small random weights; activation by torch's class name."""
    torch.manual_seed(3)
    return Dense(
        inputs, outputs, bias=bias, activation_function=getattr(torch.nn.modules, activation)()
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense(base, tmp_path, activation, bias):
    model = build(base, Pooling(WIDTH), dense(activation, bias=bias))
    assert check(saved(model, tmp_path), model).shape[1] == 9


def test_normalize(base, tmp_path):
    model = build(base, Pooling(WIDTH, "max"), Normalize())
    found = check(saved(model, tmp_path), model)
    close(norms(found), 1.0, FUNCTION)


def test_a_long_stack(base, tmp_path):
    modules = (dense("GELU", inputs=2 * WIDTH, outputs=17), Dropout(0.5), Normalize())
    last = dense("Tanh", inputs=17, outputs=11)
    model = build(base, Pooling(WIDTH, ("cls", "mean")), *modules, last, Normalize())
    assert check(saved(model, tmp_path), model).shape[1] == 11


def test_fewer_features(base, tmp_path):
    model = build(base, Pooling(WIDTH), Normalize(), truncate_dim=7)
    ours = saved(model, tmp_path)
    assert ours.get_embedding_dimension() == model.get_embedding_dimension() == 7
    assert check(ours, model).shape[1] == 7
    assert check(ours, model, truncate_dim=5).shape[1] == 5
    assert check(ours, model, truncate_dim=WIDTH).shape[1] == WIDTH
    found = check(ours, model, truncate_dim=5, normalize_embeddings=True)
    close(norms(found), 1.0, FUNCTION)


def test_normalize_embeddings(base, tmp_path):
    model = build(base, Pooling(WIDTH))
    found = check(saved(model, tmp_path), model, normalize_embeddings=True)
    close(norms(found), 1.0, FUNCTION)


# --- texts -------------------------------------------------------------------------------------


def test_texts_are_cut_at_the_saved_length(base, tmp_path):
    model = build(base, Pooling(WIDTH, ("mean", "lasttoken")), max_seq_length=9)
    ours = saved(model, tmp_path)
    assert ours.max_seq_length == model.max_seq_length == 9
    short = check(ours, model)
    ours.max_seq_length = model.max_seq_length = 13
    assert np.abs(check(ours, model) - short).max() > VISIBLE


def test_an_older_file_of_settings_is_read(cased, tmp_path):
    write(build(cased, Pooling(WIDTH)), tmp_path)
    plain = Embedder.from_pretrained(tmp_path).encode(TEXTS)
    (tmp_path / "sentence_bert_config.json").unlink()
    edit(tmp_path / "sentence_bert_config.json", max_seq_length=11, do_lower_case=True)
    theirs, ours = reload(tmp_path), Embedder.from_pretrained(tmp_path)
    assert ours.max_seq_length == theirs.max_seq_length == 11
    found = check(ours, theirs)
    assert np.abs(found - plain)[3].max() > VISIBLE  # upper case, and shorter than eleven tokens


def test_without_any_length_it_is_the_positions_of_the_model(longer, tmp_path):
    model = build(longer, Pooling(WIDTH))
    ours = saved(model, tmp_path)
    assert ours.max_seq_length == model.max_seq_length == 37
    check(ours, model)


def test_a_prompt_counts_towards_the_length(base, tmp_path):
    pooling = Pooling(WIDTH, include_prompt=False)
    model = build(base, pooling, prompts=PROMPTS, max_seq_length=9)
    check(saved(model, tmp_path), model, prompt_name="query")


@pytest.mark.parametrize("lowercase", [True, False])
def test_case_is_the_tokenizers_matter(base, cased, tmp_path, lowercase):
    model = build(base if lowercase else cased, Pooling(WIDTH))
    check(saved(model, tmp_path), model)
    same = np.array_equal(*(model.encode(text) for text in ("The CAT", "the cat")))
    assert same == lowercase


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_vocabulary_alone_is_enough(base, cased, tmp_path, lowercase):
    source = base if lowercase else cased
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        shutil.copy(source / name, tmp_path)
    check(Embedder.from_pretrained(tmp_path), reload(tmp_path))


def test_a_bare_transformers_folder_is_pooled_by_the_mean(base):
    check(Embedder.from_pretrained(base), reload(base))


def test_forms_of_input(longer, tmp_path):
    model = build(longer, Pooling(WIDTH))
    ours = saved(model, tmp_path)
    for given in ("one text", ["one text"], ("a", "b"), np.array(["a", "b"])):
        assert ours.encode(given).shape == model.encode(given).shape
    check(ours, model, batch_size=1)
    check(ours, model, batch_size=3)


def test_deterministic_shapes_give_the_same_vectors(longer, tmp_path):
    model = build(longer, Pooling(WIDTH, MODES))
    check(saved(model, tmp_path, deterministic=True), model)


# --- similarity --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarity(base, tmp_path, name):
    model = build(base, Pooling(WIDTH), similarity_fn_name=name)
    ours = saved(model, tmp_path)
    assert ours.stack.similarity == name
    a = model.encode(TEXTS)
    for b in (a, a[3]):
        expected = model.similarity(a, b).numpy()
        found = ours.similarity(a, b)
        close(found, expected, FUNCTION)
    # A distance is negated, so that larger is always more alike.
    assert (found <= 0.0).all() == (name in ("euclidean", "manhattan"))


# --- the real model ----------------------------------------------------------------------------

SUBJECTS = "The engine|A child of seven|My neighbour's dog|Quantum chromodynamics|Ihre Antwort"
ENDINGS = (
    "was found under the bridge.|costs 12,50 € (about $13.70).|IS NOT WHAT IT SEEMS!"
    "|doesn't depend on the length of a text, only on positions."
    "|übersetzt 文章の意味 into naïve café-style prose 🙂"
)
VARIED = [f"{a} {b}" for a in SUBJECTS.split("|") for b in ENDINGS.split("|")] + [
    *(
        "",
        " ",
        ".",
        "a",
        "A",
        "?!?!",
        "\n\t",
        "[MASK]",
        "[SEP] [CLS]",
        "\u200b",
        "e\u0301",
        "İstanbul",
    ),
    *("supercalifragilisticexpialidocious" * n for n in (1, 3, 40)),
    *("word " * n for n in (13, 14, 15, 29, 30, 31, 62, 100, 253, 254, 255, 600)),
    "def attend(q, k, v):\n    return softmax(q @ k.T / sqrt(h)) @ v",
    "https://example.org/a/path?with=query&and#fragment",
]


@pytest.fixture(scope="module")
def both(minilm):
    """MiniLM in both libraries."""
    return Embedder.from_pretrained(minilm), reload(minilm)


def test_minilm_vectors(both):
    ours, theirs = both
    assert ours.max_seq_length == theirs.max_seq_length == 256
    assert len(VARIED) > 50
    expected, found = theirs.encode(VARIED), ours.encode(VARIED)
    close(norms(found), 1.0, FUNCTION)
    close(found, expected, MINILM, norms)


def test_minilm_reads_the_same_tokens(both):
    ours, theirs = both
    for text, ids in zip(VARIED, ours.tokenizer(VARIED, ours.max_seq_length), strict=True):
        np.testing.assert_array_equal(ids, theirs.preprocess([text])["input_ids"][0].numpy())


def test_minilm_similarities(both):
    ours, theirs = both
    vectors = theirs.encode(VARIED)
    expected = theirs.similarity(vectors, vectors).numpy()
    close(ours.similarity(vectors, vectors), expected, FUNCTION)
