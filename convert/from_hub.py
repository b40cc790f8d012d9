"""A model of the Hugging Face hub -> a plain folder, pinned to a commit, every file accounted for.

    python convert/from_hub.py OWNER/NAME FOLDER --revision COMMIT
    python convert/from_hub.py --check FOLDER

Fetched are safetensors and what describes them, never a pickle, never code. SOURCE.json in the
folder says which commit of which repository it is, and each file's size and SHA-256; --check
compares the folder with it and needs no network.

Exit status: 0 if all is well; 1 if jaxbert refuses the fetched folder, which is kept, or if files
are not those of SOURCE.json; 2 if nothing could be fetched or compared.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from common import (
    NotDoneError,
    allowed,
    beside,
    names,
    put_in_place,
    run,
    understood,
    vacant,
)

from jaxbert.checkpoint.hub import clean_token, without
from jaxbert.checkpoint.json_file import read_object
from jaxbert.checkpoint.sums import SOURCE, digests, git_sha1, sha256
from jaxbert.cli import one_line

PROGRAM = "from_hub.py"
# Where the hub's client keeps its notes inside a folder that it downloads into.
NOTES = ".cache"


def parser() -> argparse.ArgumentParser:
    """What to fetch and where to, or what to check."""
    top = argparse.ArgumentParser(
        prog=PROGRAM, description="Fetch a model from the hub, pinned to a commit, and check it."
    )
    top.add_argument("name", metavar="OWNER/NAME", nargs="?", help="the repository on the hub")
    top.add_argument("folder", metavar="FOLDER", nargs="?", help="new; written whole or not at all")
    top.add_argument(
        "--revision", metavar="COMMIT", help="a branch or tag is resolved to its commit"
    )
    top.add_argument("--token", help="for what is not public (default: HF_TOKEN)")
    top.add_argument("--check", metavar="FOLDER", help="compare its files with its SOURCE.json")
    return top


# --- fetching ----------------------------------------------------------------------------------


def said(api: Any, error: Exception) -> str:
    """What the client's error says, on one line and without the token."""
    return without(api.token, one_line(error))


def commit_of(api: Any, name: str, revision: str) -> str:
    """The commit that a branch, a tag or a commit is; NotDoneError where there is none."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        commit = api.model_info(name, revision=revision).sha
    except RevisionNotFoundError as error:
        raise NotDoneError(f"{name} has no revision {revision}; see its list of commits") from error
    except RepositoryNotFoundError as error:
        raise NotDoneError(
            f"{name} is not on the hub for you; if it is private or gated, pass --token"
        ) from error
    except Exception as error:  # the client raises many kinds: network, offline, names
        raise NotDoneError(f"{name} could not be asked for: {said(api, error)}") from error
    if re.fullmatch("[0-9a-f]{40}", revision) and commit != revision:
        raise NotDoneError(f"asked for the commit {revision} of {name}, the hub answers {commit}")
    return commit


def wanted(api: Any, name: str, commit: str) -> dict[str, Any]:
    """The files to fetch, by path, with what the hub publishes about each."""
    from huggingface_hub.hf_api import RepoFile

    try:
        entries = api.list_repo_tree(name, recursive=True, revision=commit)
        files = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    except Exception as error:  # as above
        raise NotDoneError(f"{name} could not be listed: {said(api, error)}") from error
    stems = [PurePosixPath(path).name for path in files]
    if not any(fnmatchcase(stem, "model*.safetensors") for stem in stems):
        pickles = sorted(stem for stem in stems if fnmatchcase(stem, "pytorch_model*.bin"))
        if not pickles:
            raise NotDoneError(f"{name} at {commit} has no model.safetensors, so it has no weights")
        raise NotDoneError(
            f"{name} at {commit} has its weights only as {pickles[0]}, a pickle, which is never "
            "fetched here; convert/from_torch.py converts one that you fetched by hand"
        )
    # A SOURCE.json of theirs would be taken for ours, and .cache is the client's.
    own = (SOURCE, f"{NOTES}/")
    return {path: files[path] for path in files if allowed(path) and not path.startswith(own)}


def fetch(api: Any, name: str, commit: str, files: dict[str, Any], partial: Path) -> None:
    """Download the files; those that an interrupted run left whole are not fetched again."""
    strangers = {path for path in names(partial) if not path.startswith(f"{NOTES}/")}
    strangers -= {*files, SOURCE}
    if strangers:
        raise NotDoneError(
            f"{partial} holds {sorted(strangers)[0]}, which is not of {name} at {commit}; "
            "delete that folder and try again"
        )
    for path in files:
        try:
            api.hf_hub_download(name, path, revision=commit, local_dir=partial)
        except Exception as error:  # as above
            raise NotDoneError(
                f"{path} of {name} could not be fetched ({said(api, error)}); what is complete is "
                f"kept in {partial}: run this again"
            ) from error


def compared(partial: Path, path: str, entry: Any) -> dict[str, Any]:
    """Size and SHA-256 of a fetched file, which must be the one that the hub publishes.

    For a large file that is its SHA-256, for any other git's name of it, a SHA-1.
    """
    file = partial / path
    own = sha256(file)
    git = entry.lfs is None
    same = digests(file, (git_sha1,)) == [entry.blob_id] if git else own == entry.lfs.sha256
    if not same:
        file.unlink()
        raise NotDoneError(
            f"{path} does not have the checksum that the hub publishes and was deleted; run this "
            "again"
        )
    return {"size": file.stat().st_size, "sha256": own}


def from_hub(name: str, folder: str, revision: str, token: str | None) -> bool:
    """Fetch a model into a new folder; whether jaxbert understands it."""
    from huggingface_hub import HfApi

    place = vacant(folder)
    partial = beside(place)
    api = HfApi(token=clean_token(token))
    commit = commit_of(api, name, revision)
    files = wanted(api, name, commit)
    partial.mkdir(parents=True, exist_ok=True)
    fetch(api, name, commit, files, partial)
    sums = {path: compared(partial, path, files[path]) for path in sorted(files)}
    source = {"repository": name, "commit": commit, "files": sums}
    (partial / SOURCE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(partial / NOTES, ignore_errors=True)
    put_in_place(partial, place)
    size = sum(known["size"] for known in sums.values())
    print(f"{name} at {commit}: {len(sums)} files, {size:,} bytes in {folder}")
    return understood(Path(folder), PROGRAM)


# --- checking ----------------------------------------------------------------------------------


def check(folder: str) -> bool:
    """Whether the folder holds the files of its SOURCE.json and no others; names what differs."""
    source = read_object(Path(folder) / SOURCE)
    known = source.get("files")
    if not isinstance(known, dict):
        raise NotDoneError(f"{folder}/{SOURCE} lists no files; fetch the folder again")
    there = names(Path(folder)) - {SOURCE}
    faults = [f"missing: {path}" for path in sorted(known.keys() - there)]
    faults += [f"added: {path}" for path in sorted(there - known.keys())]
    for path in sorted(known.keys() & there):
        file = Path(folder) / path
        if known[path] != {"size": file.stat().st_size, "sha256": sha256(file)}:
            faults.append(f"changed: {path}")
    for fault in faults:
        print(f"{PROGRAM}: {fault}", file=sys.stderr)
    if not faults:
        commit = f"{source.get('repository')} at {source.get('commit')}"
        print(f"{folder} is {commit}: {len(known)} files as they were fetched")
    return not faults


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch or check; what prevents that is one sentence on stderr and exit status 2."""
    top = parser()
    options = top.parse_args(arguments)
    if options.check is not None:
        if options.name is not None or options.revision is not None:
            top.error("--check compares a folder that is there; it takes nothing else")
        return run(PROGRAM, lambda: check(options.check))
    if options.folder is None or options.revision is None:
        top.error("OWNER/NAME, FOLDER and --revision COMMIT are needed, or --check FOLDER")
    return run(
        PROGRAM, lambda: from_hub(options.name, options.folder, options.revision, options.token)
    )


if __name__ == "__main__":
    sys.exit(main())
