"""Rerankers, classifiers and masked language models, saved and loaded again; what is refused."""

import copy
import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from jaxbert import CrossEncoder, Encoder, MaskedLM
from jaxbert.checkpoint.sentence_transformers.cross_encoder import OLD_KEY, CrossEncoderSettings
from jaxbert.errors import CheckpointError, InputError
from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.head import Classifier, MaskedLanguageHead
from jaxbert.text.tokenizer import Tokenizer
from tests.models import (
    CONFIGS,
    GOLDEN,
    arrays,
    encoder,
    make,
    masked,
    randomised,
    raw_config,
    scored,
    sharded,
    word_tokenizer,
    write_folder,
)

SCORERS = ("bert-cross-encoder", "bert-cross-encoder-3labels", "jinabert-reranker")
FILLERS = ("bert-mlm", "jinabert-mlm")
PAIRS = [("a b", "c"), ("", "d e f"), ("q " * 30, "a " * 30)]
# Whose published names a head can stand beside.
MADE = ("bert-gelu", "bert-relu", "bert-gelu-tanh", "jinabert-geglu", "jinabert-reglu")
WORD = "embeddings.word_embeddings.weight"
WEIGHT, BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"


def tokenizer():
    return Tokenizer(word_tokenizer(), "right")


def scorer(name="bert-gelu", labels=("bad", "good", "best"), **more):
    """A cross-encoder that never was in a folder."""
    sizes = CONFIGS[name].sizes
    head = randomised(Classifier(sizes, len(labels), rngs=nnx.Rngs(0), std=1.0), 3)
    settings = CrossEncoderSettings(labels, **{"max_length": 11} | more)
    return CrossEncoder(encoder(name), head, tokenizer(), settings)


def filler(name="bert-gelu", act="gelu", tied=True, **more):
    """A masked language model that never was in a folder."""
    head = MaskedLanguageHead(CONFIGS[name], ACTIVATIONS[act], rngs=nnx.Rngs(0), tied=tied)
    return MaskedLM(encoder(name), randomised(head, 3), tokenizer(), **more)


def same(a, b):
    """The same classes, and the same weights bit for bit."""
    assert type(a) is type(b)
    for one, other in zip(a._parts.values(), b._parts.values(), strict=True):
        assert nnx.graphdef(one) == nnx.graphdef(other)
        for x, y in zip(*(nnx.to_flat_state(nnx.state(m)) for m in (one, other)), strict=True):
            assert x[0] == y[0]
            assert np.asarray(x[1][...]).tobytes() == np.asarray(y[1][...]).tobytes(), x[0]


def same_tensors(first, second):
    """Two files with the same names, dtypes and bits."""
    one, other = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert set(one) == set(other)
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert tensor.tobytes() == other[name].tobytes(), name


def config(folder):
    return json.loads((folder / "config.json").read_text())


# --- from a folder -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCORERS)
def test_a_folder_of_a_cross_encoder_is_written_back_bit_for_bit(name, tmp_path):
    own = CrossEncoder.from_pretrained(GOLDEN / name)
    own.save_pretrained(tmp_path)
    same_tensors(GOLDEN / name, tmp_path)
    assert config(tmp_path) == config(GOLDEN / name)
    again = CrossEncoder.from_pretrained(tmp_path)
    same(own, again)
    expected = replace(own.settings, activation=own.settings.activation_name)
    assert again.settings == expected
    np.testing.assert_array_equal(again.predict(PAIRS), own.predict(PAIRS))
    listed = json.loads((tmp_path / "modules.json").read_text())
    assert [module["type"].rsplit(".", 1)[-1] for module in listed] == ["Transformer"]


@pytest.mark.parametrize("name", FILLERS)
def test_a_folder_of_a_masked_language_model_is_written_back_bit_for_bit(name, tmp_path):
    own = MaskedLM.from_pretrained(GOLDEN / name)
    own.save_pretrained(tmp_path)
    same_tensors(GOLDEN / name, tmp_path)
    assert config(tmp_path) == config(GOLDEN / name)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / file).read_bytes() == (GOLDEN / name / file).read_bytes()
    again = MaskedLM.from_pretrained(tmp_path)
    same(own, again)
    assert again.fill("a [MASK]") == own.fill("a [MASK]")
    assert not list(tmp_path.glob("*sentence*"))


def aside(tensors):
    """With tensors that no head uses, and the decoder stored a second time."""
    ones = np.ones((15, 15), np.float32)
    more = {"bert.pooler.dense.weight": ones, "cls.seq_relationship.weight": ones[:2]}
    table = {WEIGHT: tensors[f"bert.{WORD}"].copy(), BIAS: tensors["cls.predictions.bias"].copy()}
    return tensors | more | table


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("split", [False, True])
def test_dtypes_shards_and_what_is_left_aside_are_kept(dtype, split, tmp_path):
    for kind, tensors in ((CrossEncoder, scored(labels=3)), (MaskedLM, aside(masked()))):
        folder = write_folder(tmp_path / kind.__name__, tensors=tensors, dtype=dtype)
        expected = sharded(folder) if split else load_file(folder / "model.safetensors")
        own = kind.from_pretrained(folder)
        own.save_pretrained(tmp_path / "new")
        files = sorted((tmp_path / "new").glob("*.safetensors"))
        assert [file.name for file in files] == [
            f.name for f in sorted(folder.glob("*.safetensors"))
        ]
        found = {name: tensor for file in files for name, tensor in load_file(file).items()}
        assert set(found) == set(expected)
        for name, tensor in expected.items():
            assert found[name].dtype == dtype
            assert found[name].tobytes() == tensor.tobytes()
        same(own, kind.from_pretrained(tmp_path / "new"))


def test_trained_weights_of_encoder_and_head_are_written(tmp_path):
    for kind, tensors in ((CrossEncoder, scored()), (MaskedLM, aside(masked()))):
        folder = write_folder(tmp_path / kind.__name__, tensors=tensors)
        own = kind.from_pretrained(folder)
        before = load_file(folder / "model.safetensors")
        for part in own._parts.values():
            nnx.update(part, nnx.state(randomised(part, seed=7)))
        own.save_pretrained(tmp_path / "new")
        after = load_file(tmp_path / "new" / "model.safetensors")
        assert set(after) == set(before)
        kept = {name for name in before if after[name].tobytes() == before[name].tobytes()}
        left = {"bert.pooler.dense.weight", "cls.seq_relationship.weight"}
        assert kept == (left if kind is MaskedLM else set())
        same(own, kind.from_pretrained(tmp_path / "new"))


def test_weights_that_a_narrow_dtype_has_no_room_for_are_widened(tmp_path):
    folder = write_folder(tmp_path / "old", tensors=scored(), dtype=np.float16)
    own = CrossEncoder.from_pretrained(folder)
    own.head.bias.set_value(own.head.bias[...] + jnp.float32(1e-5))
    own.save_pretrained(tmp_path / "new")
    found = load_file(tmp_path / "new" / "model.safetensors")
    assert {n for n, x in found.items() if x.dtype == np.float32} == {"classifier.bias"}
    same(own, CrossEncoder.from_pretrained(tmp_path / "new"))


def test_settings_that_were_changed_are_written(tmp_path):
    own = CrossEncoder.from_pretrained(GOLDEN / "bert-cross-encoder")
    own.max_seq_length = 17
    own.settings = replace(
        own.settings,
        labels=("relevance",),
        activation="Tanh",
        prompts={"q": "query: "},
        default_prompt_name="q",
    )
    expected = own.predict(PAIRS)
    own.save_pretrained(tmp_path)
    again = CrossEncoder.from_pretrained(tmp_path)
    assert again.settings == own.settings
    np.testing.assert_array_equal(again.predict(PAIRS), expected)
    raw = config(tmp_path)
    assert raw["id2label"] == {"0": "relevance"}
    assert raw["label2id"] == {"relevance": 0}
    # Which versions that read no other file would take.
    assert raw[OLD_KEY] == "torch.nn.modules.activation.Tanh"


def test_an_activation_that_was_passed_over_is_written_as_it_was_understood(tmp_path):
    keys = {"sentence_transformers": {"activation_fn": "mine.Own", "version": "4"}}
    raw = raw_config(CONFIGS["bert-gelu"]) | keys
    folder = write_folder(tmp_path / "old", tensors=scored(), config=raw)
    own = CrossEncoder.from_pretrained(folder, ignore_config=("activation_fn",))
    own.save_pretrained(tmp_path / "new")
    again = CrossEncoder.from_pretrained(tmp_path / "new")
    assert again.settings.activation_name == "Sigmoid"
    block = config(tmp_path / "new")["sentence_transformers"]
    assert block == {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "4"}


def test_mask_and_length_that_were_changed_are_written(tmp_path):
    own = MaskedLM.from_pretrained(GOLDEN / "bert-mlm")
    own.max_length = 17
    own.save_pretrained(tmp_path)
    again = MaskedLM.from_pretrained(tmp_path)
    assert (again.mask_token, again.max_length) == ("[MASK]", 17)
    assert again.fill("a [MASK]") == own.fill("a [MASK]")


@pytest.mark.parametrize("kind", [CrossEncoder, MaskedLM])
def test_over_its_own_folder_and_again(kind, tmp_path):
    tensors = scored() if kind is CrossEncoder else aside(masked())
    folder = write_folder(tmp_path / "model", tensors=tensors)
    own = kind.from_pretrained(folder)
    own.encoder.embeddings.word.set_value(2 * own.encoder.embeddings.word[...])
    for _ in range(2):
        own.save_pretrained(folder)
        same(own, kind.from_pretrained(folder))
    assert own.origin.unchanged()
    own.save_pretrained(tmp_path / "other")
    same_tensors(folder, tmp_path / "other")


def test_another_kind_of_model_in_the_folder_is_replaced(tmp_path):
    filler().save_pretrained(tmp_path)
    scorer().save_pretrained(tmp_path)
    CrossEncoder.from_pretrained(tmp_path)
    filler().save_pretrained(tmp_path)
    MaskedLM.from_pretrained(tmp_path)
    assert not (tmp_path / "modules.json").exists()


# --- made by hand --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_a_cross_encoder_made_by_hand(name, tmp_path):
    own = scorer(name, activation="Tanh", prompts={"q": "a "}, default_prompt_name="q")
    own.save_pretrained(tmp_path)
    again = CrossEncoder.from_pretrained(tmp_path)
    same(own, again)
    assert again.settings == own.settings
    np.testing.assert_array_equal(again.predict(PAIRS), own.predict(PAIRS))
    kind = f"{'Jina' if name.startswith('jina') else ''}BertForSequenceClassification"
    assert config(tmp_path)["architectures"] == [kind]
    names = set(load_file(tmp_path / "model.safetensors"))
    assert names == set(scored(name))
    if name.startswith("jina"):
        code = "jinaai/jina-bert-implementation--modeling_bert"
        auto = config(tmp_path)["auto_map"]["AutoModelForSequenceClassification"]
        assert auto == f"{code}.{kind}"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", MADE)
def test_a_masked_language_model_made_by_hand(name, tied, tmp_path):
    # A gated layer leaves hidden_act to the head.
    act = "silu" if name.startswith("jina") else CONFIGS[name].activation
    own = filler(name, act, tied, max_length=13)
    own.save_pretrained(tmp_path)
    again = MaskedLM.from_pretrained(tmp_path)
    same(own, again)
    assert (again.mask_token, again.max_length) == ("[MASK]", 13)
    ids, mask, types = arrays(3)
    np.testing.assert_array_equal(again.logits(ids, mask, types), own.logits(ids, mask, types))
    names = set(load_file(tmp_path / "model.safetensors"))
    assert names == set(masked(name)) | (set() if tied else {WEIGHT, BIAS})
    assert config(tmp_path).get("tie_word_embeddings", True) is tied


class Other(Encoder):
    def forward(self, inputs):
        return super().forward(inputs) * jnp.float32(2)


class OtherHead(Classifier):
    def __call__(self, x):
        return 2 * super().__call__(x)


class OtherScorer(CrossEncoder):
    def predict(self, *more, **options):
        return -super().predict(*more, **options)


def changed(own, **fields):
    """The settings of a model, changed."""
    own.settings = replace(own.settings, **fields)
    return own


def of_class(thing, kind):
    """A copy that is of another class."""
    other = copy.copy(thing)
    other.__class__ = kind
    return other


def with_parts(own, **parts):
    """The model anew, with other parts."""
    old = {"encoder": own.encoder, "head": own.head, "tokenizer": own.tokenizer}
    more = {"settings": own.settings} if isinstance(own, CrossEncoder) else {}
    return type(own)(**old | more | parts)


REFUSED = {
    "activation": (lambda: changed(scorer(), activation="Softplus"), "have activation 'Softplus'"),
    "labels": (lambda: changed(scorer(), labels=("a", "b")), "the head is not what its files"),
    "a label of no text": (lambda: scorer(labels=("a", 3)), r"id2label = .*0 to 1"),
    "prompt name": (lambda: changed(scorer(), default_prompt_name="x"), "no such prompt"),
    "encoder": (
        lambda: with_parts(scorer(), encoder=of_class(encoder("bert-gelu"), Other)),
        "Other is an encoder with a forward of its own",
    ),
    "head": (
        lambda: with_parts(scorer(), head=of_class(scorer().head, OtherHead)),
        "OtherHead is a head with a __call__ of its own",
    ),
    "face": (
        lambda: of_class(scorer(), OtherScorer),
        "OtherScorer is a CrossEncoder with a predict of its own",
    ),
    "position": (lambda: scorer("no-position"), "no words for none positions"),
    "activation of the head": (lambda: filler(act="relu"), "the head is not what its files"),
    "its own activation": (
        lambda: with_parts(
            filler(),
            head=MaskedLanguageHead(CONFIGS["bert-gelu"], jnp.tanh, rngs=nnx.Rngs(0), tied=True),
        ),
        "the head has an activation of its own",
    ),
    "epsilon": (
        lambda: with_parts(
            filler(),
            head=MaskedLanguageHead(
                replace(CONFIGS["bert-gelu"], layer_norm_eps=0.5),
                ACTIVATIONS["gelu"],
                rngs=nnx.Rngs(0),
                tied=True,
            ),
        ),
        "the head is not what its files would describe",
    ),
    "length": (lambda: filler("jinabert-geglu", max_length=5000), "mask and length are"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_folder_describes_is_refused_and_nothing_is_written(name, tmp_path):
    make_one, words = REFUSED[name]
    scorer().save_pretrained(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=words):
        make_one().save_pretrained(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_as_many_labels_as_scores():
    with pytest.raises(CheckpointError, match="gives 3 scores, and the settings have 2 labels"):
        with_parts(scorer(), settings=CrossEncoderSettings(("a", "b")))


def test_a_head_that_was_changed_does_not_run_with_its_old_weights():
    own = scorer()
    own.predict(PAIRS)
    own.head.bias.set_value(own.head.bias[...] + 1)
    for other in (own, copy.copy(own), copy.deepcopy(own)):
        with pytest.raises(InputError, match="the head was changed after this model was made"):
            other.predict(PAIRS)
    anew = with_parts(own)
    assert (anew.predict(PAIRS, activation_fn="Identity") != 0).all()


def test_bfloat16_weights_are_saved_by_hand_and_refused_over_a_wider_file(tmp_path):
    folder = write_folder(tmp_path / "old", tensors=scored())
    half = CrossEncoder.from_pretrained(folder, dtype="bfloat16")
    with pytest.raises(CheckpointError, match="load with dtype float32 to save without loss"):
        half.save_pretrained(tmp_path / "new")
    with_parts(half).save_pretrained(tmp_path / "new")
    again = CrossEncoder.from_pretrained(tmp_path / "new", dtype="bfloat16")
    np.testing.assert_array_equal(again.predict(PAIRS), half.predict(PAIRS))


@pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.tensors.UnverifiedModelWarning")
@pytest.mark.parametrize("name", ["qk-norm", "qk-post-norm"])
def test_other_families_by_hand(name, tmp_path):
    own = with_parts(
        scorer(),
        encoder=make(CONFIGS[name]),
        head=Classifier(CONFIGS[name].sizes, 3, rngs=nnx.Rngs(0), std=1.0),
    )
    own.save_pretrained(tmp_path)
    same(own, CrossEncoder.from_pretrained(tmp_path))
