"""Small encoders of families beside BERT and JinaBERT, each with a tokenizer of its kind."""

from collections.abc import Callable
from typing import NamedTuple

from tokenizers import Tokenizer

from jaxbert.model.config import EncoderConfig
from jaxbert.model.families.distilbert import DistilBertConfig
from jaxbert.model.families.modernbert import ModernBertConfig
from jaxbert.model.families.mpnet import MpnetConfig
from jaxbert.model.families.nomic import NomicConfig
from jaxbert.model.families.roberta import RobertaConfig
from jaxbert.model.families.t5 import T5Config
from tests.attack.vocabularies import BERT, ROBERTA, SIZE, byte_bpe, unigram, wordpiece

SIZES = {
    "vocab_size": SIZE,
    "hidden_size": 18,
    "num_layers": 2,
    "num_heads": 3,
    "intermediate_size": 13,
}
ROOM = SIZES | {"max_positions": 37}


class Own(NamedTuple):
    """A config, and the tokenizer of its folder: how it is made, its class, its special tokens."""

    config: EncoderConfig
    tokenizer: Callable[[], Tokenizer]
    kind: str
    names: tuple[str, ...]


FAMILIES = {
    "t5": Own(T5Config(**SIZES, head_width=5), unigram, "T5Tokenizer", ROBERTA),
    "t5-gated": Own(
        T5Config(**SIZES, head_width=5, feed_forward="glu", activation="gelu_tanh"),
        unigram,
        "PreTrainedTokenizerFast",
        ROBERTA,
    ),
    "xlm-roberta": Own(RobertaConfig(**ROOM), unigram, "XLMRobertaTokenizer", ROBERTA),
    "mpnet": Own(MpnetConfig(**ROOM), byte_bpe, "PreTrainedTokenizerFast", ROBERTA),
    "distilbert": Own(DistilBertConfig(**ROOM), wordpiece, "DistilBertTokenizer", BERT),
    "nomic": Own(
        NomicConfig(**ROOM, type_vocab_size=2, rope_base=1e3), wordpiece, "BertTokenizer", BERT
    ),
    "modernbert": Own(
        ModernBertConfig(**SIZES, local_distance=5), byte_bpe, "PreTrainedTokenizerFast", ROBERTA
    ),
}
