"""A text <-> tokens: the tokenizer, its files, prompts, and parts of texts."""
