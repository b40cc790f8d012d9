"""Small torch models with every weight drawn, and the folders that hold them."""

import torch
import transformers
from tokenizers import BertWordPieceTokenizer

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

# Pairwise different, and different from the rows and lengths of the tests, so that no two axes can
# be swapped unnoticed.
SIZES = {
    "vocab_size": 31,
    "hidden_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 13,
    "max_position_embeddings": 19,
    "type_vocab_size": 5,
}


def draw(model, seed=0):
    """The model with every parameter drawn anew: norms around one, the rest around zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            weight.copy_(centre + 0.3 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def bert(kind=transformers.BertModel, *, seed=0, **changes):
    """A small BERT, or one of its wrappers with a head."""
    config = transformers.BertConfig(**SIZES | changes)
    return draw(kind(config), seed)


def hidden_states(model, ids, mask, types):
    """All states of a torch encoder as float32 NumPy arrays, embeddings first."""
    with torch.no_grad():
        out = model(**tensors(ids, mask, types), output_hidden_states=True)
    return [state.float().numpy() for state in out.hidden_states]


def tensors(ids, mask, types):
    """NumPy inputs under the names of a torch encoder's arguments."""
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: torch.from_numpy(array) for name, array in given.items()}


# Whole words, letters of both cases, and pieces that continue a word.
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *LETTERS,
    *LETTERS.upper(),
    *(f"##{letter}" for letter in LETTERS + "STG"),
    *("the", "of", "and", "cat", "The", "CAT", "##ing", "##ed", "query", "text"),
    *"0123456789.,:;!?-'é語",
]


def save_tokenizer(folder, *, lowercase):
    """tokenizer.json, tokenizer_config.json and vocab.txt of a word-piece tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    backend = BertWordPieceTokenizer(str(vocabulary), lowercase=lowercase)
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = transformers.BertTokenizer.from_pretrained(folder, do_lower_case=lowercase)
    tokenizer.save_pretrained(folder)


def save_model(folder, *, lowercase=True, positions=16):
    """A folder with a small BERT and its tokenizer."""
    bert(vocab_size=len(VOCABULARY), max_position_embeddings=positions).save_pretrained(folder)
    save_tokenizer(folder, lowercase=lowercase)
    return folder
