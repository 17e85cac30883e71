"""Published figures of TPU chips."""

from __future__ import annotations

from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Chip:
    """One chip, which JAX sees as one device.

    Attributes:
        generation: as topologies are named, such as ``v5e``.
        kind: JAX's name of the device.
        flops: peak bfloat16 rate, additions and multiplications per second.
        memory: size of the high-bandwidth memory, bytes.
        bandwidth: of that memory, bytes per second.
        link_bandwidth: bytes per second that a chip sends to its neighbours, while it receives as many.
        clock: cycles per second, by which the compiler's estimates become times.
        has_two_cores: whether the chip has two cores that JAX may see as one device.
    """

    generation: str
    kind: str
    flops: float
    memory: int
    bandwidth: float
    link_bandwidth: float
    clock: float
    has_two_cores: bool = False


# Peak, memory and bandwidths: the pages "TPU v4", "TPU v5e", "TPU v5p" and "TPU v6e" of Google Cloud's documentation
# (cloud.google.com/tpu/docs). Half of the bidirectional interchip bandwidth; for v4, which gives none, the all-reduce
# bandwidth of a pod (1.1 PB/s) by its 4,096 chips. The clock of v4: Jouppi et al., "TPU v4: An Optically Reconfigurable
# Supercomputer for Machine Learning" (2023), table 4. The other clocks: the peak by the products per cycle, of 4 matrix
# units of 128 x 128 (v5e), 8 of them (v5p) and 4 of 256 x 256 (v6e, counted as the peak needs them).
CHIPS = (
    Chip("v4", "TPU v4", 275e12, 32 << 30, 1.2e12, 268e9, 1.05e9, has_two_cores=True),
    Chip("v5e", "TPU v5 lite", 197e12, 16 << 30, 819e9, 200e9, 1.50e9),
    Chip("v5p", "TPU v5", 459e12, 95 << 30, 2.765e12, 600e9, 1.75e9),
    Chip("v6e", "TPU v6 lite", 918e12, 32 << 30, 1.638e12, 400e9, 1.75e9),
)


def chip_of(device: jax.Device) -> Chip | None:
    """The figures of a device; None for one that is no such TPU."""
    return next((chip for chip in CHIPS if chip.kind == device.device_kind), None)
