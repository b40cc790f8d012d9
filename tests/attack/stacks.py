"""Mutations of what stands around the encoder: config.json, modules, pooling, Dense, settings."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.attack.spoil import KNOWN, OTHER, REFUSED, Folder, Mutation, Spoiled, one_of
from tests.attack.values import MARK, VALUES, write

# Texts of JSON numbers that are no size, no length and no count.
NO_SIZE = ["0", "-1", "-15", "0.5", "1e400", "NaN", "Infinity", VALUES["401 digits"], str(2**63)]
NO_SIZE += ["true", '"7"', "[7]", str(2**64), "1e308", str(2**40), VALUES["10000 digits"]]
SIZES = "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size".split()
SIZES += "type_vocab_size max_position_embeddings d_model num_layers num_heads d_ff d_kv".split()
SIZES += "relative_attention_num_buckets dim n_layers n_heads hidden_dim".split()
SIZES += "n_embd n_layer n_head n_inner n_positions global_attn_every_n_layers".split()
EPSILONS = ["layer_norm_eps", "layer_norm_epsilon", "norm_eps"]
ODD_PATHS = {
    "outside": "../1_Pooling",
    "absolute": "/etc",
    "of a link": "1_Pooling/../../x",
    "NUL": "a\0b",
    "lone surrogate": "\ud800",
    "5000 characters": "x" * 5000,
    "deep": "a/" * 2000,
    "escape sequence": "\x1b[31mx",
    "nowhere": "9_Nothing",
    "a number": 5,
    "a list": ["1_Pooling"],
    "null": None,
}
ODD_TYPES = {
    "code of its own": "modeling.Pooling",
    "CLIP": "sentence_transformers.models.CLIPModel",
    "weighted layers": "sentence_transformers.models.WeightedLayerPooling",
    "a router": "sentence_transformers.models.Router",
    "empty": "",
    "a number": 7,
    "escape sequence": "sentence_transformers.models.\x1b[31mPooling",
    "os": "os.system",
}


def load(file: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def config_number(folder: Folder, random: Random) -> Spoiled | None:
    """A size or a number in config.json that no encoder has."""
    file = folder.find("config.json") if folder.base.name != "inner" else None
    file = folder.model / "0_Transformer" / "config.json" if file is None else file
    file = file if "vocab_size" in load(file) else folder.model / "config.json"
    if not file.is_file() or "vocab_size" not in load(file):
        return None
    keys = [key for key in [*SIZES, *EPSILONS, "initializer_range"] if key in load(file)]
    key = random.choice(keys)
    text = random.choice(NO_SIZE)
    # The former is kept for training, and nothing else reads it.
    free = key == "initializer_range" or (key in EPSILONS and text == "0.5")
    allowed = OTHER if free else REFUSED
    write(file, {**load(file), key: MARK}, MARK, text)
    return Spoiled(f"config.json: {key} = {text[:24]} ({len(text)} characters)", allowed)


def config_choice(folder: Folder, random: Random) -> Spoiled | None:
    """A choice in config.json that makes it another architecture."""
    files = [folder.model / own / "config.json" for own in (".", "0_Transformer")]
    file = next((own for own in files if own.is_file() and "vocab_size" in load(own)), None)
    if file is None:
        return None
    edits: dict[str, dict[str, Any]] = {
        "RoBERTa": {"model_type": "roberta"},
        "a decoder": {"is_decoder": True},
        "cross attention": {"add_cross_attention": True},
        "pruned": {"pruned_heads": {"0": [1]}},
        "relative positions": {"position_embedding_type": "relative_key"},
        "alibi scaled": {"alibi_scaling": 2},
        "quantised": {"quantization_config": {"bits": 4}},
        "an unknown activation": {"hidden_act": "mish"},
        "an activation with an escape": {"hidden_act": "\x1b[2J"},
        "code unread": {"auto_map": {"AutoModel": "someone/else--modeling.Model"}},
        "an architecture unread": {"architectures": ["T5EncoderModel"]},
        "max pooled": {"emb_pooler": "max"},
        "no list": {"architectures": "BertModel"},
        "no map": {"auto_map": "JinaBertModel"},
    }
    title, edit = one_of(random, edits)
    write(file, load(file) | edit)
    return Spoiled(f"config.json: {title}", KNOWN)


def modules(folder: Folder, random: Random) -> Spoiled | None:
    """modules.json lists something else."""
    file = folder.model / "modules.json"
    if not file.is_file():
        return None
    listed = load(file)
    i = random.randrange(len(listed))
    path, odd_path = one_of(random, ODD_PATHS)
    kind, odd_type = one_of(random, ODD_TYPES)
    edits = {
        f"path {path}": lambda: listed[i].update(path=odd_path),
        f"type {kind}": lambda: listed[i].update(type=odd_type),
        "twice": lambda: listed.insert(i, listed[i]),
        "turned": listed.reverse,
        "empty": listed.clear,
        "no object": lambda: listed.append("x"),
        "kwargs": lambda: listed[i].update(kwargs={"a": 1}),
        "the first alone": lambda: listed.__delitem__(slice(1, None)),
        "without the first": lambda: listed.pop(0),
        "path of another": lambda: listed[i].update(path=listed[i - 1]["path"]),
    }
    title, edit = one_of(random, edits)
    before = json.dumps(listed)
    edit()
    if json.dumps(listed) == before:
        return None
    write(file, listed)
    # A Normalize module may be anywhere, also twice: its folder says nothing.
    last = listed and str(listed[-1].get("type") if isinstance(listed[-1], dict) else "")
    free = title == "twice" or (i == len(listed) - 1 and str(last).endswith("Normalize"))
    return Spoiled(f"modules.json, entry {i}: {title}", OTHER if free else KNOWN)


def pooling(folder: Folder, random: Random) -> Spoiled | None:
    """1_Pooling says what is no pooling."""
    file = folder.model / "1_Pooling" / "config.json"
    if not file.is_file():
        return None
    edits: dict[str, tuple[dict[str, Any], frozenset[str]]] = {
        "an unknown mode": ({"pooling_mode": "attention"}, REFUSED),
        "no mode": ({"pooling_mode": []}, REFUSED),
        "modes of numbers": ({"pooling_mode": [1, 2]}, REFUSED),
        "a mode of lists": ({"pooling_mode": [["mean"]]}, REFUSED),
        "10000 modes": ({"pooling_mode": ["nothing"] * 10_000}, REFUSED),
        "a flag of text": ({"pooling_mode_cls_token": "true"}, REFUSED),
        "an unknown flag": ({"pooling_mode_attention": True}, REFUSED),
        "another width": ({"word_embedding_dimension": 768}, KNOWN),
        "another mode": ({"pooling_mode": "weightedmean"}, OTHER),
        "modes": ({"pooling_mode": ["mean", "mean"]}, OTHER),
        "no prompt": ({"include_prompt": False}, OTHER),
    }
    title, (edit, allowed) = one_of(random, edits)
    write(file, load(file) | edit)
    return Spoiled(f"1_Pooling: {title}", allowed)


def dense(folder: Folder, random: Random) -> Spoiled | None:
    """2_Dense says what its weights do not."""
    file = folder.model / "2_Dense" / "config.json"
    if not file.is_file():
        return None
    activation = "torch.nn.modules.activation."
    edits: dict[str, tuple[dict[str, Any], frozenset[str]]] = {
        "wider": ({"out_features": 12}, REFUSED),
        "huge": ({"in_features": 2**63}, REFUSED),
        "negative": ({"out_features": -11}, REFUSED),
        "a width of text": ({"out_features": "11"}, REFUSED),
        "no bias": ({"bias": False}, REFUSED),
        "a bias of text": ({"bias": "true"}, REFUSED),
        "unknown": ({"activation_function": activation + "Mish"}, REFUSED),
        "code": ({"activation_function": "os.system"}, REFUSED),
        "a list": ({"activation_function": ["torch.nn.Tanh"]}, REFUSED),
        "another": ({"activation_function": activation + "ReLU"}, OTHER),
        "of tokens": ({"module_input_name": "token_embeddings"}, REFUSED),
        "with a residual": ({"residual": True}, REFUSED),
    }
    title, (edit, allowed) = one_of(random, edits)
    write(file, load(file) | edit)
    return Spoiled(f"2_Dense: {title}", allowed)


def settings(folder: Folder, random: Random) -> Spoiled | None:
    """Lengths, widths, prompts and similarities that are none."""
    no_length = ["0", "-1", "NaN", "Infinity", "1e400", "1e308", "true", '"7"', "0.5", "[]"]
    no_length += [VALUES["401 digits"], str(2**64), "1" + "0" * 30]
    edits = {
        "sentence_bert_config.json": {
            "max_seq_length": no_length,
            "do_lower_case": ['"false"', "0", "[]"],
            "transformer_task": ['"sequence-classification"', "7"],
            "module_output_name": ['"other"', "[]"],
            "modality_config": ['{"image": {}}', "7", '{"text": {"method": "x"}}'],
        },
        "config_sentence_transformers.json": {
            "truncate_dim": ["0", "-1", "-100", "1000000", "NaN", "0.5", "true", '"7"', str(2**63)],
            "prompts": ['{"query": 5}', '"query"', "[]", '{"query": null}', "7"],
            "default_prompt_name": ['"nothing"', "7", "[]", '"\\u001b[31m"'],
            "similarity_fn_name": ['"hamming"', "7", '["cosine"]', '"\\u001b[31m"'],
            "model_type": ['"CrossEncoder"', "7"],
        },
    }
    name = random.choice(list(edits))
    file = folder.find(name)
    if file is None:
        return None
    key = random.choice(list(edits[name]))
    text = random.choice(edits[name][key])
    write(file, {**load(file), key: MARK}, MARK, text)
    allowed = KNOWN if key == "modality_config" else REFUSED
    return Spoiled(f"{name}: {key} = {text[:24]}", allowed)


def linked(folder: Folder, random: Random) -> Spoiled | None:
    """A module's folder is a link to another place: inside it is the same, outside it is not."""
    own = folder.model / "1_Pooling"
    if not own.is_dir() or folder.base.sums:
        return None
    inside = random.random() < 0.5
    target = folder.model / "pooling" if inside else folder.model.parent / "pooling"
    own.rename(target)
    own.symlink_to(target)
    return Spoiled(f"1_Pooling is a link {'inside' if inside else 'outside'}", KNOWN)


STACKS: list[Mutation] = [modules, modules, pooling, dense, settings, settings, linked]
CONFIGS: list[Mutation] = [config_number, config_number, config_choice]
