"""How long a corpus run takes and what it costs: arithmetic on a measured speed.

python notes/bench/size.py --rows 10000000 --tokens-per-row 180 --tokens-per-second 6000 \\
    [--workers 4] [--price 0.10] [--efficiency 0.95] [--width 384 --dtype float32]
python notes/bench/size.py ... --roof 197e12 --share 0.3 --layers 4 --hidden 512 --inner 2048 --glu

The speed is best measured: `jaxbert embed` prints tokens/s of a sample. Without a measurement
--roof (operations per second of the chip, from its maker) times --share (how much of it you expect;
0.3 is a guess and nothing else) divided by the operations of a token is an estimate, and says so.
"""

import argparse

BYTES = {"float32": 4, "float16": 2, "int8": 1, "uint8": 1, "ubinary": 1 / 8}


def operations(layers, hidden, inner, glu, length):
    """Multiplications and additions for one token of a text of so many."""
    products = 2 * layers * (4 * hidden * hidden + (3 if glu else 2) * hidden * inner)
    return products + 4 * layers * hidden * length


def clock(seconds):
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02} min"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    give = parser.add_argument
    give("--rows", type=float, required=True)
    give("--tokens-per-row", type=float, required=True)
    give("--tokens-per-second", type=float, help="measured, of one worker")
    give("--workers", type=int, default=1)
    give("--price", type=float, help="of one worker and hour, in any currency")
    give("--width", type=int, default=384)
    give("--dtype", choices=BYTES, default="float32")
    give("--roof", type=float, help="operations per second of a worker's chips")
    give("--share", type=float, default=0.3, help="of the roof; a guess unless measured")
    give("--layers", type=int, default=6)
    give("--hidden", type=int, default=384)
    give("--inner", type=int, default=1536)
    give("--glu", action="store_true", help="three products of the feed-forward, not two")
    given = parser.parse_args()
    speed, kind = given.tokens_per_second, "measured"
    if speed is None:
        if given.roof is None:
            parser.error("give --tokens-per-second, or --roof for an estimate")
        sizes = given.layers, given.hidden, given.inner, given.glu, given.tokens_per_row
        speed, kind = given.roof * given.share / operations(*sizes), "ESTIMATED"
    tokens = given.rows * given.tokens_per_row
    seconds = tokens / speed / given.workers
    print(f"{tokens:.3g} tokens at {speed:.0f} tokens/s a worker ({kind}), {given.workers} workers")
    print(f"time   {clock(seconds)}, {seconds * given.workers / 3600:.1f} hours of work in all")
    if given.price is not None:
        print(f"cost   {seconds * given.workers / 3600 * given.price:.2f}")
    size = given.rows * given.width * BYTES[given.dtype]
    print(f"output {size / 2**30:.2f} GiB; twice that on the disk while parts are put together")


if __name__ == "__main__":
    main()
