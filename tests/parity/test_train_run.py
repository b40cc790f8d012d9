"""Trained models in the libraries that others load them with."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
sentence_transformers = pytest.importorskip("sentence_transformers")

from jaxbert import Embedder, MaskedLM, cli
from tests.models import write_folder
from tests.tolerances import ENCODER, close, norms
from tests.train.runs import TEXTS

pytestmark = pytest.mark.torch
SMALL = ("--batch", "4", "--length", "9", "--buckets", "1", "--steps", "4", "--quiet")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    write_folder(folder / "model", sentence_bert_config={"max_seq_length": 17})
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    return folder


def trained(given, task, *more):
    """The folder of a model that was trained a little."""
    out = given / "-".join([task, *map(str, more)]).replace("--", "")
    base = ("--base", str(given / "model"), "--texts", str(given / "texts.txt"))
    assert cli.main(["train", task, *base, *more, *SMALL, "--rate", "0.01", "-o", str(out)]) == 0
    return out


def test_a_distilled_bert_in_sentence_transformers_and_transformers(given):
    folder = trained(given, "distil", "--layers", "1")
    own = Embedder.from_pretrained(folder).encode(TEXTS)
    other = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    close(own, other, ENCODER, norms)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        states = model(**tokenizer(TEXTS[:1], return_tensors="pt")).last_hidden_state
    close(own[0], states[0].mean(dim=0).numpy(), ENCODER, norms)


def test_a_masked_model_in_transformers(given):
    folder = trained(given, "mlm")
    ids = np.array([[2, 7, 4, 9, 3]], np.int32)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    with torch.no_grad():
        other = model(torch.tensor(ids, dtype=torch.long)).logits.numpy()
    close(MaskedLM.from_pretrained(folder).logits(ids), other, ENCODER)


def test_a_jinabert_is_never_taken_for_a_bert(given, capsys):
    """transformers has no JinaBERT, and drew what its BERT lacks at random, had it the chance."""
    folder = trained(given, "distil", "--architecture", "jinabert")
    raw = json.loads((folder / "config.json").read_text())
    assert not {"model_type", "attn_implementation"} & set(raw)
    for load in (
        lambda: transformers.AutoModel.from_pretrained(folder, trust_remote_code=False),
        lambda: sentence_transformers.SentenceTransformer(str(folder), device="cpu"),
    ):
        with pytest.raises(ValueError, match="pass the argument `trust_remote_code=True`"):
            load()
    assert np.isfinite(Embedder.from_pretrained(folder).encode(TEXTS)).all()
