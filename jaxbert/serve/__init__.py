"""An embedding service over HTTP, in the words of OpenAI's, Jina's, Cohere's and TEI's clients."""
