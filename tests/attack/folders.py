"""The whole folders that are spoiled: every layout, tokenizer and dtype in which models come."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_dtypes import bfloat16
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from jaxbert.model.config import EncoderConfig
from tests.attack.families import FAMILIES
from tests.attack.vocabularies import BERT, ROBERTA, SIZE, byte_bpe, unigram, word_pieces, wordpiece
from tests.models import POST_NORM, SIZES, make, published, raw_config, sharded, write_folder

ROOM = SIZES | {"vocab_size": SIZE, "max_positions": 37}
LARGE = ROOM | {"hidden_size": 24, "intermediate_size": 29}
CODE = "jinaai/jina-bert-implementation--configuration_bert.JinaBertConfig"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODULES = "sentence_transformers.models."


@dataclass(frozen=True)
class Base:
    """A whole folder: root is what is copied, inside is the model's place in it."""

    name: str
    root: Path
    inside: str = "."
    sums: str = ""  # who knows what the files were: "hub", "source" or nobody

    @property
    def model(self) -> Path:
        """What from_pretrained is given."""
        return self.root / self.inside


def write_json(file: Path, contents: Any) -> None:
    """A JSON file as people's programs write it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")


def listed(*kinds: str, first: str = "") -> list[dict[str, Any]]:
    """A modules.json."""
    paths = [first, *(f"{i}_{kind}" for i, kind in enumerate(kinds[1:], start=1))]
    return [
        {"idx": i, "name": str(i), "path": path, "type": MODULES + kind}
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]


def write_pooling(folder: Path, mode: str, width: int) -> None:
    """1_Pooling with the flags of older versions."""
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    flags = {f"pooling_mode_{own}": own == mode for own in modes}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **flags})


def write_dense(folder: Path, width: int, out: int = 11) -> None:
    """2_Dense with random weights."""
    raw = {"in_features": width, "out_features": out, "bias": True}
    write_json(
        folder / "config.json", raw | {"activation_function": "torch.nn.modules.activation.Tanh"}
    )
    random = np.random.default_rng(7)
    weight = random.normal(0, 0.4, (out, width)).astype(np.float32)
    bias = random.normal(0, 0.4, out).astype(np.float32)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "model.safetensors")


def write_tokenizer(folder: Path, backend: Tokenizer, kind: str, names: tuple[str, ...]) -> None:
    """tokenizer.json and what stands beside it."""
    backend.save(str(folder / "tokenizer.json"))
    keys = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
    order = (2, 3, 0, 1, 4) if names == BERT else (0, 2, 1, 3, 4)
    tokens = {key: names[i] for key, i in zip(keys, order, strict=True)}
    write_json(folder / "special_tokens_map.json", tokens)
    raw: dict[str, Any] = {"tokenizer_class": kind, "model_max_length": 37, **tokens}
    if kind == "BertTokenizer":
        raw |= {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
    write_json(folder / "tokenizer_config.json", raw)


def write_model(folder: Path, config: EncoderConfig, dtype: Any, **more: Any) -> None:
    """config.json and the weights."""
    tensors = published(make(config, seed=5))
    write_folder(folder, tensors=tensors, dtype=dtype, config=raw_config(config) | more)
    write_json(folder / "config.json", raw_config(config) | more)


def word_vocabulary(folder: Path) -> None:
    """vocab.txt of the WordPiece tokenizer."""
    (folder / "vocab.txt").write_text("\n".join(word_pieces()) + "\n", encoding="utf-8")


# --- the folders -------------------------------------------------------------------------------


def plain(folder: Path) -> None:
    """A BERT as sentence-transformers saves it: first token, Dense, unit length."""
    write_model(folder, EncoderConfig.bert(**ROOM), np.float32, architectures=["BertModel"])
    write_tokenizer(folder, wordpiece(), "BertTokenizer", BERT)
    word_vocabulary(folder)
    write_json(folder / "modules.json", listed("Transformer", "Pooling", "Dense", "Normalize"))
    write_pooling(folder, "cls_token", 15)
    write_dense(folder / "2_Dense", 15)
    write_json(folder / "3_Normalize" / "config.json", {})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 17, "do_lower_case": False})
    settings = {"prompts": {"query": "the ", "document": ""}, "default_prompt_name": None}
    write_json(folder / "config_sentence_transformers.json", settings | {"truncate_dim": 7})


def first_release(folder: Path) -> None:
    """A BERT with vocab.txt alone, in half precision, with maxima."""
    write_model(folder, EncoderConfig.bert(**ROOM | {"activation": "relu"}), np.float16)
    (folder / "tokenizer.json").unlink()
    word_vocabulary(folder)
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True, "model_max_length": 31})
    write_json(folder / "modules.json", listed("Transformer", "Pooling"))
    write_pooling(folder, "max_tokens", 15)


def byte_level(folder: Path) -> None:
    """A JinaBERT with byte pairs, in bfloat16, with prompts."""
    named = {"auto_map": {"AutoConfig": CODE}}
    write_model(folder, EncoderConfig.jinabert(**ROOM), bfloat16, **named)
    write_tokenizer(folder, byte_bpe(), "PreTrainedTokenizerFast", ROBERTA)
    write_json(folder / "modules.json", listed("Transformer", "Pooling", "Normalize"))
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": ["mean", "max"]})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 23, "do_lower_case": False})
    prompts = {"query": "cat: ", "passage": "mat: "}
    settings = {"prompts": prompts, "default_prompt_name": "query", "similarity_fn_name": "dot"}
    write_json(folder / "config_sentence_transformers.json", settings)


def pieces(folder: Path) -> None:
    """A model with query and key norms, a unigram tokenizer, and weights in two files."""
    write_model(folder, EncoderConfig.jinabert(**LARGE | POST_NORM), np.float32)
    write_tokenizer(folder, unigram(), "PreTrainedTokenizerFast", ROBERTA)
    sharded(folder)
    write_json(folder / "modules.json", listed("Transformer", "Pooling"))
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "lasttoken"})


def inner(folder: Path) -> None:
    """The old layout: the encoder in 0_Transformer, in two files."""
    own = folder / "0_Transformer"
    write_model(own, EncoderConfig.bert(**ROOM), np.float32)
    write_tokenizer(own, wordpiece(), "BertTokenizer", BERT)
    sharded(own)
    write_json(own / "sentence_bert_config.json", {"max_seq_length": 19, "do_lower_case": False})
    modules = listed("Transformer", "Pooling", "Dense", first="0_Transformer")
    write_json(folder / "modules.json", modules)
    write_pooling(folder, "mean_sqrt_len_tokens", 15)
    write_dense(folder / "2_Dense", 15, out=13)


def bare(folder: Path) -> None:
    """What transformers saves: no modules at all."""
    write_model(folder, EncoderConfig.bert(**ROOM), np.float32)
    write_tokenizer(folder, wordpiece(), "BertTokenizer", BERT)


def of_family(folder: Path, name: str) -> None:
    """An encoder of FAMILIES as sentence-transformers saves it: means, unit length."""
    own = FAMILIES[name]
    folder.mkdir(parents=True)
    make(own.config, seed=5).save_pretrained(folder)
    write_tokenizer(folder, own.tokenizer(), own.kind, own.names)
    write_json(folder / "modules.json", listed("Transformer", "Pooling", "Normalize"))
    write_pooling(folder, "mean_tokens", own.config.hidden_size)
    write_json(folder / "2_Normalize" / "config.json", {})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 29, "do_lower_case": False})


KINDS: dict[str, Callable[[Path], None]] = {
    "plain": plain,
    "first-release": first_release,
    "byte-level": byte_level,
    "pieces": pieces,
    "inner": inner,
    "bare": bare,
    **{name: partial(of_family, name=name) for name in FAMILIES},
}


# --- folders whose sums are known --------------------------------------------------------------


def files_of(folder: Path) -> list[str]:
    """The paths of all files in a folder, in order, links to files among them."""
    found = (file for file in folder.rglob("*") if file.is_file() or file.is_symlink())
    return sorted(str(file.relative_to(folder)) for file in found)


def as_snapshot(folder: Path, root: Path) -> str:
    """Lay a folder out as the hub's cache does; the place of the snapshot in root.

    Blobs are named by their SHA-256 where they are large files, else as git names them.
    """
    (root / "blobs").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    snapshot = root / "snapshots" / COMMIT
    for name in files_of(folder):
        contents = (folder / name).read_bytes()
        header = f"blob {len(contents)}\0".encode()
        blob = hashlib.sha1(header + contents).hexdigest()
        if name.endswith(".safetensors"):
            blob = hashlib.sha256(contents).hexdigest()
        (root / "blobs" / blob).write_bytes(contents)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * len(link.relative_to(root).parts[:-1])
        link.symlink_to(f"{up}blobs/{blob}")
    return str(snapshot.relative_to(root))


def write_source(folder: Path) -> None:
    """SOURCE.json as convert/from_hub.py writes it."""
    sums = {}
    for name in files_of(folder):
        contents = (folder / name).read_bytes()
        sums[name] = {"size": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
    source = {"repository": "owner/name", "commit": COMMIT, "files": sums}
    write_json(folder / "SOURCE.json", source)


def write_bases(place: Path) -> list[Base]:
    """Write all of them below a folder."""
    bases = []
    for name, write in KINDS.items():
        write(place / name)
        bases.append(Base(name, place / name))
    for name in ("plain", "byte-level"):
        root = place / f"hub-{name}" / "models--owner--name"
        bases.append(Base(f"hub-{name}", root, as_snapshot(place / name, root), "hub"))
    for name in ("plain", "inner"):
        folder = place / f"source-{name}"
        shutil.copytree(place / name, folder)
        write_source(folder)
        bases.append(Base(f"source-{name}", folder, sums="source"))
    return bases
