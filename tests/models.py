"""Small models of every kind, their weights in published form, and folders on disk."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from jaxbert.checkpoint.tensor_names.families import rules
from jaxbert.encoder import Encoder
from jaxbert.model.config import EncoderConfig

GOLDEN = Path(__file__).parent / "golden"
T5_FOLDERS = ("t5-gated-gelu", "t5-relu-3heads")
# Families beside BERT and JinaBERT.
FAMILY_FOLDERS = [
    GOLDEN / name
    for name in ("distilbert", "modernbert", "mpnet", "nomic", *T5_FOLDERS, "xlmr-reranker")
]
FOLDERS = sorted(
    folder
    for folder in GOLDEN.iterdir()
    if (folder / "config.json").is_file() and folder not in FAMILY_FOLDERS
)
ALL_FOLDERS = [*FOLDERS, *FAMILY_FOLDERS]

# Sizes are pairwise different, so that no two axes can be swapped unnoticed.
SIZES = {
    "vocab_size": 31,
    "hidden_size": 15,
    "num_layers": 2,
    "num_heads": 3,
    "intermediate_size": 13,
    "max_positions": 19,
}
SIX_HEADS = SIZES | {"hidden_size": 24, "num_heads": 6}
NORMS = {"query_key_norm": True}
POST_NORM = NORMS | {"second_residual": True, "feed_forward_bias": False}

CONFIGS = {
    "bert-gelu": EncoderConfig.bert(**SIZES),
    "bert-gelu-tanh": EncoderConfig.bert(**SIZES | {"activation": "gelu_tanh"}),
    "bert-relu": EncoderConfig.bert(**SIZES | {"activation": "relu", "type_vocab_size": 5}),
    "bert-silu": EncoderConfig.bert(**SIZES | {"activation": "silu"}),
    "no-position": EncoderConfig.bert(**SIZES | {"position": "none"}),
    "jinabert-geglu": EncoderConfig.jinabert(**SIZES),
    "jinabert-reglu": EncoderConfig.jinabert(**SIX_HEADS | {"activation": "relu"}),
    "jinabert-original": EncoderConfig.jinabert(**SIZES | {"feed_forward": "mlp"}),
    "qk-norm": EncoderConfig.jinabert(**SIX_HEADS | NORMS),
    "qk-post-norm": EncoderConfig.jinabert(**SIZES | POST_NORM),
    "qk-post-norm-original": EncoderConfig.jinabert(**SIZES | POST_NORM | {"feed_forward": "mlp"}),
}


def family(config):
    """The family whose published names a config's weights would have."""
    if config.second_residual:
        return "jinabert-qk-post-norm"
    if config.query_key_norm:
        return "jinabert-qk-norm"
    return "jinabert" if config.position == "alibi" else "bert"


def randomised(module, seed=0):
    """The module with every weight drawn anew, so that no norm or bias is trivial."""
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        centre = 1.0 if jax.tree_util.keystr(path).find("scale") >= 0 else 0.0
        noise = random.normal(centre, 0.4, leaf.shape)
        return jax.numpy.asarray(noise.astype(np.float32))

    return jax.tree.map_with_path(draw, module)


def make(config, seed=0, **parts):
    """An encoder with random weights; its own draw, which compiles per shape, is left out."""
    return randomised(jax.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(0), **parts)), seed)


@functools.cache
def encoder(name):
    """A small encoder of CONFIGS with random weights."""
    return make(CONFIGS[name])


def published(encoder):
    """The weights under their published names."""
    config, weights = encoder.config, encoder.weights()
    tensors = {}
    for rule in rules(family(config), config.feed_forward, config.position):
        weight = np.asarray(weights[rule.path])
        layers = range(config.num_layers) if "{l}" in rule.name else [None]
        for i in layers:
            own = weight if i is None else weight[i]
            tensors[rule.name.format(l=i)] = np.ascontiguousarray(rule.pack(own))
    return tensors


def masked(name="bert-gelu", seed=0):
    """The published tensors of a masked language model: an encoder of CONFIGS and a random head."""
    random, config = np.random.default_rng(seed), CONFIGS[name]
    d, v = config.hidden_size, config.vocab_size
    shapes = {
        "transform.dense.weight": (d, d),
        "transform.dense.bias": (d,),
        "transform.LayerNorm.weight": (d,),
        "transform.LayerNorm.bias": (d,),
        "bias": (v,),
    }
    head = {
        f"cls.predictions.{key}": random.normal(size=shape).astype(np.float32)
        for key, shape in shapes.items()
    }
    return {f"bert.{key}": value for key, value in published(encoder(name)).items()} | head


def scored(name="bert-gelu", labels=1, seed=0):
    """The published tensors of a cross-encoder: an encoder of CONFIGS and a random classifier."""
    random, d = np.random.default_rng(seed), CONFIGS[name].hidden_size
    shapes = {
        "bert.pooler.dense.weight": (d, d),
        "bert.pooler.dense.bias": (d,),
        "classifier.weight": (labels, d),
        "classifier.bias": (labels,),
    }
    head = {key: random.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    return {f"bert.{key}": value for key, value in published(encoder(name)).items()} | head


def late(name="bert-gelu", width=7, seed=0):
    """The published tensors of a ColBERT: an encoder of CONFIGS and a random projection."""
    random, d = np.random.default_rng(seed), CONFIGS[name].hidden_size
    head = {"linear.weight": random.normal(size=(width, d)).astype(np.float32)}
    return {f"bert.{key}": value for key, value in published(encoder(name)).items()} | head


def raw_config(config):
    """The config.json that describes a config."""
    gate = "reglu" if config.activation == "relu" else "geglu"
    return {
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "type_vocab_size": config.type_vocab_size,
        "max_position_embeddings": config.max_positions,
        "layer_norm_eps": config.layer_norm_eps,
        "hidden_act": {"gelu_tanh": "gelu_new"}.get(config.activation, config.activation),
        "position_embedding_type": {"learned": "absolute"}.get(config.position, config.position),
        "feed_forward_type": gate if config.feed_forward == "glu" else "original",
    }


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]


def word_tokenizer():
    """One token per known word or letter; [CLS] text [SEP]."""
    backend = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return backend


def write_folder(folder, name="bert-gelu", *, dtype=np.float32, tensors=None, config=None, **files):
    """A model folder: config.json, model.safetensors, tokenizer.json and further JSON files.

    files: path with / written as __ and .json left out -> contents.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    own = published(encoder(name)) if tensors is None else tensors
    cast = {key: value.astype(dtype) for key, value in own.items()}
    save_file(cast, folder / "model.safetensors")
    raw = raw_config(CONFIGS[name]) if config is None else config
    (folder / "config.json").write_text(json.dumps(raw))
    word_tokenizer().save(str(folder / "tokenizer.json"))
    for key, contents in files.items():
        file = folder / (key.replace("__", "/") + ".json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(contents))
    return folder


def write_late(folder, name="bert-gelu", *, metadata=None, **changes):
    """A ColBERT's folder, whose markers are x and y, with lengths of 11 and 13 tokens."""
    raw = raw_config(CONFIGS[name]) | {"architectures": ["HF_ColBERT"]}
    given = {"query_token_id": "x", "doc_token_id": "y", "query_maxlen": 11, "doc_maxlen": 13}
    write_folder(folder, name, tensors=late(name), config=raw | changes)
    (Path(folder) / "artifact.metadata").write_text(json.dumps(given | (metadata or {})))
    return Path(folder)


def sharded(folder):
    """The folder's weights in two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, where = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        where |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return tensors


def arrays(seed, rows=4, length=11, vocabulary=31, types=2):
    """Ids, a ragged right-padded mask with at least one token a row, and token types."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, vocabulary, (rows, length))
    lengths = random.integers(1, length + 1, rows)
    mask = (np.arange(length)[None, :] < lengths[:, None]).astype(np.int64)
    return ids, mask, random.integers(0, types, (rows, length))
