"""What is computed from the last states: a classifier's or reranker's logits, a masked model's.

Names of tensors are without the prefix of the encoder. Dropout, which is between the steps in
training, is left out.
"""

from collections.abc import Callable

import numpy as np

from jaxbert.model.reference.basics import (
    ACTIVATIONS,
    Config,
    Tensor,
    Tensors,
    in_float64,
    linear,
    mean_pool,
    norm,
    relu,
)
from jaxbert.model.reference.encoder import family


def pooled(tensors: Tensors, x: Tensor) -> Tensor:
    """tanh(W x[0] + b): the state of the first token [b, d] behind BERT's or MPNet's pooler."""
    return np.tanh(linear(x[:, 0], in_float64(tensors), "pooler.dense"))


def bert_classifier(tensors: Tensors, config: Config, x: Tensor, mask: Tensor) -> Tensor:
    """BERT and JinaBERT: the pooler, then one projection to the labels."""
    return linear(pooled(tensors, x), tensors, "classifier")


def roberta_classifier(tensors: Tensors, config: Config, x: Tensor, mask: Tensor) -> Tensor:
    """RoBERTa, XLM-R and MPNet: out_proj tanh(dense x[0]); the pooler has no part in it."""
    return linear(
        np.tanh(linear(x[:, 0], tensors, "classifier.dense")), tensors, "classifier.out_proj"
    )


def distilbert_classifier(tensors: Tensors, config: Config, x: Tensor, mask: Tensor) -> Tensor:
    """DistilBERT: classifier relu(pre_classifier x[0]), with two biases."""
    return linear(relu(linear(x[:, 0], tensors, "pre_classifier")), tensors, "classifier")


def modernbert_classifier(tensors: Tensors, config: Config, x: Tensor, mask: Tensor) -> Tensor:
    """ModernBERT: the first state or the mean, then classifier norm(act(dense))."""
    y = {"cls": x[:, 0], "mean": mean_pool(x, mask)}[config["classifier_pooling"]]
    y = ACTIVATIONS[config["classifier_activation"]](linear(y, tensors, "head.dense"))
    return linear(norm(y, tensors, "head.norm", config["norm_eps"]), tensors, "classifier")


CLASSIFIERS: dict[str, Callable[[Tensors, Config, Tensor, Tensor], Tensor]] = {
    "bert": bert_classifier,
    "roberta": roberta_classifier,
    "xlm-roberta": roberta_classifier,
    "camembert": roberta_classifier,
    "mpnet": roberta_classifier,
    "distilbert": distilbert_classifier,
    "modernbert": modernbert_classifier,
}


def classification_logits(tensors: Tensors, config: Config, x: Tensor, mask: Tensor) -> Tensor:
    """The logits [b, c] of a sequence classifier from the last states x [b, t, d] and the mask.

    Raises KeyError for a family whose head is not written down.
    """
    return CLASSIFIERS[family(config)](in_float64(tensors), config, x, mask)


def masked_language_logits(tensors: Tensors, config: Config, x: Tensor) -> Tensor:
    """The logits [b, t, v] of a masked language model from the last states x [b, t, d].

    BERT and JinaBERT. The activation is hidden_act, also where layers are gated. Every row of the
    word embeddings is a token, unless the file has a decoder of its own.
    Source: transformers' BertLMPredictionHead.
    """
    tensors = in_float64(tensors)
    head = "cls.predictions"
    y = ACTIVATIONS[config.get("hidden_act", "gelu")](linear(x, tensors, f"{head}.transform.dense"))
    y = norm(y, tensors, f"{head}.transform.LayerNorm", config.get("layer_norm_eps", 1e-12))
    table = tensors["embeddings.word_embeddings.weight"]
    return y @ tensors.get(f"{head}.decoder.weight", table).T + tensors[f"{head}.bias"]
