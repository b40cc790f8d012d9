"""Writes golden.safetensors: sentence-transformers' vectors of texts.json for all-MiniLM-L6-v2.

Run in an environment with the parity extra and the model's package:
python tests/golden/minilm/make.py
"""

import json
from pathlib import Path

import sentence_transformers
import torch
from safetensors.numpy import save_file

from jaxbert.checkpoint import hub

HERE = Path(__file__).parent


def main() -> None:
    texts = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
    model = sentence_transformers.SentenceTransformer(str(hub.installed_package()))
    # One by one: no padding, so no text's vector depends on another's length.
    vectors = torch.stack([torch.from_numpy(model.encode([text])[0]) for text in texts])
    versions = {
        "sentence_transformers": sentence_transformers.__version__,
        "torch": torch.__version__,
    }
    save_file({"vectors": vectors.numpy()}, HERE / "golden.safetensors", metadata=versions)


if __name__ == "__main__":
    main()
