"""Embed the paragraphs of README and notes, and find those that answer a question.

python notes/demo.py "a question"
Writes demo/vectors.npy and demo/paragraphs.jsonl (one paragraph per vector), then prints the
paragraphs that are closest to the question.
"""

import json
import sys
import textwrap
import time
from pathlib import Path

import numpy as np

import jaxbert
from jaxbert.checkpoint.hub import DEFAULT_MODEL

ROOT = Path(__file__).parents[1]
SHOWN = 3


def paragraphs(file: Path) -> list[dict[str, str]]:
    """The paragraphs of a Markdown file, without code, tables and headings."""
    found, inside_code = [], False
    for block in file.read_text(encoding="utf-8").split("\n\n"):
        starts_in_code, inside_code = inside_code, inside_code ^ (block.count("```") % 2 == 1)
        prose = not starts_in_code and "```" not in block and not block.startswith(("#", "|", "!"))
        if prose and len(block.split()) > 8:
            found.append({"file": str(file.relative_to(ROOT)), "text": " ".join(block.split())})
    return found


def main(question: str) -> None:
    files = [ROOT / "README.md", *sorted((ROOT / "notes").glob("*.md"))]
    rows = [row for file in files for row in paragraphs(file)]

    start = time.perf_counter()
    embedder = jaxbert.Embedder.from_pretrained(DEFAULT_MODEL)
    loaded = time.perf_counter()
    vectors = embedder.encode([row["text"] for row in rows], show_progress_bar=True)
    done = time.perf_counter()

    (ROOT / "demo").mkdir(exist_ok=True)
    np.save(ROOT / "demo" / "vectors.npy", vectors)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (ROOT / "demo" / "paragraphs.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{len(rows)} paragraphs of {len(files)} files -> demo/vectors.npy {vectors.shape}")
    print(
        f"model loaded in {loaded - start:.1f} s, encoded in {done - loaded:.1f} s "
        f"({embedder.compilations} shapes compiled)\n\n{question}\n"
    )
    scores = embedder.similarity(embedder.encode(question), vectors)[0]
    for i in np.argsort(-scores)[:SHOWN]:
        print(f"{scores[i]:.3f}  {rows[i]['file']}")
        print(textwrap.indent(textwrap.fill(rows[i]["text"], 92), "       "), "\n")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "What happens to a text that is too long?")
