"""Writes this folder, and jinabert-colbert beside it: ColBERTs of two layers, with their vectors.

Run in an environment with the parity extra: python tests/golden/bert-colbert/make.py
With a folder that holds JinaBERT's remote code (configuration_bert.py and modeling_bert.py, which
transformers 5 cannot import as they are), it writes jinabert-colbert too. Nothing of jaxbert is
used: ids are made as ColBERT makes them, vectors by torch.
"""

import importlib
import json
import string
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).parent
KIND = HERE.parent / "jinabert-mlm"  # whose vocabulary is taken
QUERIES = ["how many people live in berlin?", "", "the well-known museum of paris, the river city"]
DOCUMENTS = [
    "berlin is the well known city.",
    "how many people live in paris? many!",
    "?!.,-",
    "",
    "the river of the city is known: people live in the museum, the people of the well, the river",
    "The RIVER's museum - zebra [UNK] 42",
]
SPECIAL = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
METADATA = {
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "query_token": "[Q]",
    "doc_token": "[D]",
    "similarity": "cosine",
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
    "interaction": "colbert",
    "bsize": 16,
    "nway": 2,
    "nbits": 1,
}
BERT = {"architectures": ["HF_ColBERT"], "model_type": "bert", "hidden_act": "gelu"}
REMOTE = "jinaai/jina-bert-implementation--"
JINA = BERT | {
    "_name_or_path": "",
    "attn_implementation": None,
    "auto_map": {
        "AutoConfig": f"{REMOTE}configuration_bert.JinaBertConfig",
        "AutoModel": f"{REMOTE}modeling_bert.JinaBertModel",
        "AutoModelForMaskedLM": f"{REMOTE}modeling_bert.JinaBertForMaskedLM",
    },
    "emb_pooler": "mean",
    "feed_forward_type": "geglu",
    "position_embedding_type": "alibi",
}


def sizes(hidden: int, heads: int, inner: int, positions: int, words: int) -> dict:
    return {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": positions,
        "num_hidden_layers": 2,
        "type_vocab_size": 2,
        "vocab_size": words,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": 0,
    }


def write_tokenizer(folder: Path) -> int:
    """The tokenizer of KIND with [unused0] and [unused1]; how many words it has."""
    raw = json.loads((KIND / "tokenizer.json").read_text())
    old = raw["model"]["vocab"]
    words = SPECIAL + [word for word in sorted(old, key=old.get) if word not in SPECIAL]
    raw["model"]["vocab"] = {word: i for i, word in enumerate(words)}
    for token in raw["added_tokens"]:
        token["id"] = words.index(token["content"])
    for name, token in raw["post_processor"]["special_tokens"].items():
        token["ids"] = [words.index(name)]
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_text((KIND / name).read_text())
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return len(words)


def draw(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The module with every parameter drawn anew: norms around one, the rest around zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            weight.copy_(centre + 0.3 * torch.randn(weight.shape, generator=generator))
    return module.eval()


def tokens(tokenizer, texts: list[str], length: int, marker: str) -> tuple:
    """Ids and mask as ColBERT makes them: a place for the marker, which then takes it."""
    made = tokenizer(
        [f". {text}" for text in texts],
        padding="max_length",
        truncation=True,
        max_length=length,
        return_tensors="pt",
    )
    ids = made["input_ids"]
    ids[:, 1] = tokenizer.convert_tokens_to_ids(marker)
    return ids, made["attention_mask"]


def vectors(model, linear, ids, mask) -> tuple:
    """All states, and the unit vectors of all positions."""
    with torch.no_grad():
        out = model(
            input_ids=ids,
            attention_mask=mask,
            token_type_ids=torch.zeros_like(ids),
            output_hidden_states=True,
        )
        return out.hidden_states, torch.nn.functional.normalize(linear(out[0]), dim=-1)


def write(folder: Path, make, config: dict, width: int, lengths: tuple, seed: int) -> None:
    folder.mkdir(exist_ok=True)
    raw = config | {"vocab_size": write_tokenizer(folder), "torch_dtype": "float32"}
    model = draw(make(raw), seed)
    linear = draw(torch.nn.Linear(raw["hidden_size"], width, bias=False), seed + 1)
    (folder / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
    metadata = METADATA | {"dim": width, "query_maxlen": lengths[0], "doc_maxlen": lengths[1]}
    (folder / "artifact.metadata").write_text(json.dumps(metadata, indent=2) + "\n")
    stored = {f"bert.{name}": value.contiguous() for name, value in model.state_dict().items()}
    stored = {name: v for name, v in stored.items() if v.is_floating_point()}
    stored.pop("bert.encoder.alibi", None)
    save_file(stored | {"linear.weight": linear.weight.detach()}, folder / "model.safetensors")
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    queries, query_mask = tokens(tokenizer, QUERIES, lengths[0], "[unused0]")
    queries[queries == tokenizer.pad_token_id] = tokenizer.mask_token_id
    _, asked = vectors(model, linear, queries, query_mask)
    ids, mask = tokens(tokenizer, DOCUMENTS, lengths[1], "[unused1]")
    states, read = vectors(model, linear, ids, mask)
    known = tokenizer.get_vocab()
    skipped = torch.tensor([known[symbol] for symbol in string.punctuation if symbol in known])
    kept = mask.bool() & ~torch.isin(ids, skipped)
    scores = torch.tensor(
        [
            [float((q @ d[k].T).max(dim=1).values.sum()) for d, k in zip(read, kept, strict=True)]
            for q in asked
        ]
    )
    weight = mask[..., None].float()
    pooled = (states[-1] * weight).sum(1) / weight.sum(1)
    golden = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(ids),
        "mean_pooled": pooled,
        "query.input_ids": queries,
        "query.attention_mask": query_mask,
        "query.vectors": asked,
        "document.vectors": read,
        "document.kept": kept.to(torch.uint8),
        "scores": scores,
    }
    golden |= {f"hidden.{i}": state for i, state in enumerate(states)}
    made = {"torch": torch.__version__, "transformers": transformers.__version__}
    golden = {name: value.contiguous() for name, value in golden.items()}
    save_file(golden, folder / "golden.safetensors", metadata=made)
    texts = {"queries": QUERIES, "documents": DOCUMENTS, "made_with": made}
    (folder / "texts.json").write_text(json.dumps(texts, indent=2) + "\n")


def bert(raw: dict) -> torch.nn.Module:
    return transformers.BertModel(transformers.BertConfig(**raw))


def jina(code: str):
    sys.path.insert(0, code)
    config = importlib.import_module("configuration_bert").JinaBertConfig
    model = importlib.import_module("modeling_bert").JinaBertModel

    def make(raw: dict) -> torch.nn.Module:
        own = {key: value for key, value in raw.items() if key not in ("auto_map", "emb_pooler")}
        old = {"is_decoder": False, "add_cross_attention": False}
        return model(config(**own | old))

    return make


if __name__ == "__main__":
    write(HERE, bert, BERT | sizes(28, 4, 13, 64, 0), 11, (12, 17), 0)
    if len(sys.argv) > 1:
        beside = HERE.parent / "jinabert-colbert"
        write(beside, jina(sys.argv[1]), JINA | sizes(24, 3, 40, 64, 0), 8, (14, 19), 5)
