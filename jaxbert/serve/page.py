"""GET /: one page of HTML without a build step, kept as a file beside this one."""

from functools import cache
from importlib.resources import files

# The page loads nothing from elsewhere, and can be shown in no frame.
POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    b"connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; "
    b"form-action 'none'"
)
SAFE = [
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


@cache
def html() -> bytes:
    """The page; what it shows it asks of the server that sent it."""
    return files("jaxbert.serve").joinpath("page.html").read_bytes()
