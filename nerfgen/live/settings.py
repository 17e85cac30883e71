"""Settings of servers: where they listen, and who may use them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from nerfgen.live.access import is_loopback
from nerfgen.settings import Settings, setting

TOKEN_VARIABLE = "NERFGEN_TOKEN"


@dataclass(frozen=True)
class Listening(Settings, title="Server"):
    """Where a server listens, and who may use it."""

    host: str = setting(
        "127.0.0.1",
        metavar="ADDRESS",
        help="Address to listen at. At any but a loopback address, requests have to carry a token.",
    )
    port: int = setting(8080, minimum=0, maximum=65_535, help="Port to listen at; 0 for any that is free.")
    allow_host: tuple[str, ...] = setting(
        (), metavar="NAME", help="Further host name of the server, such as that of a proxy; may be repeated."
    )
    token: str | None = setting(
        None,
        metavar="TOKEN",
        help=f"Token that requests have to carry. Other users of the machine can see it here: prefer the variable "
        f"{TOKEN_VARIABLE}. Without either, a random one is made where `--host` needs one.",
    )
    max_upload: float = setting(
        32.0, above=0, maximum=4096, unit="MiB", help="Most that one visitor or request may send at a time."
    )

    @property
    def given_token(self) -> str:
        """The token that the user chose; empty for none."""
        return self.token or os.environ.get(TOKEN_VARIABLE, "")

    @property
    def takes_random_token(self) -> bool:
        """Whether requests have to carry a token that the user did not choose."""
        return not self.given_token and not is_loopback(self.host)

    @property
    def max_bytes(self) -> int:
        """Most bytes that one visitor or request may send at a time."""
        return int(self.max_upload * 2**20)
