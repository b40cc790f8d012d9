"""CrossEncoder beside that of sentence-transformers, MaskedLM beside transformers, live."""

import inspect
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")

from sentence_transformers import CrossEncoder as TheirCrossEncoder

from jaxbert import CrossEncoder, MaskedLM
from tests.models import arrays
from tests.parity.torch_models import SIZES, VOCABULARY, bert, save_tokenizer, tensors
from tests.tolerances import ENCODER, GOLDEN_ENCODER, VISIBLE, close, largest, off

pytestmark = pytest.mark.torch

# More than the tokenizer's vocabulary: some tokens of the model have no word.
WORDS = len(VOCABULARY) + 3
POSITIONS = 24


def save(folder, kind, *, seed=0, side="right", stored=torch.float32, **changes):
    """A folder with a small BERT under a head, as transformers saves it, and its tokenizer."""
    sizes = {"vocab_size": WORDS, "max_position_embeddings": POSITIONS} | changes
    save_tokenizer(folder, lowercase=True)
    bert(kind, seed=seed, **sizes).to(stored).save_pretrained(folder)
    if side != "right":
        edit(folder / "tokenizer_config.json", truncation_side=side)
    return folder


def edit(file, **changes):
    """Set keys of a JSON file, which may not be there yet."""
    contents = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(contents | changes))


def differ(a, b):
    """Refuse numbers that are the same but for rounding: then a test could not fail."""
    assert off(a, b) > VISIBLE


def apart(scores):
    """Refuse scores of which rounding could change the order."""
    gaps = -np.diff(np.sort(scores)[::-1])
    assert gaps.min() > 2 * VISIBLE * largest(scores)


# --- pairs of texts ------------------------------------------------------------------------------

# Short, one or both of them empty, beyond the maximum length on either side and on both (by an even
# and by an odd number of tokens), upper case, accents, another script, and characters by the
# thousand.
LONG = "a text of many words, and of many pieces: "
PAIRS = [
    ("the cat", "The CAT's TEXT?"),
    ("the cat", ""),
    ("", "the cat"),
    ("", ""),
    ("query", LONG * 2),
    (LONG * 2, "query"),
    (LONG, LONG + "0"),
    ("a b c d e f g h i j k", "a b c d e f g h i j k"),
    ("a b c d e f g h i j k l", "a b c d e f g h i j k"),
    ("Éclat 語 é", "  ab\tc\nD  "),
    ("q", LONG * 200),
    (LONG * 200, "q !"),
]
PROMPTS = {"query": "Query: ", "long": "the text of the query and "}
OLD = "sbert_ce_default_activation_function"
TORCH = {"Identity": "torch.nn.modules.linear.Identity"} | {
    name: f"torch.nn.modules.activation.{name}" for name in ("Sigmoid", "Tanh")
}


def classifier(folder, labels, **changes):
    """A folder with a classifier of so many labels."""
    kind = transformers.BertForSequenceClassification
    return save(folder, kind, num_labels=labels, **changes)


def reload(folder, **options):
    """What sentence-transformers reads from a folder."""
    return TheirCrossEncoder(str(folder), device="cpu", local_files_only=True, **options)


def write(model, folder):
    """The folder that sentence-transformers saves, without the page that describes it."""
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="module", params=[1, 3])
def both(request, tmp_path_factory):
    """One folder in both libraries, of one label and of three."""
    folder = classifier(tmp_path_factory.mktemp("classifier"), request.param)
    return CrossEncoder.from_pretrained(folder), reload(folder)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The same with one label, for what needs an order."""
    folder = classifier(tmp_path_factory.mktemp("one"), 1)
    return CrossEncoder.from_pretrained(folder), reload(folder)


def agree(ours, theirs, options=(), their_options=None):
    """Both give the same scores of all pairs, which are told apart; the options may differ."""
    options = dict(options)
    expected = theirs.predict(PAIRS, **options if their_options is None else their_options)
    found = ours.predict(PAIRS, **options)
    assert found.dtype == expected.dtype == np.float32
    assert found.shape == expected.shape
    assert expected.std(axis=0).min() > VISIBLE
    close(found, expected, GOLDEN_ENCODER)
    return found


def test_scores_of_pairs(both):
    ours, theirs = both
    assert ours.num_labels == theirs.num_labels
    assert ours.max_seq_length == theirs.max_seq_length == POSITIONS
    found = agree(ours, theirs)
    assert found.shape == ((len(PAIRS),) if ours.num_labels == 1 else (len(PAIRS), 3))
    close(agree(ours, theirs, {"batch_size": 5}), found, GOLDEN_ENCODER)


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_weights_of_half_precision(tmp_path, stored):
    classifier(tmp_path, 1, stored=getattr(torch, stored))
    theirs = reload(tmp_path, model_kwargs={"dtype": torch.float32})
    agree(CrossEncoder.from_pretrained(tmp_path), theirs)


def test_names_of_labels(tmp_path, both):
    classifier(tmp_path, 3, id2label={0: "no", 1: "perhaps", 2: "yes"})
    assert CrossEncoder.from_pretrained(tmp_path).settings.labels == ("no", "perhaps", "yes")
    ours, theirs = both
    assert dict(enumerate(ours.settings.labels)) == theirs.config.id2label


def test_forms_of_input(both):
    ours, theirs = both
    forms = (PAIRS[0], list(PAIRS[0]), PAIRS[:1], tuple(PAIRS), [list(p) for p in PAIRS])
    for given in forms:
        expected = theirs.predict(given)
        found = ours.predict(given)
        assert np.shape(found) == np.shape(expected)
        close(found, expected, GOLDEN_ENCODER)
    assert len(ours.predict([])) == len(theirs.predict([])) == 0


def test_arguments_have_their_names_and_places():
    for name, missing in (("predict", set()), ("rank", {"device", "pool", "chunk_size"})):
        ours, theirs = (
            [
                p.name
                for p in inspect.signature(getattr(kind, name)).parameters.values()
                if p.kind is p.POSITIONAL_OR_KEYWORD
            ]
            for kind in (CrossEncoder, TheirCrossEncoder)
        )
        assert ours == theirs[: len(ours)]
        assert set(theirs) - set(ours) == missing


def test_logits_of_ids(both):
    ours, theirs = both
    ids, mask, types = arrays(1, rows=5, length=13, vocabulary=WORDS, types=5)

    def logits(**given):
        with torch.no_grad():
            return theirs.model(**given).logits.numpy()

    given = tensors(ids, mask, types)
    expected = logits(**given)
    close(ours.logits(ids, mask, types), expected, GOLDEN_ENCODER)
    close(ours.logits(ids), logits(input_ids=given["input_ids"]), GOLDEN_ENCODER)
    for name in ("attention_mask", "token_type_ids"):
        differ(logits(**{key: given[key] for key in given if key != name}), expected)


# --- their tokens --------------------------------------------------------------------------------


def check_tokens(ours, theirs, pairs, prompt=None):
    """Ids and types of pairs, up to each one's padding; returns how many tokens each has."""
    features = theirs.preprocess([list(pair) for pair in pairs], prompt=prompt)
    ids, types, mask = (
        features[key].numpy() for key in ("input_ids", "token_type_ids", "attention_mask")
    )
    plain = [((prompt or "") + a, b) for a, b in pairs]
    found = ours.tokenizer.pairs(plain, theirs.max_seq_length, ours.typed)
    for own, *rows, there in zip(found, ids, types, mask, strict=True):
        np.testing.assert_array_equal(own, np.stack(rows)[:, there == 1])
    assert any(own[1].any() for own in found)
    return [own.shape[1] for own in found]


@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_of_pairs_of_all_lengths(tmp_path, side):
    folder = classifier(tmp_path, 1, side=side)
    ours, theirs = CrossEncoder.from_pretrained(folder), reload(folder)
    letters = "a b c d e f g h i j".split()
    pairs = [
        (" ".join(letters[:n]), " ".join(reversed(letters[:m])))
        for n in range(len(letters))
        for m in range(len(letters))
    ]
    pairs += PAIRS
    for most in (4, 5, 8, 11, 12, POSITIONS):
        theirs.max_seq_length = most
        lengths = check_tokens(ours, theirs, pairs)
        assert max(lengths) == most
        assert min(lengths) == 3


@pytest.mark.parametrize("most", [6, 11, 16])
def test_scores_at_a_maximum_length(tmp_path, both, most):
    ours, theirs = both
    whole = agree(ours, theirs)
    theirs.max_seq_length = most
    try:
        cut = agree(ours, theirs, {"max_length": most}, {})
    finally:
        theirs.max_seq_length = POSITIONS
    differ(cut, whole)
    # As an argument it ends up in the saved folder.
    shorter = TheirCrossEncoder(theirs[0].model.name_or_path, max_length=most, device="cpu")
    again = CrossEncoder.from_pretrained(write(shorter, tmp_path))
    assert again.max_seq_length == shorter.max_seq_length == most
    np.testing.assert_array_equal(agree(again, shorter), cut)


@pytest.mark.parametrize("side", ["right", "left"])
def test_scores_of_texts_cut_on_either_side(tmp_path, one, side):
    classifier(tmp_path, 1, side=side)
    found = agree(CrossEncoder.from_pretrained(tmp_path), reload(tmp_path))
    if side == "left":
        differ(found, one[0].predict(PAIRS))


# --- activations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("activation", [None, *TORCH])
def test_an_activation_as_argument(both, activation, softmax):
    ours, theirs = both
    module = None if activation is None else getattr(torch.nn, activation)()
    options = {"activation_fn": module, "apply_softmax": softmax}
    found = agree(ours, theirs, options)
    named = ours.predict(PAIRS, activation_fn=activation, apply_softmax=softmax)
    np.testing.assert_array_equal(named, found)


def test_activations_and_softmax_are_told_apart(both):
    theirs = both[1]
    kinds = [getattr(torch.nn, name)() for name in TORCH]
    found = [theirs.predict(PAIRS, activation_fn=kind) for kind in kinds]
    if theirs.num_labels > 1:
        found += [theirs.predict(PAIRS, activation_fn=k, apply_softmax=True) for k in kinds]
    for i, a in enumerate(found):
        for b in found[:i]:
            differ(a, b)


# Where the activation is written, in the folder's config.json and in the file beside it, and what
# that comes to: the file beside it goes first, then the block, then the old key.
WRITTEN = [
    ({}, {}, None),
    ({OLD: TORCH["Identity"]}, {}, "Identity"),
    ({OLD: TORCH["Tanh"]}, {}, "Tanh"),
    ({OLD: None}, {}, None),
    ({"sentence_transformers": {"activation_fn": TORCH["Tanh"]}}, {}, "Tanh"),
    (
        {"sentence_transformers": {"activation_fn": TORCH["Tanh"]}, OLD: TORCH["Sigmoid"]},
        {},
        "Tanh",
    ),
    ({"sentence_transformers": {"version": "4.1.0"}, OLD: TORCH["Tanh"]}, {}, "Tanh"),
    ({OLD: TORCH["Sigmoid"]}, {"activation_fn": TORCH["Tanh"]}, "Tanh"),
    ({OLD: TORCH["Tanh"]}, {"activation_fn": None}, "Tanh"),
    (
        {"sentence_transformers": {"activation_fn": TORCH["Tanh"]}},
        {"activation_fn": TORCH["Sigmoid"]},
        "Sigmoid",
    ),
]


@pytest.mark.parametrize(("config", "beside", "expected"), WRITTEN)
@pytest.mark.parametrize("labels", [1, 3])
def test_where_the_activation_is_written(tmp_path, labels, config, beside, expected):
    folder = classifier(tmp_path / "bare", labels)
    if beside:  # which sentence-transformers reads only next to modules.json
        folder = write(reload(folder), tmp_path / "saved")
        edit(folder / "config_sentence_transformers.json", **beside)
    edit(folder / "config.json", **config)
    ours, theirs = CrossEncoder.from_pretrained(folder), reload(folder)
    expected = expected or ("Sigmoid" if labels == 1 else "Identity")
    assert type(theirs.activation_fn).__name__ == expected
    found = agree(ours, theirs)
    np.testing.assert_array_equal(ours.predict(PAIRS, activation_fn=expected), found)


# --- folders that sentence-transformers saves ----------------------------------------------------


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("activation", [None, *TORCH])
def test_a_saved_folder(tmp_path, labels, activation):
    module = None if activation is None else getattr(torch.nn, activation)()
    theirs = reload(classifier(tmp_path / "bare", labels), activation_fn=module)
    folder = write(theirs, tmp_path / "saved")
    assert {"modules.json", "config_sentence_transformers.json"} <= {
        file.name for file in folder.iterdir()
    }
    ours = CrossEncoder.from_pretrained(folder)
    assert ours.settings.activation == type(theirs.activation_fn).__name__
    found = agree(ours, theirs)
    close(reload(folder).predict(PAIRS), found, GOLDEN_ENCODER)


def test_prompts_by_name_by_text_and_by_default(tmp_path):
    bare = classifier(tmp_path / "bare", 1)
    theirs = reload(bare, prompts=PROMPTS, default_prompt_name="long")
    ours = CrossEncoder.from_pretrained(write(theirs, tmp_path / "saved"))
    assert ours.settings.prompts == PROMPTS
    assert ours.settings.default_prompt_name == "long"
    default = agree(ours, theirs)
    np.testing.assert_array_equal(agree(ours, theirs, {"prompt_name": "long"}), default)
    named = agree(ours, theirs, {"prompt_name": "query"})
    np.testing.assert_array_equal(agree(ours, theirs, {"prompt": "Query: "}), named)
    plain = agree(ours, theirs, {"prompt": ""})
    grown = agree(ours, theirs, {"prompt": "qu"})  # grows with the text into other pieces
    np.testing.assert_array_equal(agree(CrossEncoder.from_pretrained(bare), reload(bare)), plain)
    for i, a in enumerate(kinds := [default, named, plain, grown]):
        for b in kinds[:i]:
            differ(a, b)
    for prompt in (None, *PROMPTS.values(), "qu"):
        check_tokens(ours, theirs, PAIRS, prompt)


# --- rank ----------------------------------------------------------------------------------------

DOCUMENTS = ["the cat", "", "query of text", LONG, "The CAT!", "0 1 2 3", "é 語", "texting", "a"]


@pytest.mark.parametrize("top_k", [None, 1, 4, 100])
@pytest.mark.parametrize("return_documents", [False, True])
@pytest.mark.parametrize(
    "more", [{}, {"prompt": "the query: "}, {"activation_fn": torch.nn.Identity()}]
)
def test_rank(one, top_k, return_documents, more):
    ours, theirs = one
    options = {"top_k": top_k, "return_documents": return_documents} | more
    apart([row["score"] for row in theirs.rank("the text", DOCUMENTS, **more)])
    expected = theirs.rank("the text", DOCUMENTS, **options)
    found = ours.rank("the text", DOCUMENTS, **options)
    assert len(found) == min(top_k or 100, len(DOCUMENTS))
    assert [{**row, "score": 0} for row in found] == [{**row, "score": 0} for row in expected]
    scores, their_scores = ([row["score"] for row in rows] for rows in (found, expected))
    assert {type(score) for score in scores} == {float}
    close(scores, their_scores, GOLDEN_ENCODER)
    order = [row["corpus_id"] for row in found]
    assert order != sorted(order) or top_k == 1


def test_rank_of_nothing_and_of_several_labels(both):
    ours, theirs = both
    if ours.num_labels == 1:
        assert ours.rank("a", []) == theirs.rank("a", []) == []
        return
    for model in both:
        with pytest.raises(ValueError, match=r"scores|num_labels=1"):
            model.rank("a", ["b"])


# --- masked language models ----------------------------------------------------------------------

MASKED = [
    "the [MASK] of the query.",
    "[MASK]",
    "The CAT's [MASK], isn't it?! é 語 [UNK]",
    "[MASK] a [MASK], don ' t: [MASK]",
    "text [MASK]ing [PAD] the [SEP] cat",
    "ab\tc\n[MASK] D 0",
]


# Weights with which the first candidates are told apart, whatever the model below.
SEED = 59


def filler(folder, **changes):
    """A masked language model in both libraries: ours, and theirs with its tokenizer."""
    return opened(save(folder, transformers.BertForMaskedLM, seed=SEED, **changes))


def opened(folder):
    """The same of a folder that is there."""
    model = transformers.BertForMaskedLM.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    pipeline = transformers.pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")
    return MaskedLM.from_pretrained(folder), pipeline


@pytest.fixture(scope="module")
def fillers(tmp_path_factory):
    return filler(tmp_path_factory.mktemp("filler"))


def their_logits(pipeline, ids, mask, types):
    """The logits of every token of the vocabulary, as NumPy."""
    with torch.no_grad():
        return pipeline.model(**tensors(ids, mask, types)).logits.numpy()


def check_logits(ours, pipeline):
    """The logits of ragged rows with every token type agree where there is a token."""
    ids, mask, types = arrays(2, rows=5, length=13, vocabulary=WORDS, types=5)
    expected = their_logits(pipeline, ids, mask, types)
    found = np.asarray(ours.logits(ids, mask, types))
    assert found.shape == expected.shape == (5, 13, WORDS)
    assert found.dtype == np.float32
    close(found[mask != 0], expected[mask != 0], GOLDEN_ENCODER)
    return found[mask != 0]


ACTIVATIONS = ("gelu_new", "relu")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_logits_and_answers_with_each_activation(tmp_path, activation):
    ours, pipeline = filler(tmp_path, hidden_act=activation)
    check_logits(ours, pipeline)
    check_answers(ours, pipeline)


def test_activations_are_told_apart(tmp_path):
    ids, mask, types = arrays(2, rows=5, length=13, vocabulary=WORDS, types=5)
    kind = transformers.BertForMaskedLM
    models = [bert(kind, vocab_size=WORDS, hidden_act=name) for name in ("gelu", *ACTIVATIONS)]
    with torch.no_grad():
        found = [model(**tensors(ids, mask, types)).logits.numpy() for model in models]
        # The head alone tells them apart, on the same states.
        states = torch.randn(3, 5, SIZES["hidden_size"], generator=torch.Generator().manual_seed(1))
        heads = [model.cls(states).numpy() for model in models]
    for kinds in (found, heads):
        for i, a in enumerate(kinds):
            for b in kinds[:i]:
                differ(a, b)


def test_defaults_of_mask_and_types(fillers):
    ours, pipeline = fillers
    ids, _, _ = arrays(3, vocabulary=WORDS)
    with torch.no_grad():
        expected = pipeline.model(input_ids=torch.from_numpy(ids)).logits.numpy()
    close(ours.logits(ids), expected, GOLDEN_ENCODER)
    other = their_logits(pipeline, ids, np.ones_like(ids), np.ones_like(ids))
    differ(other, expected)


def test_the_table_of_logits_is_the_word_embeddings(fillers):
    ours, pipeline = fillers
    model = pipeline.model
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.cls.predictions.bias.abs().max() > 0.1  # which a tied model must add once
    assert ours.head.decoder is None
    check_logits(ours, pipeline)


def test_a_decoder_of_its_own(tmp_path, fillers):
    sizes = {"vocab_size": WORDS, "max_position_embeddings": POSITIONS}
    model = bert(transformers.BertForMaskedLM, seed=SEED, tie_word_embeddings=False, **sizes)
    with torch.no_grad():
        # Two weights in transformers 5, of which only the second is used, and one before.
        model.cls.predictions.bias.copy_(model.cls.predictions.decoder.bias)
    save_tokenizer(tmp_path, lowercase=True)
    model.save_pretrained(tmp_path)
    ours, pipeline = opened(tmp_path)
    differ(check_logits(ours, pipeline), check_logits(*fillers))
    check_answers(ours, pipeline)


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_masked_models_of_half_precision(tmp_path, stored):
    check_logits(*filler(tmp_path, stored=getattr(torch, stored)))


def test_the_large_epsilon_of_a_head_is_read(tmp_path):
    check_logits(*filler(tmp_path, layer_norm_eps=0.5))


def test_a_model_of_pre_training_fills_in_too(tmp_path):
    save(tmp_path, transformers.BertForPreTraining, seed=SEED)
    ours, pipeline = opened(tmp_path)
    assert len(ours.left_aside) == 4
    check_logits(ours, pipeline)
    check_answers(ours, pipeline)


# --- answers -------------------------------------------------------------------------------------


def bound_of_scores(pipeline):
    """The share of a probability by which errors of its logit, and of their sum, move it."""
    with torch.no_grad():
        given = [pipeline.tokenizer(text, return_tensors="pt") for text in MASKED]
        return 2 * ENCODER * max(largest(pipeline.model(**one).logits.numpy()) for one in given)


def by_mask(answers):
    """A list of candidates for each mask, also where there is one mask alone."""
    return answers if isinstance(answers[0], list) else [answers]


def check_answers(ours, pipeline, top_k=5):
    """The same candidates in the same order, whose scores no rounding can swap."""
    bound = bound_of_scores(pipeline)
    found, expected = ours.fill(MASKED, top_k=top_k), pipeline(MASKED, top_k=top_k + 1)
    for text, own, other in zip(MASKED, found, expected, strict=True):
        assert isinstance(own[0], list) == isinstance(other[0], list) == (text.count("[M") > 1)
        for candidates, theirs in zip(by_mask(own), by_mask(other), strict=True):
            scores = np.array([candidate["score"] for candidate in theirs])
            assert (scores[1:] < scores[:-1] * (1 - 2 * bound)).all(), "a tie; take another seed"
            assert [{**c, "score": 0} for c in candidates] == [
                {**c, "score": 0} for c in theirs[:top_k]
            ]
            close([c["score"] for c in candidates], scores[:top_k], bound, scores[:top_k])


@pytest.mark.parametrize("top_k", [1, 5, 9])
def test_answers(fillers, top_k):
    check_answers(*fillers, top_k)


def test_every_token_as_an_answer(fillers):
    ours, pipeline = fillers
    bound = bound_of_scores(pipeline)
    for text in MASKED:
        found, expected = (by_mask(fill(text, top_k=WORDS)) for fill in (ours.fill, pipeline))
        for candidates, theirs in zip(found, expected, strict=True):
            scores = [c["score"] for c in candidates]
            assert scores == sorted(scores, reverse=True)
            own, other = ({c["token"]: c for c in row} for row in (candidates, theirs))
            assert set(own) == set(other) == set(range(WORDS))
            for token, candidate in other.items():
                assert {**own[token], "score": 0} == {**candidate, "score": 0}
                close(own[token]["score"], candidate["score"], bound)


def test_one_text_and_a_list_of_one(fillers):
    ours, pipeline = fillers
    bound = bound_of_scores(pipeline)
    for text in (MASKED[0], MASKED[3]):
        found, expected = ours.fill(text), pipeline(text)
        for candidates, theirs in zip(by_mask(found), by_mask(expected), strict=True):
            assert [{**c, "score": 0} for c in candidates] == [{**c, "score": 0} for c in theirs]
            close([c["score"] for c in candidates], [c["score"] for c in theirs], bound)
        # The pipeline takes a list of one for its text; ours gives a list for a list.
        assert pipeline([text]) == expected
        assert ours.fill([text]) == [found]


def test_ids_of_masked_texts(fillers):
    ours, pipeline = fillers
    for i, text in enumerate(MASKED):
        np.testing.assert_array_equal(ours.ids_of(i, text), pipeline.tokenizer(text)["input_ids"])


def test_a_text_that_is_cut(fillers):
    ours, pipeline = fillers
    text = "the [MASK] of " + LONG
    assert len(pipeline.tokenizer(text)["input_ids"]) > POSITIONS == ours.max_length
    cut = {"truncation": True, "max_length": POSITIONS}
    expected = pipeline(text, tokenizer_kwargs=cut)
    found = ours.fill(text)
    assert [c["token"] for c in found] == [c["token"] for c in expected]
    assert [c["sequence"] for c in found] == [c["sequence"] for c in expected]
    bound = bound_of_scores(pipeline)
    for own, other in zip(found, expected, strict=True):
        close(own["score"], other["score"], bound)
