"""What a folder requires of the packages whose files are read here: versions that it excludes.

Source: sentence-transformers 6.2, `requirements` of config_sentence_transformers.json: a version
specifier by package, or a dict with a specifier and the reason.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from jaxbert.errors import CheckpointError, shown

KEY = "requirements"
# The versions whose reading of a folder this package has been compared with.
READ_AS = {"sentence-transformers": "6.2.0", "transformers": "5.24.0"}


class RequirementError(CheckpointError, ImportError):
    """A folder for versions of other packages of which nothing is known here."""


def check_requirements(raw: Mapping[str, Any], file: Path, ignore: Collection[str]) -> None:
    """Refuse a folder that is not for the versions of READ_AS, and so may mean something else.

    Other packages are of no concern here; what is no specifier has no effect in
    sentence-transformers either. Raises RequirementError.
    """
    given = raw.get(KEY)
    if KEY in ignore or not isinstance(given, Mapping):
        return
    for package, value in given.items():
        version = READ_AS.get(package.replace("_", "-"))
        wanted = value.get("specifier") if isinstance(value, Mapping) else value
        if version is not None and isinstance(wanted, str) and excludes(wanted, version):
            raise RequirementError(
                f"{file} requires {shown(package + wanted)[1:-1]}, but is read here as {package} "
                f"{version} reads it; if it means the same there, pass "
                f'ignore_config=("{KEY}",)'
            )


def excludes(specifier: str, version: str) -> bool:
    """Whether a version is not among those of a specifier; False for what is none."""
    try:
        return version not in SpecifierSet(specifier)
    except InvalidSpecifier:
        return False
