"""Small tokenizers of the kinds that encoders have, untrained, over the same few letters."""

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

LETTERS = "abcdefgxyz"
BERT_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece(**settings):
    """BERT's: [CLS] text [SEP], the letters and some pieces of words."""
    own = [*LETTERS, *"-.1漢", *(f"##{x}" for x in LETTERS), "abc", "##de"]
    words = {word: i for i, word in enumerate([*BERT_WORDS, *own])}
    backend = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(**settings)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(BERT_WORDS)
    return backend


def byte_level(trim_offsets=True, add_prefix_space=False):
    """RoBERTa's: <s> text </s>, a byte of a character a token, and some merges."""
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("ab", "c"), ("Ġ", "d"), ("Ġ", "Ġ"), ("Ġd", "e")]
    for word in [*alphabet, *(first + second for first, second in merges)]:
        words[word] = len(words)
    backend = Tokenizer(models.BPE(words, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets, add_prefix_space
    )
    backend.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return backend


def unigram(prepend_scheme="always", steps=(), spaces=False):
    """SentencePiece's: <s> text </s>, a word begins with the sign of a space."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS, "▁a", "▁abc", "de", "▁de", "▁▁"]
    scores = [(word, 0.0 if word.startswith("<") else -1.5 / len(word)) for word in words]
    backend = Tokenizer(models.Unigram(scores, 3, False))
    own = [normalizers.Nmt(), normalizers.NFKC()]
    if not spaces:
        own.append(normalizers.Replace(Regex(" {2,}"), " "))
    backend.normalizer = normalizers.Sequence(own)
    space = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, space]) if steps else space
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    backend.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return backend


KINDS = {
    "wordpiece": wordpiece,
    "wordpiece, cased": lambda: wordpiece(lowercase=False, handle_chinese_chars=False),
    "bytes": byte_level,
    "bytes, offsets with spaces": lambda: byte_level(trim_offsets=False),
    "bytes, a space in front": lambda: byte_level(add_prefix_space=True),
    "bytes, both": lambda: byte_level(trim_offsets=False, add_prefix_space=True),
    "unigram": unigram,
    "unigram, spaces kept": lambda: unigram(spaces=True),
    "unigram, first": lambda: unigram("first"),
    "unigram behind spaces": lambda: unigram(steps=[pre_tokenizers.WhitespaceSplit()]),
}
