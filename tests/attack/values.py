"""Mutations of JSON: keys dropped, doubled and added, values replaced by any other."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.attack.spoil import HARMLESS, KNOWN, OTHER, Folder, Mutation, Spoiled

HUGE = "1" + "0" * 400
# JSON texts of values; the names are said in reports.
VALUES = {
    **{text: text for text in "null true false 0 1 -1 2 3 7 13 3.0 0.5 1e-5 -0.0".split()},
    **{text: text for text in "NaN Infinity -Infinity 1e400 -1e400 1e308".split()},
    **{str(2**n): str(2**n) for n in (31, 32, 40, 53, 63, 64)},
    **{str(2**n - 1): str(2**n - 1) for n in (31, 32, 63, 64)},
    "-2^63": str(-(2**63)),
    "401 digits": HUGE,
    "10000 digits": "9" * 10_000,
    "empty text": '""',
    "x": '"x"',
    "a word": '"cat"',
    "[PAD]": '"[PAD]"',
    "a number as text": '"12"',
    "lone surrogate": '"\\ud800"',
    "NUL": '"a\\u0000b"',
    "escape sequence": '"\\u001b]0;x\\u0007\\u001b[2J"',
    "right-to-left mark": '"\\u202eabc"',
    "100 kB": '"' + "y" * 100_000 + '"',
    "two lines": '"a\\nb\\r\\u2028c"',
    "empty list": "[]",
    "empty object": "{}",
    "nested lists": "[[[[[]]]]]",
    "list of null": "[null]",
    "nested object": '{"a": {"b": [1, {"c": null}]}}',
    "3000 brackets": "[" * 3000 + "]" * 3000,
    "long list": "[" + ",".join("1" * 10_000) + "]",
}
# Beyond these no count, id or length of anything here makes sense.
LARGEST = 2**31 - 2
MARK = "@@0@@"


def kind(value: Any) -> str:
    """The JSON type; integral floats count as integers, as in JSON itself."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    return type(value).__name__


def parsed(text: str) -> Any:
    """The value of a JSON text; a text where Python cannot read it either."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return object()


def another(old: Any, new: Any) -> bool:
    """Whether new is a value that a key with the value old could have in a whole folder."""
    if old is None or new is None:
        return True
    if isinstance(new, float) and (new != new or abs(new) == float("inf")):
        return False
    if kind(new) == "integer" and not 0 <= new <= LARGEST:
        return False
    return kind(old) == kind(new) or {kind(old), kind(new)} == {"float", "integer"}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values; of long lists and objects only the first few."""
    if isinstance(value, dict):
        parts = list(value.items())[:40]
    elif isinstance(value, list):
        parts = list(enumerate(value))[:12]
    else:
        parts = []
    return [path, *(own for key, part in parts for own in places(part, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at a path."""
    if not path:
        return new
    value[path[0]] = put(value[path[0]], path[1:], new)
    return value


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """The value at a path."""
    return at(value[path[0]], path[1:]) if path else value


def write(file: Path, value: Any, mark: str = "", text: str = "") -> None:
    """The value as JSON, with a text, which may be no JSON, where the mark stands."""
    whole = json.dumps(value, indent=2, ensure_ascii=False)
    file.write_bytes(
        (whole.replace(json.dumps(mark), text) if mark else whole).encode("utf-8", "surrogatepass")
    )


def chosen(folder: Folder, random: Random) -> tuple[Path, Any] | None:
    """A JSON file and its value; small files as often as large ones."""
    file = folder.pick(random, ".json")
    return None if file is None else (file, json.loads(file.read_text(encoding="utf-8")))


def replaced(folder: Folder, random: Random) -> Spoiled | None:
    """One value is another."""
    found = chosen(folder, random)
    if found is None:
        return None
    file, value = found
    path = random.choice(places(value))
    old, (name, text) = at(value, path), random.choice(list(VALUES.items()))
    new = parsed(text)
    if type(new) is type(old) and new == old:
        return None
    write(file, put(value, path, MARK), MARK, text)
    allowed = OTHER if another(old, new) else KNOWN
    if path[-1:] == ("model_max_length",) and kind(new) == "integer" and new > LARGEST:
        allowed = OTHER  # transformers writes 1e30 where there is no limit
    if path[-1:] == ("dropout",) or folder.title(file) == "SOURCE.json":
        allowed = KNOWN
    return Spoiled(f"{folder.title(file)} {list(path)}: {str(old)[:40]!r} -> {name}", allowed)


def objects(value: Any) -> list[tuple[Any, ...]]:
    """The paths of objects that have keys."""
    found = [path for path in places(value) if isinstance(at(value, path), dict)]
    return [path for path in found if at(value, path)]


def dropped(folder: Folder, random: Random) -> Spoiled | None:
    """One key is missing."""
    found = chosen(folder, random)
    if found is None or not (paths := objects(found[1])):
        return None
    file, value = found
    path = random.choice(paths)
    own = at(value, path)
    key = random.choice(list(own)[:40])
    del own[key]
    write(file, value)
    return Spoiled(f"{folder.title(file)} {list(path)} without {key!r}", OTHER)


def doubled(folder: Folder, random: Random) -> Spoiled | None:
    """One key stands twice, with two values, and readers take one or the other."""
    found = chosen(folder, random)
    if found is None or not (paths := objects(found[1])):
        return None
    file, value = found
    path = random.choice(paths)
    own = at(value, path)
    key = random.choice(list(own)[:40])
    name, text = random.choice([("the same", json.dumps(own[key])), *list(VALUES.items())[:20]])
    first = random.random() < 0.5
    more = {MARK: "@@value@@"}
    write(
        file, put(value, path, {**more, **own} if first else {**own, **more}), MARK, json.dumps(key)
    )
    file.write_text(file.read_text(encoding="utf-8").replace('"@@value@@"', text), encoding="utf-8")
    where = "before" if first else "behind"
    return Spoiled(f"{folder.title(file)} {list(path)}: {key!r} again, {where}: {name}", KNOWN)


def added(folder: Folder, random: Random) -> Spoiled | None:
    """A key that nobody knows; to be refused where it may matter, or to be passed over."""
    found = chosen(folder, random)
    if found is None or not (paths := objects(found[1])):
        return None
    file, value = found
    path = random.choice(paths)
    key = random.choice(("new_key", "\x1b[31mred", "a\0b", "k" * 50_000, "", "rope_theta", "scale"))
    own = at(value, path)
    own[key] = MARK
    name, text = random.choice(list(VALUES.items()))
    write(file, value, MARK, text)
    return Spoiled(f"{folder.title(file)} {list(path)} with {key[:20]!r}: {name}", OTHER)


def rearranged(folder: Folder, random: Random) -> Spoiled | None:
    """The same JSON in other words: order, spaces, escapes."""
    found = chosen(folder, random)
    if found is None:
        return None
    file, value = found
    order = random.random() < 0.5 and file.name != "tokenizer.json"
    escaped, indent = random.random() < 0.5, random.choice((None, 1, 4, "\t"))
    text = json.dumps(value, sort_keys=order, ensure_ascii=escaped, indent=indent)
    file.write_text(text + random.choice(("", "\n", " \r\n\t")), encoding="utf-8")
    return Spoiled(f"{folder.title(file)} written in another way", HARMLESS)


JSON: list[Mutation] = [replaced, replaced, replaced, replaced, dropped, doubled, added, rearranged]
