"""Where files come from: whether they and their inputs are as they were written, and the command that makes them."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.provenance.origin import Call
    from nerfgen.provenance.reconstruction import reconstruct
    from nerfgen.provenance.recorded_inputs import unchanged_input
    from nerfgen.provenance.verification import Verified, find_written, renew, verify

__getattr__ = lazy_imports(__name__)

__all__ = ["Call", "Verified", "find_written", "reconstruct", "renew", "unchanged_input", "verify"]
