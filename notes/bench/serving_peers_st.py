"""sentence-transformers behind FastAPI, as it is usually written: for serving_peers.py.

MODEL_FOLDER=FOLDER python -m uvicorn --app-dir notes/bench serving_peers_st:app --port 8001

The endpoint is a plain function, so that FastAPI calls it in one of its threads, 40 at most.
"""

import os

from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

app = FastAPI()
model = SentenceTransformer(os.environ["MODEL_FOLDER"], device="cpu")


class Request(BaseModel):
    """What OpenAI's clients send."""

    input: list[str]
    model: str = ""
    encoding_format: str = "float"


@app.get("/health")
def health():
    """Says that the model is loaded, for it is before the port opens."""
    return {}


@app.post("/v1/embeddings")
def embeddings(request: Request):
    """The vectors of the texts, as lists of numbers."""
    vectors = model.encode(request.input)
    rows = [
        {"object": "embedding", "index": i, "embedding": row}
        for i, row in enumerate(vectors.tolist())
    ]
    return {"object": "list", "data": rows, "model": request.model, "usage": {"prompt_tokens": 0}}
