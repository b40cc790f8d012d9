"""What a folder requires of the packages whose files are read here: later versions than are known.

Source: sentence-transformers 6.2, `requirements` of config_sentence_transformers.json: a version
specifier by package, or a dict with a specifier and the reason.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from jaxbert.errors import CheckpointError, shown

KEY = "requirements"
# The versions whose reading of a folder this package has been compared with.
READ_AS = {"sentence-transformers": "6.2.0", "transformers": "5.24.0"}
# The operators of a specifier that ask for a version; the others say which will not do.
ASKING = (">=", ">", "~=", "==", "===")


class RequirementError(CheckpointError, ImportError):
    """A folder for later versions of other packages than are known here."""


def check_requirements(raw: Mapping[str, Any], file: Path, ignore: Collection[str]) -> None:
    """Refuse a folder for later versions than those of READ_AS, by which it may mean another model.

    Earlier versions and other packages are of no concern here; what is no specifier has no effect
    in sentence-transformers either. Raises RequirementError.
    """
    given = raw.get(KEY)
    if KEY in ignore or not isinstance(given, Mapping):
        return
    for package, value in given.items():
        version = READ_AS.get(package.replace("_", "-"))
        wanted = value.get("specifier") if isinstance(value, Mapping) else value
        if version is not None and isinstance(wanted, str) and is_later(wanted, version):
            raise RequirementError(
                f"{file} requires {shown(package + wanted)[1:-1]}, but is read here as {package} "
                f"{version} reads it; if it means the same there, pass "
                f'ignore_config=("{KEY}",)'
            )


def is_later(specifier: str, version: str) -> bool:
    """Whether a specifier asks for a later version than this one; False for what is none."""
    known = Version(version)
    try:
        return any(
            clause.operator in ASKING
            and Version(clause.version.removesuffix(".*")) >= known
            and known not in clause
            for clause in SpecifierSet(specifier)
        )
    except ValueError:
        return False
