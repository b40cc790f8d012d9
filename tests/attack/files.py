"""Mutations that know nothing of formats: bytes, kinds of files, files of others, lost files."""

import gzip
import os
import shutil
from pathlib import Path
from random import Random

from tests.attack.spoil import HARMLESS, KNOWN, OTHER, REFUSED, Folder, Mutation, Spoiled

# Text that has no form: any other text is one too.
FORMLESS = (".txt",)
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:"
    b"53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db\nsize 90868376\n"
)
PAGE = b"<!DOCTYPE html>\n<html><body>Access to this model is restricted.</body></html>\n"
# Files whose unknown keys are passed over, as their own libraries do.
TOLERANT = (
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "SOURCE.json",
)
# Files that nobody reads where they are.
STRANGERS = {
    "README.md": b"# A model\n",
    ".DS_Store": b"\0\0\0\1Bud1",
    "onnx/model.onnx": b"\x08\x07",
    "pytorch_model.bin": b"PK\3\4",
    "training_args.bin": b"\x80\2}q\0.",
    "eval/results.csv": b"epoch,steps\n",
}


def rewritten(file: Path, contents: bytes) -> None:
    """Other bytes in a file, behind a link where it is one."""
    file.write_bytes(contents)


# --- bytes -------------------------------------------------------------------------------------


def truncated(folder: Folder, random: Random) -> Spoiled | None:
    """The file ends early."""
    file = folder.pick(random)
    if file is None or len(contents := file.read_bytes()) < 2:
        return None
    most = random.choice((len(contents) - 1, len(contents) // 2, random.randrange(len(contents))))
    rewritten(file, contents[:most])
    if contents[most:].strip() == b"":
        return Spoiled(f"{folder.title(file)} without its last line end", HARMLESS)
    allowed = OTHER if file.suffix in FORMLESS else KNOWN
    return Spoiled(f"{folder.title(file)} cut after {most} of {len(contents)} bytes", allowed)


def extended(folder: Folder, random: Random) -> Spoiled | None:
    """Something stands behind the end of the file."""
    file = folder.pick(random)
    if file is None:
        return None
    more = random.choice((b"\0" * 64, b"}", b"\n{}", b"\xff\xfe", b"# end", bytes(4096)))
    rewritten(file, file.read_bytes() + more)
    allowed = OTHER if file.suffix in FORMLESS and more.isascii() and b"\0" not in more else KNOWN
    return Spoiled(f"{folder.title(file)} with {len(more)} bytes {more[:8]!r} behind", allowed)


def flipped_text(folder: Folder, random: Random) -> Spoiled | None:
    """One bit of a text file is the other."""
    file = folder.pick(random, random.choice((".json", ".txt")))
    if file is None:
        return None
    contents = bytearray(file.read_bytes())
    if not contents:
        return None
    place, bit = random.randrange(len(contents)), random.randrange(8)
    contents[place] ^= 1 << bit
    rewritten(file, bytes(contents))
    return Spoiled(f"{folder.title(file)} with bit {bit} of byte {place} flipped", OTHER)


def zeroed_text(folder: Folder, random: Random) -> Spoiled | None:
    """A block of a text file is zeros, as where a disk lost it."""
    file = folder.pick(random, random.choice((".json", ".txt")))
    if file is None:
        return None
    contents = file.read_bytes()
    size = min(len(contents), random.choice((16, 512, 4096, len(contents))))
    if not size:
        return None
    first = random.randrange(len(contents) - size + 1)
    rewritten(file, contents[:first] + bytes(size) + contents[first + size :])
    return Spoiled(f"{folder.title(file)} with {size} zeros at {first}", KNOWN)


def marked(folder: Folder, random: Random) -> Spoiled | None:
    """Line ends and marks of other systems."""
    file = folder.pick(random, random.choice((".json", ".txt")))
    if file is None:
        return None
    contents = file.read_bytes()
    made = {
        "line ends of Windows": contents.replace(b"\n", b"\r\n"),
        "a byte order mark": b"\xef\xbb\xbf" + contents,
        "UTF-16": contents.decode("utf-8").encode("utf-16"),
    }
    name = random.choice(list(made))
    rewritten(file, made[name])
    allowed = OTHER if file.suffix in FORMLESS else KNOWN
    return Spoiled(f"{folder.title(file)} with {name}", allowed)


# --- kinds of files ----------------------------------------------------------------------------


def other_kind(folder: Folder, random: Random) -> Spoiled | None:
    """Something stands where a file should, and it is not a file."""
    file = folder.pick(random)
    if file is None:
        return None
    file.unlink()
    kind = random.choice(("folder", "FIFO", "dangling", "loop", "zero", "null", "link to folder"))
    if kind == "folder":
        file.mkdir()
    elif kind == "FIFO":
        os.mkfifo(file)
    else:
        targets = {"loop": file.name, "zero": "/dev/zero", "null": "/dev/null"}
        file.symlink_to(targets.get(kind, "../../blobs/0123" if kind == "dangling" else "."))
    return Spoiled(f"{folder.title(file)} is: {kind}", KNOWN)


def other_folder(folder: Folder, random: Random) -> Spoiled | None:
    """Something stands where a module's folder should."""
    folders = sorted(own for own in folder.model.iterdir() if own.is_dir())
    if not folders:
        return None
    own = random.choice(folders)
    shutil.rmtree(own)
    kind = random.choice(("file", "FIFO", "dangling", "loop", "nothing", "empty folder"))
    if kind == "file":
        own.write_text("{}")
    elif kind == "FIFO":
        os.mkfifo(own)
    elif kind in ("dangling", "loop"):
        own.symlink_to(own.name if kind == "loop" else "nowhere")
    elif kind == "empty folder":
        own.mkdir()
    return Spoiled(f"the folder {own.name} is: {kind}", KNOWN)


def stranger(folder: Folder, random: Random) -> Spoiled:
    """A file more, which nobody reads, sometimes one that must not be opened."""
    name = random.choice(list(STRANGERS))
    file = folder.model / name
    file.parent.mkdir(exist_ok=True)
    kind = random.choice(("file", "file", "FIFO", "dangling"))
    if kind == "FIFO":
        os.mkfifo(file)
    elif kind == "dangling":
        file.symlink_to("nowhere")
    else:
        file.write_bytes(STRANGERS[name])
    return Spoiled(f"{name} beside, a {kind}", HARMLESS)


# --- other files -------------------------------------------------------------------------------


def other_contents(folder: Folder, random: Random) -> Spoiled | None:
    """What a download can leave where a file should be."""
    file = folder.pick(random)
    if file is None:
        return None
    own = file.read_bytes()
    made = {
        "empty": b"",
        "a pointer of git-lfs": POINTER,
        "a page of HTML": PAGE,
        "compressed": gzip.compress(own),
        "compressed twice": gzip.compress(gzip.compress(own)),
        "all zeros": bytes(len(own)),
        "JSON null": b"null",
        "an empty object": b"{}",
        "an empty list": b"[]",
        "deep brackets": b"[" * 100_000,
        "a pickle": b"\x80\4\x95\0\0\0\0\0\0\0\0}\x94.",
        "an archive": b"PK\3\4" + own[:64],
    }
    name = random.choice(list(made))
    rewritten(file, made[name])
    legal = name == "an empty object" and file.suffix == ".json"  # all its keys are absent
    return Spoiled(f"{folder.title(file)} is {name}", OTHER if legal else KNOWN)


def swapped(folder: Folder, random: Random) -> Spoiled | None:
    """Two files have each other's contents."""
    names = folder.names
    if len(names) < 2:
        return None
    first, second = (folder.model / name for name in random.sample(names, 2))
    one, two = first.read_bytes(), second.read_bytes()
    if one == two:
        return None
    rewritten(first, two)
    rewritten(second, one)
    allowed = OTHER if {first.name, second.name} <= set(TOLERANT) else KNOWN
    return Spoiled(f"{folder.title(first)} and {folder.title(second)} swapped", allowed)


def of_another(folder: Folder, random: Random) -> Spoiled | None:
    """A file of another model has come in its place."""
    file = folder.pick(random)
    donors = [base for base in folder.bases if base.name != folder.base.name and not base.sums]
    donor = random.choice(donors)
    if file is None:
        return None
    theirs = next((own for own in donor.model.rglob(file.name) if own.is_file()), None)
    if theirs is None or theirs.read_bytes() == file.read_bytes():
        return None
    rewritten(file, theirs.read_bytes())
    return Spoiled(f"{folder.title(file)} is that of {donor.name}", OTHER)


# --- lost files --------------------------------------------------------------------------------

# Files that a model can be without: another model, and the folder does not say so.
OPTIONAL = (
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "vocab.txt",
    "SOURCE.json",
)


def lost(folder: Folder, random: Random) -> Spoiled | None:
    """A file is gone."""
    file = folder.pick(random)
    if file is None:
        return None
    file.unlink()
    title = folder.title(file)
    allowed = KNOWN
    if title == "modules.json":
        allowed = REFUSED  # the folder still has its modules
    elif file.name in OPTIONAL or title.startswith("3_"):
        allowed = OTHER
    if folder.base.sums == "source" and title != "SOURCE.json" and allowed == OTHER:
        allowed = KNOWN
    return Spoiled(f"{title} is missing", allowed)


def renamed(folder: Folder, random: Random) -> Spoiled | None:
    """A file has the name that a browser or an editor leaves."""
    file = folder.pick(random)
    if file is None or file.name in OPTIONAL:
        return None
    ending = random.choice((" (1)", ".bak", ".incomplete", "~"))
    file.rename(file.with_name(file.name + ending))
    allowed = REFUSED if folder.title(file) == "modules.json" else KNOWN
    if folder.title(file).startswith("3_"):
        allowed = OTHER
    return Spoiled(f"{folder.title(file)} is called {file.name}{ending}", allowed)


BYTES: list[Mutation] = [truncated, extended, flipped_text, flipped_text, zeroed_text, marked]
PLACES: list[Mutation] = [other_kind, other_kind, other_kind, other_folder, stranger]
CONTENTS: list[Mutation] = [other_contents, swapped, of_another]
LOST: list[Mutation] = [lost, renamed]
