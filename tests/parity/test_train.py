"""Losses beside torch's functions and sentence-transformers' classes: values and gradients."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

import transformers
from sentence_transformers.sentence_transformer import losses as theirs
from torch.nn import functional

from jaxbert import MaskedLM
from jaxbert.train import losses
from jaxbert.train.masking import WholeWords
from jaxbert.train.models import MaskedModel
from jaxbert.train.objectives import masked_lm
from jaxbert.train.trainable import value_and_grad
from tests.models import GOLDEN
from tests.tolerances import FUNCTION, GOLDEN_ENCODER, GRADIENT, VISIBLE, close
from tests.train.models import norm

pytestmark = pytest.mark.torch

# 5 rows, 7 features, 3 negatives of each row, 2 places, a vocabulary of 11.
RANDOM = np.random.default_rng(0)
A, B = (RANDOM.normal(size=(5, 7)).astype(np.float32) for _ in range(2))
NEGATIVES = RANDOM.normal(size=(5, 3, 7)).astype(np.float32)
SCORES = np.array([3, 1, 4, 1, 5], np.float32)
LOGITS = RANDOM.normal(scale=3, size=(5, 2, 11)).astype(np.float32)
IDS = RANDOM.integers(0, 11, (5, 2))


class Given(torch.nn.Module):
    """A model whose vectors are given: what the classes of sentence-transformers call."""

    def get_embedding_dimension(self):
        return A.shape[1]

    def forward(self, features):
        return {"sentence_embedding": features["vectors"]}


def value_and_gradients(loss, *arrays):
    """A torch loss of arrays in float64, and its gradient in each."""
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arrays]
    value = loss(*tensors)
    value.backward()
    return value.item(), [x.grad.numpy() for x in tensors]


def check(ours, torch_loss, *arrays):
    """Both losses have one value and, in each array, one gradient."""
    numbers = tuple(range(len(arrays)))
    value, gradients = jax.jit(jax.value_and_grad(ours, argnums=numbers))(*arrays)
    expected, expected_gradients = value_and_gradients(torch_loss, *arrays)
    close(value, expected, FUNCTION)
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        close(found, wanted, FUNCTION)


def of_vectors(loss, *vectors, labels=None):
    """The value of a class of sentence-transformers for vectors, one argument for each column."""
    return loss([{"vectors": x} for x in vectors], labels)


@pytest.mark.parametrize("temperature", [0.05, 0.3])
def test_info_nce(temperature):
    loss = theirs.MultipleNegativesRankingLoss(Given(), scale=1 / temperature)
    check(
        lambda a, b: losses.info_nce(a, b, temperature=temperature),
        lambda a, b: of_vectors(loss, a, b),
        *(A, B),
    )
    check(
        lambda a, b, negatives: losses.info_nce(a, b, negatives, temperature),
        lambda a, b, negatives: of_vectors(loss, a, b, *negatives.unbind(1)),
        *(A, B, NEGATIVES),
    )


def test_info_nce_has_its_defaults():
    expected = of_vectors(
        theirs.MultipleNegativesRankingLoss(Given()), torch.tensor(A), torch.tensor(B)
    )
    close(losses.info_nce(A, B), expected.item(), FUNCTION)


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 0.25]])
def test_matryoshka(weights):
    """The class replaces the forward pass of its model, whose vectors it cuts and normalises."""
    model, dims = Given(), [7, 4, 2]
    inner = theirs.MultipleNegativesRankingLoss(model)
    loss = theirs.MatryoshkaLoss(model, inner, dims, matryoshka_weights=weights)
    check(
        losses.matryoshka(losses.info_nce, dims, weights),
        lambda a, b, negatives: of_vectors(loss, a, b, *negatives.unbind(1)),
        *(A, B, NEGATIVES),
    )


def test_cosent():
    loss = theirs.CoSENTLoss(Given())
    check(
        lambda a, b: losses.cosent(losses.row_similarity(a, b), SCORES),
        lambda a, b: of_vectors(loss, a, b, labels=torch.tensor(SCORES)),
        *(A, B),
    )


def test_cosine():
    check(
        losses.cosine,
        lambda a, b: (1 - functional.cosine_similarity(a, b)).mean(),
        *(A, B),
    )


def test_mse():
    check(losses.mse, functional.mse_loss, A, B)


def test_kl():
    """Similarities are rows of A: the class takes those of a query and its candidates."""
    candidates = torch.tensor(NEGATIVES, dtype=torch.float64).unbind(1)
    loss = theirs.DistillKLDivLoss(Given(), temperature=2.0)
    teacher = SCORES[:, None] * NEGATIVES[..., 0]

    def ours(a):
        similarity = (a[:, None] * NEGATIVES).sum(-1)
        return losses.kl(similarity, teacher, temperature=2.0)

    check(ours, lambda a: of_vectors(loss, a, *candidates, labels=torch.tensor(teacher)), A)


def test_masked_lm_and_accuracy():
    weights = np.array([[1, 0], [1, 1], [0, 0], [1, 1], [1, 0]], np.float32)
    labels = torch.tensor(np.where(weights == 1, IDS, -100).reshape(-1))
    check(
        lambda logits: losses.masked_lm(logits, IDS, weights),
        lambda logits: functional.cross_entropy(logits.reshape(10, 11), labels),
        LOGITS,
    )
    right = (LOGITS.argmax(-1) == IDS)[weights == 1].mean()
    assert losses.accuracy(LOGITS, IDS, weights) == np.float32(right)


def test_the_gradients_of_a_masked_language_model():
    """The golden BERT in transformers and here: one loss, and one gradient in every weight."""
    folder = GOLDEN / "bert-mlm"
    filler = MaskedLM.from_pretrained(folder)
    ids = np.random.default_rng(3).integers(5, filler.encoder.config.vocab_size, (6, 13))
    segments = (np.arange(13) < np.array([13, 4, 9, 13, 7, 5])[:, None]).astype(np.int32)
    words = np.where(segments == 1, np.arange(13), -1)
    batch = {
        name: x.astype(np.int32)
        for name, x in {"ids": ids, "segments": segments, "words": words}.items()
    }
    # All tokens stay, so that both models read the same.
    masking = WholeWords(0.4, 4, filler.encoder.config.vocab_size, (0,), 0.0, 0.0, 1.0)
    key = jax.random.key(0)
    gradient = jax.jit(value_and_grad(masked_lm(masking)))
    (loss, _), found = gradient(MaskedModel(filler.encoder, filler.head), batch, key)

    _, places, weights = masking(batch["ids"], batch["words"], jax.random.split(key)[0])
    labels = np.full(ids.shape, -100)
    row = np.arange(6)[:, None]
    labels[row, places] = np.where(np.asarray(weights) == 1, ids[row, places], -100)
    model = transformers.BertForMaskedLM.from_pretrained(folder).double().eval()
    expected = model(torch.tensor(ids), torch.tensor(segments), labels=torch.tensor(labels)).loss
    expected.backward()
    close(loss, expected.item(), GOLDEN_ENCODER)

    theirs_by_name = {
        name: x.grad.numpy() for name, x in model.named_parameters() if x.grad is not None
    }
    layer = "bert.encoder.layer.1"
    n, d, h = 3, filler.encoder.config.hidden_size, filler.encoder.config.hidden_size // 3
    wanted = {
        "encoder.embeddings.word": theirs_by_name["bert.embeddings.word_embeddings.weight"],
        "encoder.layers.attention.query.weight": theirs_by_name[
            f"{layer}.attention.self.query.weight"
        ].T.reshape(d, n, h),
        "encoder.layers.feed_forward.down.weight": theirs_by_name[f"{layer}.output.dense.weight"].T,
        "head.transform.weight": theirs_by_name["cls.predictions.transform.dense.weight"].T,
        "head.bias": theirs_by_name["cls.predictions.bias"],
    }
    for name, value in wanted.items():
        own = found[name][1] if name.startswith("encoder.layers") else found[name]
        close(own, value, GRADIENT, scale=np.full(value.shape, norm(found)))
        close(own, value, VISIBLE)  # of the gradient itself, which is no rounding
