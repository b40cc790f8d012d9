"""CrossEncoder from the outside: the scores of recorded models, shapes, order, bad input."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxbert import CrossEncoder
from jaxbert.cli import main
from jaxbert.errors import CheckpointError, InputError, InputTypeError, TextError
from jaxbert.inference.prefetch import WindowSize
from jaxbert.inference.scoring import sigmoid
from tests.models import GOLDEN
from tests.tolerances import BFLOAT16, COMPANY, GOLDEN_ENCODER, VISIBLE, close, off

NAMES = ("bert-cross-encoder", "bert-cross-encoder-3labels", "jinabert-reranker")


@pytest.fixture(scope="module")
def models():
    return {name: CrossEncoder.from_pretrained(GOLDEN / name) for name in NAMES}


def recorded(name):
    """What sentence-transformers or the published code gave for texts."""
    return json.loads((GOLDEN / name / "pairs.json").read_text(encoding="utf-8"))


def pairs_of(known):
    return [(known["query"], document) for document in known["documents"]]


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_recorded_ids(models, name):
    golden = load_file(GOLDEN / name / "golden.safetensors")
    arrays = [golden[key] for key in ("input_ids", "attention_mask", "token_type_ids")]
    close(models[name].logits(*arrays), golden["logits"], GOLDEN_ENCODER)


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_recorded_pairs(models, name):
    known, model = recorded(name), models[name]
    key = "scores" if name.startswith("jina") else "predict"
    expected = np.array(known[key], np.float32)
    got = model.predict(pairs_of(known))
    assert got.dtype == np.float32
    close(got, expected, GOLDEN_ENCODER)
    one = model.predict(pairs_of(known)[0])
    assert np.shape(one) == expected.shape[1:]
    close(one, expected[0], GOLDEN_ENCODER, np.abs(expected).max())


def test_ids_of_pairs_at_every_length(models):
    known, model = recorded("bert-cross-encoder"), models["bert-cross-encoder"]
    for most, encoded in known["encoded"].items():
        got = model.tokenizer.pairs(pairs_of(known), int(most), typed=True)
        for own, *expected in zip(
            got,
            encoded["input_ids"],
            encoded["token_type_ids"],
            encoded["attention_mask"],
            strict=True,
        ):
            ids, types, mask = map(np.array, expected)
            np.testing.assert_array_equal(own, np.stack([ids, types])[:, mask == 1])


def test_ids_of_pairs_without_types(models):
    known, model = recorded("jinabert-reranker"), models["jinabert-reranker"]
    assert not model.typed
    for most, expected in ((4096, known["ids"]), (24, known["truncated_to_24"]["ids"])):
        got = model.tokenizer.pairs(pairs_of(known), most, model.typed)
        assert [ids.tolist() for ids in got] == expected
    got = model.predict(pairs_of(known), max_length=24)
    close(got, np.array(known["truncated_to_24"]["scores"]), GOLDEN_ENCODER)


def test_activations_softmax_prompts_and_lengths(models):
    known, model = recorded("bert-cross-encoder"), models["bert-cross-encoder"]
    pairs = pairs_of(known)

    def agrees(expected, **options):
        close(model.predict(pairs, **options), np.array(expected), GOLDEN_ENCODER)

    agrees(known["predict_sigmoid"], activation_fn="Sigmoid")
    agrees(known["predict_sigmoid"], activation_fn=sigmoid)
    agrees(known["predict_softmax"], apply_softmax=True)  # nothing to share with one label
    agrees(known["predict_prompt"]["scores"], prompt=known["predict_prompt"]["prompt"])
    agrees(known["predict_max_24"], max_length=24)
    agrees(known["predict"], batch_size=2)
    three, known = models["bert-cross-encoder-3labels"], recorded("bert-cross-encoder-3labels")
    shares = three.predict(pairs_of(known), apply_softmax=True)
    close(shares, np.array(known["predict_softmax"]), GOLDEN_ENCODER)
    both = three.predict(pairs_of(known), activation_fn="Sigmoid", apply_softmax=True)
    close(both, np.array(known["predict_sigmoid_then_softmax"]), GOLDEN_ENCODER)


def test_pairs_may_be_an_array(models):
    pairs, model = drawn(5), models["bert-cross-encoder"]
    expected = model.predict(pairs)
    np.testing.assert_array_equal(model.predict(np.array(pairs)), expected)
    np.testing.assert_array_equal(model.predict(np.array(pairs[0])), model.predict(pairs[0]))
    np.testing.assert_array_equal(model.predict([list(pair) for pair in pairs]), expected)


def test_the_length_can_be_set():
    model = CrossEncoder.from_pretrained(GOLDEN / "bert-cross-encoder")
    pairs = pairs_of(recorded("bert-cross-encoder"))
    cut = model.predict(pairs, max_length=24)
    model.max_seq_length = 24
    np.testing.assert_array_equal(model.predict(pairs), cut)
    with pytest.raises(InputError, match="max_seq_length is 65; it must be from 1 to 64"):
        model.max_seq_length = 65


def test_rank(models):
    known, model = recorded("bert-cross-encoder"), models["bert-cross-encoder"]
    got = model.rank(known["query"], known["documents"])
    assert [row["corpus_id"] for row in got] == [row["corpus_id"] for row in known["rank"]]
    close([row["score"] for row in got], [row["score"] for row in known["rank"]], GOLDEN_ENCODER)
    best = model.rank(known["query"], known["documents"], top_k=2, return_documents=True)
    assert [(row["corpus_id"], row["text"]) for row in best] == [
        (row["corpus_id"], row["text"]) for row in known["rank_top2_documents"]
    ]
    assert model.rank(known["query"], []) == []
    empty = model.rank("", known["documents"])  # a text of no tokens, scored as any other
    scores = model.predict([("", text) for text in known["documents"]])
    assert [row["score"] for row in empty] == sorted(map(float, scores), reverse=True)
    same = model.rank("a", ["b", "b", "b"])
    assert [row["corpus_id"] for row in same] == [0, 1, 2]
    with pytest.raises(InputError, match=r"gives 3 scores .*by which documents have no order"):
        models["bert-cross-encoder-3labels"].rank("a", ["b"])


WORDS = ("the", "city", "river", "people", "of", "berlin", "live", "museums")


def drawn(number, seed=0):
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, random.integers(0, 40))) for _ in range(2 * number)]
    return list(zip(texts[::2], texts[1::2], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_other_pairs_of_a_batch_do_not_matter(models, name):
    pairs, model = drawn(61), models[name]
    together = model.predict(pairs, activation_fn="Identity")
    alone = np.stack([model.predict([pair], activation_fn="Identity")[0] for pair in pairs[:9]])
    close(together[:9], alone, COMPANY)
    assert off(together[::-1], together) > COMPANY


def test_the_same_pair_has_the_same_bits_with_deterministic():
    model = CrossEncoder.from_pretrained(GOLDEN / "bert-cross-encoder", deterministic=True)
    pairs = drawn(40)
    together = model.predict(pairs)
    for i in (0, 7, 39):
        assert model.predict(pairs[i]).tobytes() == together[i].tobytes()
    assert model.predict(pairs[::-1], batch_size=3)[::-1].tobytes() == together.tobytes()


def test_bfloat16_is_near(models):
    half = CrossEncoder.from_pretrained(GOLDEN / "bert-cross-encoder", dtype=jnp.bfloat16)
    a, b = (model.predict(drawn(9)) for model in (half, models["bert-cross-encoder"]))
    assert 0 < off(a, b) < BFLOAT16


def test_what_is_empty_or_long(models):
    model = models["bert-cross-encoder"]
    assert model.predict([]).shape == (0,)
    assert models["bert-cross-encoder-3labels"].predict([]).shape == (0, 3)
    assert np.isfinite(model.predict([("", ""), ("a", ""), ("", "a")])).all()
    long = "the city " * 100_000
    whole = model.predict([("the river", long), (long, "the river")])
    cut = model.predict([("the river", long[:900]), (long[:900], "the river")])
    np.testing.assert_array_equal(whole, cut)
    with pytest.raises(InputError, match="max_length 3 leaves no room beside 3 special tokens"):
        model.predict([("a", "b")], max_length=3)
    before = model.stats
    model.predict(drawn(5))
    assert (model.stats - before).texts == 5


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        ("a text", InputTypeError, "inputs is a str; pass a list of pairs"),
        (3, InputTypeError, "inputs is a int; pass a list of pairs"),
        ([("a", "b"), "ab"], InputTypeError, "pair 1 is 'ab'; pass two texts"),
        ([("a", "b", "c")], InputTypeError, "pair 0 is .*; pass two texts"),
        ([("a", "b"), ("a", 3)], InputTypeError, "text 1 is a int; pass str"),
        ([("a", "\ud800")], InputError, "text 0 has a lone surrogate"),
        (("a", "b", "c"), InputTypeError, "pair 0 is .*; pass two texts"),
    ],
)
def test_inputs_that_are_no_pairs(models, inputs, error, words):
    with pytest.raises(error, match=words):
        models["bert-cross-encoder"].predict(inputs)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"activation_fn": "Softplus"}, InputError, "activation_fn is 'Softplus'; it must be"),
        ({"activation_fn": 3}, InputTypeError, "activation_fn is 3; pass one of Identity"),
        ({"activation_fn": lambda x: x[:, :0]}, InputError, "must give floats of the same shape"),
        ({"prompt_name": "query"}, InputError, "no prompt named 'query'; it has: none"),
        ({"prompt": 3}, InputTypeError, "prompt"),
        ({"batch_size": 0}, InputError, "batch_size is 0"),
        ({"apply_softmax": "yes"}, InputTypeError, "apply_softmax is 'yes'"),
        ({"convert_to_tensor": True}, InputError, "vectors are NumPy arrays here"),
    ],
)
def test_options_that_are_refused(models, options, error, words):
    with pytest.raises(error, match=words):
        models["bert-cross-encoder"].predict([("a", "b")], **options)


def test_a_row_that_begins_with_padding_is_refused(models):
    with pytest.raises(InputError, match="pad on the right"):
        models["bert-cross-encoder"].logits([[0, 2, 3]], [[0, 1, 1]])


# --- folders --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(GOLDEN / "bert-cross-encoder", tmp_path / "model")


def changed(folder, file="config.json", without=(), **keys):
    """The folder with keys of a JSON file changed."""
    path = folder / file
    raw = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({k: v for k, v in raw.items() if k not in without} | keys))
    return folder


OLD = "sbert_ce_default_activation_function"


def test_where_the_activation_is_written(folder):
    def scores():
        return CrossEncoder.from_pretrained(folder).predict([("the river", "of berlin")])

    raw = scores()
    changed(folder, without=(OLD,))
    np.testing.assert_array_equal(scores(), sigmoid(raw))  # the default for one label
    changed(folder, sentence_transformers={"activation_fn": "torch.nn.modules.activation.Tanh"})
    changed(folder, **{OLD: "torch.nn.modules.linear.Identity"})
    np.testing.assert_array_equal(scores(), np.tanh(raw))  # the block goes before the old key
    settings = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
    changed(folder, "config_sentence_transformers.json", **settings)
    np.testing.assert_array_equal(scores(), raw)
    changed(folder, "config_sentence_transformers.json", activation_fn="mine.Own")
    with pytest.raises(CheckpointError, match=r"activation_fn = 'mine.Own'; understood are torch"):
        scores()
    model = CrossEncoder.from_pretrained(folder, ignore_config=("activation_fn",))
    np.testing.assert_array_equal(model.predict([("the river", "of berlin")]), sigmoid(raw))


def test_a_folder_as_new_versions_of_sentence_transformers_save_it(folder):
    listed = [{"idx": 0, "name": "0", "path": ""}]
    listed[0]["type"] = "sentence_transformers.base.modules.transformer.Transformer"
    (folder / "modules.json").write_text(json.dumps(listed))
    about = {"transformer_task": "sequence-classification", "module_output_name": "scores"}
    about["modality_config"] = {"text": {"method": "forward", "method_output_name": "logits"}}
    changed(folder, "sentence_bert_config.json", max_seq_length=24, **about)
    prompts = {"prompts": {"q": "the city: "}, "default_prompt_name": "q"}
    changed(folder, "config_sentence_transformers.json", model_type="CrossEncoder", **prompts)
    model, known = CrossEncoder.from_pretrained(folder), recorded("bert-cross-encoder")
    assert model.max_seq_length == 24
    whole = model.predict(pairs_of(known), max_length=48)
    close(whole, np.array(known["predict_prompt"]["scores"]), GOLDEN_ENCODER)


def test_types_are_given_where_the_tokenizer_lists_them(folder, models):
    pairs, typed = drawn(5), models["bert-cross-encoder"].predict(drawn(5))
    given = ["input_ids", "token_type_ids", "attention_mask"]
    for listed in (given, given[::2], None):
        changed(folder, "tokenizer_config.json", model_input_names=listed)
        model = CrossEncoder.from_pretrained(folder)
        assert model.typed is (listed != given[::2])
        if model.typed:
            np.testing.assert_array_equal(model.predict(pairs), typed)
        else:
            assert off(model.predict(pairs), typed) > VISIBLE
    changed(folder, "tokenizer_config.json", model_input_names="input_ids")
    with pytest.raises(CheckpointError, match="model_input_names = 'input_ids'"):
        CrossEncoder.from_pretrained(folder)


def test_texts_are_lower_cased_where_the_folder_says_so(folder):
    (folder / "modules.json").write_text(
        json.dumps([{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}])
    )
    backend = json.loads((folder / "tokenizer.json").read_text())
    assert backend["normalizer"]["lowercase"]
    backend["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(backend))
    changed(folder, "tokenizer_config.json", do_lower_case=False)
    upper, lower = [("THE RIVER", "OF BERLIN")], [("the river", "of berlin")]
    kept = CrossEncoder.from_pretrained(folder)
    assert kept.predict(upper) != kept.predict(lower)
    changed(folder, "sentence_bert_config.json", do_lower_case=True)
    cased = CrossEncoder.from_pretrained(folder)
    assert cased.predict(upper) == cased.predict(lower)


def test_a_pair_that_cannot_be_tokenised_is_named_by_its_place_among_all(models, monkeypatch):
    model = models["bert-cross-encoder"]
    monkeypatch.setattr("jaxbert.inference.pair_request.WINDOW", WindowSize(3, 10**6))

    real = type(model.tokenizer).pairs

    def refusing(self, pairs, *more):
        if ("bad", "b") in pairs:
            raise TextError(pairs.index(("bad", "b")), "cannot be tokenised")
        return real(self, pairs, *more)

    monkeypatch.setattr(type(model.tokenizer), "pairs", refusing)
    with pytest.raises(TextError, match="text 5 cannot be tokenised"):
        model.predict([("a", "b")] * 5 + [("bad", "b"), ("a", "b")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id2label": {"0": "no", "1": "yes"}}, "id2label for 2 labels, but .* has 1 rows"),
        ({"num_labels": 3}, "num_labels for 3 labels, but classifier.weight has 1 rows"),
        ({"id2label": {"5": "x"}}, "id2label = .*whose keys are not 0 to 0"),
        (
            {"architectures": ["BertForTokenClassification"]},
            "has the class BertForTokenClassification",
        ),
        ({OLD: 3}, f"{OLD} = 3"),
    ],
)
def test_a_config_that_contradicts_the_classifier(folder, change, words):
    with pytest.raises(CheckpointError, match=words):
        CrossEncoder.from_pretrained(changed(folder, **change))


@pytest.mark.parametrize("lost", ["classifier.bias", "bert.pooler.dense.weight"])
def test_a_head_that_is_not_whole(folder, lost):
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k != lost}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"lacks {lost.removeprefix('bert.')}"):
        CrossEncoder.from_pretrained(folder)


def test_a_second_head_is_not_left_out_in_silence(folder):
    tensors = load_file(folder / "model.safetensors")
    more = {"classifier.dense.weight": np.ones((36, 36), np.float32)}
    save_file(tensors | more, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has classifier\.dense\.weight beside its"):
        CrossEncoder.from_pretrained(folder)


def test_tensors_of_a_head_that_are_no_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    good = tensors["classifier.weight"]
    for wrong, words in (
        (good[:, :-1], "classifier.weight has shape"),
        (np.full_like(good, np.nan), "classifier.weight holds NaN"),
        (good.astype(np.int32), "classifier.weight is stored as I32"),
        (good[0], "a classifier is .labels, width."),
    ):
        save_file(tensors | {"classifier.weight": wrong}, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=words):
            CrossEncoder.from_pretrained(folder)


def test_an_embedder_with_a_classifier_is_neither(folder):
    listed = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(listed)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match=r"remove modules\.json or the classifier"):
        CrossEncoder.from_pretrained(folder)


def test_tensors_that_are_left_aside_are_named(folder, models):
    tensors = load_file(folder / "model.safetensors")
    more = {"cls.seq_relationship.bias": np.ones(2, np.float32)}
    save_file(tensors | more, folder / "model.safetensors")
    model = CrossEncoder.from_pretrained(folder)
    assert model.left_aside == ("cls.seq_relationship.bias",)
    assert models["bert-cross-encoder"].left_aside == ()
    pairs = drawn(3)
    expected = models["bert-cross-encoder"].predict(pairs)
    np.testing.assert_array_equal(model.predict(pairs), expected)


# --- the command ----------------------------------------------------------------------------------


def test_the_command_ranks_rows_of_files(models, tmp_path, capsys):
    known = recorded("bert-cross-encoder")
    texts = [text for text in known["documents"] if text]
    (tmp_path / "in.txt").write_text("\n".join(texts) + "\n")
    folder = str(GOLDEN / "bert-cross-encoder")
    options = ["rank", known["query"], str(tmp_path / "in.txt"), "--model", folder]
    assert main([*options, "--top-k", "2"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    expected = models["bert-cross-encoder"].rank(known["query"], texts, 2, return_documents=True)
    assert [(int(number), text) for _, number, text in lines] == [
        (row["corpus_id"], row["text"]) for row in expected
    ]
    close([float(score) for score, *_ in lines], [row["score"] for row in expected], GOLDEN_ENCODER)
    assert main(options[:3]) == 1
    assert "rank has no default model" in capsys.readouterr().err
    three = str(GOLDEN / "bert-cross-encoder-3labels")
    assert main([*options[:3], "--model", three]) == 1
    assert "by which documents have no order" in capsys.readouterr().err
