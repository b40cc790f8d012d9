"""What a folder requires of the packages whose files are read here: later versions than are known.

Source: sentence-transformers 6.2, `requirements` of config_sentence_transformers.json: a version
specifier by package, or a dict with a specifier and the reason.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from jaxbert.errors import CheckpointError, shown

KEY = "requirements"
# The versions whose reading of a folder this package has been compared with.
READ_AS = {"sentence-transformers": "6.2.0", "transformers": "5.24.0"}
# The operators of a specifier that ask for a version; of the others != says which will not do.
ASKING = (">=", ">", "~=", "==", "===")


class RequirementError(CheckpointError, ImportError):
    """A folder for other versions of other packages than those by which it is read here."""


def check_requirements(raw: Mapping[str, Any], file: Path, ignore: Collection[str]) -> None:
    """Refuse a folder for later versions than those of READ_AS, or for others than these.

    By them it may mean another model. Earlier versions and other packages are of no concern here;
    what is no specifier has no effect in sentence-transformers either. Raises RequirementError.
    """
    given = raw.get(KEY)
    if KEY in ignore or not isinstance(given, Mapping):
        return
    for package, value in given.items():
        version = READ_AS.get(canonicalize_name(package))
        wanted = value.get("specifier") if isinstance(value, Mapping) else value
        if version is not None and isinstance(wanted, str) and excludes(wanted, Version(version)):
            raise RequirementError(
                f"{file} requires {shown(package + wanted)[1:-1]}, but is read here as "
                f"{canonicalize_name(package)} {version} reads it; if it means the same there, "
                f'pass ignore_config=("{KEY}",)'
            )


def excludes(specifier: str, known: Version) -> bool:
    """Whether a specifier is against the known version, and not for an earlier one alone."""
    try:
        clauses = SpecifierSet(specifier)
    except InvalidSpecifier:
        return False
    return any(known not in clause and not for_earlier(clause, known) for clause in clauses)


def for_earlier(clause: Specifier, known: Version) -> bool:
    """Whether a clause that the known version does not meet asks for an earlier one."""
    if clause.operator in ("<", "<="):
        return True
    if clause.operator not in ASKING:
        return False
    try:
        return Version(clause.version.removesuffix(".*")) < known
    except InvalidVersion:  # of ===, which takes any words
        return False
