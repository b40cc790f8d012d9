"""Keys that clients must show: read from a file or the environment, compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from jaxbert.errors import InputError

ENVIRONMENT = "JAXBERT_API_KEYS"


class ApiKeys:
    """The digests of the keys that are taken; without any, every request is."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        """Keep only digests, which all have one length: comparing tells nothing of a key's own."""
        self._digests = [digest(key.encode("utf-8")) for key in keys]

    @classmethod
    def read(cls, file: str | None, environment: str | None) -> "ApiKeys":
        """The keys of a file, one a line, and of the environment variable, between commas.

        Raises InputError for a file that cannot be read or holds no key, as for a variable without
        one: a server that was meant to ask for keys must not run without.
        """
        keys: list[str] = []
        if file is not None:
            try:
                lines = Path(file).read_text(encoding="utf-8").split()
            except (OSError, ValueError) as error:
                raise InputError(f"the keys in {file} cannot be read ({error})") from error
            if not lines:
                raise InputError(f"{file} holds no key; write one a line")
            keys += lines
        if environment is not None:
            found = environment.replace(",", " ").split()
            if not found:
                raise InputError(f"{ENVIRONMENT} holds no key; unset it, or put keys in")
            keys += found
        return cls(keys)

    def __bool__(self) -> bool:
        """Whether a key is asked for."""
        return bool(self._digests)

    def allow(self, authorization: bytes | None) -> bool:
        """Whether a header `Authorization: Bearer KEY` has one of the keys."""
        if not self._digests:
            return True
        scheme, _, key = (authorization or b"").partition(b" ")
        shown = digest(key.strip())
        matches = [hmac.compare_digest(shown, own) for own in self._digests]
        return any(matches) and scheme.lower() == b"bearer"


def digest(key: bytes) -> bytes:
    """SHA-256 of a key's bytes."""
    return hashlib.sha256(key).digest()
