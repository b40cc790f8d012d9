"""MultiVectorEncoder beside that of sentence-transformers, live."""

import inspect
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")

from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder as TheirMultiVectorEncoder
from sentence_transformers.util import maxsim as their_maxsim

from jaxbert import MultiVectorEncoder
from jaxbert.inference.late_interaction import maxsim
from tests.parity.torch_models import VOCABULARY, bert, save_tokenizer
from tests.tolerances import FUNCTION, GOLDEN_ENCODER, VISIBLE, close, norms, off

pytestmark = pytest.mark.torch

# Words that the tokenizer has and no text, for it is lower-cased: as BERT's [unused0].
MARKERS = {"query_token_id": "Q", "doc_token_id": "Z"}
LENGTHS = {"query_maxlen": 13, "doc_maxlen": 17}
LONG = "a text of many words, and of many pieces: "
QUERIES = [
    "the cat",
    "",
    "The CAT's TEXT?",
    LONG * 2,
    "a b c d e f g h i j k l",
    "Éclat 語 é",
    "q!",
]
DOCUMENTS = ["the cat, the text.", "", "?!.,-", LONG * 3, "  ab\tc\nD  ", "語 - é", "0:1", "a" * 30]


def colbert(folder, **metadata):
    """A ColBERT's folder: a small BERT and linear.weight, with its settings."""
    base = folder / "base"
    bert(vocab_size=len(VOCABULARY) + 3, max_position_embeddings=24).save_pretrained(base)
    save_tokenizer(base, lowercase=True)
    folder = shutil.copytree(base, folder / "colbert")
    tensors = {
        f"bert.{name}": value for name, value in load_file(base / "model.safetensors").items()
    }
    generator = torch.Generator().manual_seed(3)
    tensors["linear.weight"] = torch.randn((11, 28), generator=generator)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    raw = json.loads((folder / "config.json").read_text()) | {"architectures": ["HF_ColBERT"]}
    (folder / "config.json").write_text(json.dumps(raw))
    given = MARKERS | LENGTHS | metadata
    (folder / "artifact.metadata").write_text(json.dumps(given))
    return folder


def reload(folder):
    """What sentence-transformers reads from a folder."""
    return TheirMultiVectorEncoder(str(folder), device="cpu", local_files_only=True)


def agree(ours, theirs):
    """Both have the same vectors of all texts, and the same scores."""
    sides = []
    for task, texts in (("query", QUERIES), ("document", DOCUMENTS)):
        expected = theirs.encode(texts, task=task, prompt_name=task, convert_to_numpy=True)
        found = ours.encode(texts, task=task)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            close(a, b, GOLDEN_ENCODER, norms)
        sides.append((found, [torch.from_numpy(x) for x in expected]))
    (asked, their_asked), (read, their_read) = sides
    scores = theirs.similarity(their_asked, their_read).numpy()
    close(ours.similarity(asked, read), scores, GOLDEN_ENCODER)
    assert scores.std() > VISIBLE
    return asked, read


CHANGES = {
    "as published": {},
    "attended": {"attend_to_mask_tokens": True},
    "punctuation counts": {"mask_punctuation": False},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_colbert_and_what_sentence_transformers_makes_of_it(tmp_path, changes):
    folder = colbert(tmp_path, **changes)
    theirs = reload(folder)
    asked, read = agree(MultiVectorEncoder.from_pretrained(folder), theirs)
    theirs.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    native = MultiVectorEncoder.from_pretrained(tmp_path / "saved")
    assert native.get_embedding_dimension() == theirs.get_embedding_dimension() == 11
    again = agree(native, reload(tmp_path / "saved"))
    for a, b in zip([*asked, *read], [*again[0], *again[1]], strict=True):
        close(a, b, GOLDEN_ENCODER, norms)


@pytest.mark.parametrize("strategy", ["fixed", "min", None])
def test_ways_to_fill_queries_up(tmp_path, strategy):
    theirs = reload(colbert(tmp_path))
    expansion = None if strategy is None else {"strategy": strategy, "length": 9, "token": "[SEP]"}
    theirs[0].query_length = None if strategy == "fixed" else 15
    theirs[0].query_expansion = expansion
    theirs[2].skiplist_tasks = ["query", "document"]
    theirs.similarity_fn_name = "meanmaxsim"
    theirs.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    agree(MultiVectorEncoder.from_pretrained(tmp_path / "saved"), reload(tmp_path / "saved"))


@pytest.mark.parametrize(
    "settings", [{}, {"skiplist_words": ["the"]}, {"do_query_expansion": False}]
)
def test_a_folder_of_pylate(tmp_path, settings):
    theirs = reload(colbert(tmp_path))
    saved = tmp_path / "saved"
    theirs.save_pretrained(str(saved), create_model_card=False)
    listed = json.loads((saved / "modules.json").read_text())[:2]
    listed[1]["type"] = "pylate.models.Dense.Dense"
    (saved / "modules.json").write_text(json.dumps(listed))
    dense = json.loads((saved / "1_Dense" / "config.json").read_text())
    plain = {key: value for key, value in dense.items() if not key.startswith("module_")}
    (saved / "1_Dense" / "config.json").write_text(json.dumps(plain))
    (saved / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    given = {
        "model_type": "ColBERT",
        "query_prefix": "Q",
        "document_prefix": "Z",
        "query_length": 13,
        "document_length": 17,
        "attend_to_expansion_tokens": False,
        "similarity_fn_name": "cosine",
    }
    (saved / "config_sentence_transformers.json").write_text(json.dumps(given | settings))
    agree(MultiVectorEncoder.from_pretrained(saved), reload(saved))


def test_maxsim():
    random = np.random.default_rng(0)
    queries = [random.normal(size=(n, 7)).astype(np.float32) for n in (5, 1, 32)]
    documents = [random.normal(size=(n, 7)).astype(np.float32) for n in (3, 90, 1, 17)]
    expected = their_maxsim(queries, documents).numpy()
    close(maxsim(queries, documents), expected, FUNCTION)
    assert off(maxsim(queries, [-x for x in documents]), expected) > VISIBLE


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_the_arguments_are_theirs(method):
    def names(kind):
        given = inspect.signature(getattr(kind, method)).parameters.values()
        return [one.name for one in given if one.kind == one.POSITIONAL_OR_KEYWORD]

    ours, theirs = names(MultiVectorEncoder), names(TheirMultiVectorEncoder)
    assert ours == theirs[: len(ours)]
    assert method != "encode" or len(ours) == len(theirs)
