"""Who we are and whom we trust: a user with a password, and PEM files, read again whenever they are needed.

Files are renewed under a running process. One that can't be read now is no reason to lose etcd: what was read last
stands in, with a warning. If nothing was read yet the call fails and is tried again, for a volume may come late.
"""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, TypeVar

from p2plb.discovery.etcd.driver import Unavailable

logger = logging.getLogger("p2plb")

MAX_FILE: Final = 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pems:
    """The contents of the PEM files, None for what is not given."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user with a password, or a file that holds it, and PEM files; `ValueError` says what does not go together."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if self.password is not None and self.password_file is not None:
            raise ValueError("a password is given, or a file that holds it, not both")
        if (self.user is None) != (self.password is None and self.password_file is None):
            raise ValueError("user and password go together")
        if self.key and not self.cert:
            raise ValueError("a key is of no use without its certificate: give cert as well")

    @property
    def files(self) -> str:
        """The names of the PEM files, for texts."""
        return ", ".join(filter(None, (self.ca, self.cert, self.key)))

    def read_password(self) -> str:
        """Return the password as it is now; raises `OSError` or `ValueError`."""
        if self.password_file is None:
            return self.password or ""
        try:
            password = _read(self.password_file).decode().rstrip("\r\n")
        except UnicodeDecodeError:  # its text would repeat a part of the password
            raise ValueError("it is not UTF-8") from None
        if not password:
            raise ValueError("it is empty")
        return password

    def read_context(self) -> ssl.SSLContext:
        """Return a context for a new connection; raises `OSError` or `ValueError`."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert:
            self._show(self.cert, context)
        return context

    def read_pems(self) -> Pems:
        """Return the contents of the files, which go together; raises `OSError` or `ValueError`."""
        self.read_context()  # gRPC itself would say what is wrong with them in its own log only
        ca, cert, key = (name and _read(name) for name in (self.ca, self.cert, self.key or self.cert))
        return Pems(ca or None, cert or None, key or None)

    def _show(self, cert: str, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(cert, self.key, password="")  # never ask at the terminal for one
        except ssl.SSLError as error:  # says hardly more than "PEM lib"
            key = self.key or cert
            raise ValueError(f"{cert} is to hold a certificate, {key} its key without a passphrase ({error})") from None


class LastGood(Generic[T]):
    """Reads anew at each `get`; what could be read last stands in for what can't be read now."""

    def __init__(self, read: Callable[[], T], what: str) -> None:
        self._read = read
        self._what = what
        self._good: T | None = None
        self._warned = False

    def get(self) -> T:
        """Return what stands there; raises `Unavailable` if nothing has been read yet."""
        try:
            self._good = found = self._read()
        except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
            return self._stand_in(error)
        self._warned = False
        return found

    def _stand_in(self, error: Exception) -> T:
        if self._good is None:
            raise Unavailable(f"can't use {self._what}: {error}") from None
        if not self._warned:
            self._warned = True
            logger.warning("can't use %s any more, what was read last stands in: %s", self._what, error)
        return self._good


def _read(name: str) -> bytes:
    with Path(name).open("rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise ValueError(f"{name} has more than {MAX_FILE:,} bytes")
    return content
