"""One tokenizer of each kind, all with the vocabulary that the base models have rows for."""

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

# Rows of the word embeddings, a prime; every tokenizer here has exactly so many tokens.
SIZE = 293
LETTERS = "abcdefghijklmnopqrstuvwxyz"
BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
WORDS = ("the", "cat", "sat", "mat", "on", "all", "night", "stock", "price", "fell", "##s", "##ing")


def filled(tokens: list[str]) -> list[str]:
    """The tokens and so many of no meaning that there are SIZE."""
    return tokens + [f"unused{i}" for i in range(SIZE - len(tokens))]


def word_pieces() -> list[str]:
    """The vocabulary of the WordPiece tokenizer, in order."""
    letters = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return filled([*BERT, *letters, *WORDS, *"0123456789.,!?"])


def special(names: tuple[str, ...]) -> list[AddedToken]:
    """Special tokens, found in a text before it is split."""
    return [AddedToken(name, special=True, normalized=False) for name in names]


def wordpiece() -> Tokenizer:
    """BERT's own."""
    vocabulary = {word: i for i, word in enumerate(word_pieces())}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    backend.add_special_tokens(special(BERT))
    return backend


def byte_bpe() -> Tokenizer:
    """Byte pairs as RoBERTa and the German and Spanish Jina models have them."""
    merges = [("t", "h"), ("th", "e"), ("c", "a"), ("ca", "t"), ("Ġ", "the"), ("i", "n")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = filled([*ROBERTA, *alphabet, *(a + b for a, b in merges)])
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    backend.add_special_tokens(special(ROBERTA))
    return backend


def unigram() -> Tokenizer:
    """SentencePiece's unigram model, with scores."""
    words = [word for word in WORDS if not word.startswith("#")]
    pieces = [*ROBERTA, "▁", *LETTERS, *(f"▁{word}" for word in words), *"0123456789.,!?"]
    scores = [0.0] * len(ROBERTA) + [-2.0 - i / 16 for i in range(SIZE)]
    backend = Tokenizer(models.Unigram(list(zip(filled(pieces), scores, strict=False)), unk_id=3))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    backend.add_special_tokens(special(ROBERTA))
    return backend
