"""The tensors of heads: what stands beside an encoder and gives a score or a word.

Source: the state dicts of transformers' BertForSequenceClassification and BertForMaskedLM, of
JinaBERT's classes of the same names, and of ColBERT's HF_ColBERT.
"""

from jaxbert.checkpoint.tensor_names.rule import Rule, linear, norm, scale

CLASSIFIER = [
    *linear("pooler.dense", "pooler", "e d -> d e", "e -> e"),
    Rule("classifier.weight", "weight", "c d -> d c"),
    Rule("classifier.bias", "bias", "c -> c"),
]
# RoBERTa, XLM-R and MPNet.
ROBERTA_CLASSIFIER = [
    *linear("classifier.dense", "pooler", "e d -> d e", "e -> e"),
    Rule("classifier.out_proj.weight", "weight", "c d -> d c"),
    Rule("classifier.out_proj.bias", "bias", "c -> c"),
]
DISTILBERT_CLASSIFIER = [
    *linear("pre_classifier", "pooler", "e d -> d e", "e -> e"),
    *CLASSIFIER[2:],
]
MODERNBERT_CLASSIFIER = [
    *linear("head.dense", "dense", "e d -> d e"),
    *scale("head.norm", "norm"),
    *CLASSIFIER[2:],
]
MASKED_LANGUAGE = [
    *linear("cls.predictions.transform.dense", "transform", "e d -> d e", "e -> e"),
    *norm("cls.predictions.transform.LayerNorm", "norm"),
    Rule("cls.predictions.bias", "bias", "v -> v"),
]
TOKEN_PROJECTION = [Rule("linear.weight", "linear.weight", "w d -> d w")]
DECODER = [Rule("cls.predictions.decoder.weight", "decoder", "v d -> v d")]
