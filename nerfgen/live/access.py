"""Who may talk to a server of this machine: its own pages and programs, and those that hold its token.

A page in the user's browser can send requests to every address of the machine. Two headers that no page can forge tell
where a request comes from: ``Origin``, the page's own address, and ``Host``, the name by which the server was called,
which belongs to somebody else if that somebody has rebound their name to this machine.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from nerfgen.errors import InputError
from nerfgen.settings import SettingError

LOOPBACK = "127.0.0.1"
# Parameter of an address, and start of the name of a cookie, that hold the token.
TOKEN = "token"
_TOKEN_BYTES = 24
# Tokens that stand unchanged in an address and in a cookie.
_TOKENS = re.compile(r"[A-Za-z0-9._~-]*")


def local_name(host: str) -> str:
    """How programs of this machine reach a server that listens at ``host``."""
    return "localhost" if host in ("", "0.0.0.0", "::") else host


def local_url(host: str, port: int) -> str:
    """The address of such a server, without a path."""
    name = local_name(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def listening_socket(host: str, port: int, backlog: int = 1) -> socket.socket:
    """A socket that listens at an address; any free port for 0.

    Raises:
        InputError: the address is none of this machine's, or the port is taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=backlog)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise InputError(
            f"`host` {host} `port` {port}: {reason}; choose another `port`, or 0 for any"
        ) from error


def is_loopback(host: str) -> bool:
    """Whether a server at this address can be reached from this machine only.

    Raises:
        SettingError: it is no address and no name that this machine knows.
    """
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host or "0.0.0.0", None)}
    except (OSError, UnicodeError) as error:
        raise SettingError(
            f"`host` {host!r} is no address of this machine; give one such as 127.0.0.1 or 0.0.0.0"
        ) from error
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)


@dataclass(frozen=True)
class Access:
    """What requests have to bring.

    Attributes:
        names: host names of the server, in lower case; addresses are always its own.
        token: that requests have to carry; empty where none is needed.
    """

    names: frozenset[str]
    token: str = ""

    @classmethod
    def of(cls, host: str, names: tuple[str, ...] = (), token: str = "") -> Access:
        """Access to a server.

        Args:
            host: that it listens at. Elsewhere than on the loopback device a token is needed, by default a random one.
            names: further names by which it may be called.
            token: to use in place of a random one.

        Raises:
            SettingError: the host is no address, or the token has other signs than letters, digits, ``.``, ``_``,
                ``~`` and ``-``.
        """
        own = {"localhost", host.lower(), socket.gethostname().lower(), *(name.lower() for name in names)}
        if not _TOKENS.fullmatch(token):
            raise SettingError(
                "`token` (or NERFGEN_TOKEN) has characters that an address or a cookie can't hold; use letters, "
                "digits, - and _, such as those of python -c 'import secrets; print(secrets.token_urlsafe(24))'"
            )
        if not token and not is_loopback(host):
            token = secrets.token_urlsafe(_TOKEN_BYTES)
        return cls(frozenset(own - {""}), token)

    def refusal(self, headers: Mapping[str, str], target: str, port: int) -> str:
        """Why a request is refused; empty if it is not.

        Args:
            headers: with names in lower case.
            target: path and query.
            port: of the server, which names its cookie.
        """
        if refusal := self.refusal_of_site(headers):
            return refusal
        return "" if self.has_token(headers, target, port) else "the token is missing or wrong"

    def refusal_of_site(self, headers: Mapping[str, str]) -> str:
        """Why a request is refused whatever its token: it comes from another site. Empty if it does not."""
        host = headers.get("host", "")
        if not self._is_own(host):
            return f"Host {host!r} is not a name of this server"
        origin = headers.get("origin")
        if origin is not None and _location(origin) != host.lower():
            return f"Origin {origin!r} is another site"
        # Images and scripts of other pages come without an Origin; links to the page itself are harmless.
        is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_link:
            return "the request comes from a page of another site"
        return ""

    def has_token(self, headers: Mapping[str, str], target: str, port: int) -> bool:
        """Whether a request carries the token, or none is needed; see :meth:`refusal`."""
        return not self.token or any(_equal(given, self.token) for given in _tokens(headers, target, port))

    def cookie(self, target: str, port: int) -> str:
        """The cookie that keeps the token which an address carries; empty where it carries none."""
        if not self.token or not any(_equal(given, self.token) for given in _query_tokens(target)):
            return ""
        return f"{_cookie_name(port)}={self.token}; HttpOnly; SameSite=Strict; Path=/"

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:  # brackets without an address in them
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower() in self.names
        return True


def _tokens(headers: Mapping[str, str], target: str, port: int) -> list[str]:
    """All tokens that a request carries."""
    found = _query_tokens(target)
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        found.append(value.strip())
    # Other programs of this host name may have set cookies of any form.
    for cookie in headers.get("cookie", "").split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == _cookie_name(port):
            found.append(value)
    return found


def _query_tokens(target: str) -> list[str]:
    return parse_qs(target.partition("?")[2]).get(TOKEN, [])


def _location(origin: str) -> str:
    """Host and port of a page's address, in lower case; empty where it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _cookie_name(port: int) -> str:
    return f"nerfgen-{TOKEN}-{port}"


def _equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())
