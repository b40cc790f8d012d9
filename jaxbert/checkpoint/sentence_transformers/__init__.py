"""The files of sentence-transformers beside the model: one module per kind of file, both ways."""
