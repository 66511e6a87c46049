"""The built-in miniature MUSE world: corpus, tokenizer, target and retrain model."""
