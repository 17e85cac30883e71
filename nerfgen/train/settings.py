"""Settings of training on many hosts: how they find each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nerfgen.settings import MAX_MINUTES, SettingError, Settings, setting

if TYPE_CHECKING:
    from nerfgen.optimize import Hosts

_MAX_HOSTS = 65_536


@dataclass(frozen=True)
class HostSettings(Settings, title="Hosts"):
    """Whether a run is one of many hosts, each a process that is started with the same command."""

    distributed: bool = setting(
        False,
        help="Train on many hosts: the same command runs on each of them, and JAX detects how SLURM, Open MPI, Cloud "
        "TPU, GKE or Kubernetes has started them. The first host writes files and messages.",
    )
    coordinator: str | None = setting(
        None,
        metavar="HOST:PORT",
        help="Address of the first host, and a free port there, without such a cluster.",
    )
    num_hosts: int | None = setting(
        None, minimum=1, maximum=_MAX_HOSTS, help="Number of hosts, without such a cluster."
    )
    host_index: int | None = setting(
        None, minimum=0, maximum=_MAX_HOSTS - 1, help="Index of this host, from 0, without such a cluster."
    )
    wait_minutes: float = setting(
        10.0, above=0, maximum=MAX_MINUTES, help="Time to wait for hosts that start late."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [self.coordinator, self.num_hosts, self.host_index]
        if not self.distributed:
            if any(value is not None for value in given):
                raise SettingError(
                    "`coordinator`, `num_hosts` and `host_index` are for `distributed`; give it too"
                )
            return
        if any(value is None for value in given) and any(value is not None for value in given):
            raise SettingError(
                "`coordinator`, `num_hosts` and `host_index` belong together; give all or none"
            )
        if self.host_index is not None and self.num_hosts is not None and self.host_index >= self.num_hosts:
            raise SettingError(
                f"`host_index` {self.host_index} is too large for `num_hosts` {self.num_hosts}; indices begin at 0"
            )
        if self.coordinator is not None:
            name, _, port = self.coordinator.rpartition(":")
            if not name or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65_536:
                raise SettingError(
                    f"`coordinator` {self.coordinator} is no address with a port, such as 10.0.0.1:7777"
                )

    @contextlib.contextmanager
    def connected(self) -> Iterator[Hosts]:
        """The hosts of the run, which the block is; one host where it is not distributed.

        Raises:
            InputError: no cluster is detected.
            HostError: a host is missing.
        """
        from nerfgen.optimize import ONE_HOST, connected

        if not self.distributed:
            yield ONE_HOST
            return
        with connected(self.coordinator, self.num_hosts, self.host_index, self.wait_minutes) as hosts:
            yield hosts
