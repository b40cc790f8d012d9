"""Peak memory of `jaxbert embed` over rows of 10 MB and over files that unpack to 1000 times.

python notes/bench/rows.py MODEL: MODEL is any folder; a small one leaves the memory to the rows.
"""

import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MB = 10**6
TEXT = "the cat sat on a mat and the dog is in the house " * (10 * MB // 49)


def small(folder: Path) -> Path:
    """A hundred short rows: what the process needs anyway."""
    file = folder / "small.jsonl"
    file.write_text('{"text": "a cat"}\n' * 100)
    return file


def jsonl(folder: Path) -> Path:
    """20 rows of 10 MB."""
    file = folder / "rows.jsonl"
    with file.open("w") as stream:
        for _ in range(20):
            stream.write(json.dumps({"text": TEXT}) + "\n")
    return file


def csv(folder: Path) -> Path:
    """20 rows of 10 MB."""
    file = folder / "rows.csv"
    with file.open("w") as stream:
        stream.write("text\n")
        for _ in range(20):
            stream.write(TEXT + "\n")
    return file


def parquet(folder: Path) -> Path:
    """20 rows of 10 MB, without a dictionary."""
    file = folder / "rows.parquet"
    options = {"use_dictionary": False, "write_batch_size": 1}
    with pq.ParquetWriter(file, pa.schema([("text", pa.string())]), **options) as out:
        for _ in range(2):
            rows = [f"{i} {TEXT}" for i in range(10)]
            out.write_table(pa.table({"text": rows}))
    return file


def gzip_line(folder: Path) -> Path:
    """1 GB of one line in 1 MB of gzip, and a good row behind it."""
    file = folder / "line.txt.gz"
    with gzip.open(file, "wb") as stream:
        for _ in range(1000):
            stream.write(b"a" * MB)
        stream.write(b"\na cat\n")
    return file


def gzip_rows(folder: Path) -> Path:
    """100 rows of 10 MB in 1 MB of gzip."""
    file = folder / "rows.txt.gz"
    with gzip.open(file, "wb") as stream:
        for _ in range(100):
            stream.write(b"a " * (5 * MB) + b"\n")
    return file


def parquet_value(folder: Path) -> Path:
    """One value of 100 MB in 50 rows, once in the file: 5 GB."""
    file = folder / "value.parquet"
    words = pa.array(["a" * (100 * MB)])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 50, pa.int32()), words)
    pq.write_table(pa.table({"text": column}), file, compression="zstd")
    return file


def peak(model: str, file: Path) -> str:
    """Exit status and peak of a process of its own that embeds the file."""
    out = file.with_name("out.npy")
    line = ["embed", str(file), "-o", str(out), "--model", model, "--quiet"]
    line += ["--on-bad-row", "skip"]
    code = (
        "import sys; from jaxbert import cli; status = cli.main(sys.argv[1:]);"
        "lines = open('/proc/self/status').read().splitlines();"  # rusage counts the parent too
        "print(status, next(int(l.split()[1]) // 1024 for l in lines if l.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True)
    for old in file.parent.glob("out.npy*"):
        old.unlink()
    if done.returncode:
        return f"failed: {done.stderr[-300:]}"
    status, size = done.stdout.split()[-2:]
    return f"exit status {status}, peak {size} MiB"


INPUTS: tuple[Callable[[Path], Path], ...] = (
    small,
    jsonl,
    csv,
    parquet,
    gzip_line,
    gzip_rows,
    parquet_value,
)


def main() -> None:
    """One line for each kind of input."""
    with tempfile.TemporaryDirectory() as folder:
        for make in INPUTS:
            file = make(Path(folder))
            size = file.stat().st_size / MB
            print(f"{make.__name__} ({size:.1f} MB): {peak(sys.argv[1], file)}", flush=True)
            file.unlink()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
