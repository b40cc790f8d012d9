"""From texts to tokens: the tokenizer, its files, prompts, and chunks of texts."""
