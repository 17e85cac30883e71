"""What all optimisations share: Adam on rows of a table, the loop, checkpoints, devices.

Never knows what is optimised.
"""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.optimize.checkpoint import (
        Checkpoint,
        CheckpointSeries,
        load_checkpoint,
        require_same_run,
    )
    from nerfgen.optimize.devices import (
        AXIS,
        cpu_multiplies_bfloat16,
        device_mesh,
        free_device_memory,
        free_host_memory,
        host_device,
        platform,
        platform_problem,
        quickly_compiled,
    )
    from nerfgen.optimize.hosts import ONE_HOST, Agreement, HostError, Hosts, connected
    from nerfgen.optimize.loop import Advance, Clock, Limits, run_loop
    from nerfgen.optimize.placement import fetch_rows, place, place_parts, row_blocks
    from nerfgen.optimize.shared_checkpoint import read_shared
    from nerfgen.optimize.sparse_adam import (
        RowGradient,
        RowSparseAdamState,
        RowUpdate,
        apply_row_update,
        gather_rows,
        row_sparse_adam,
        scatter_rows,
    )

__getattr__ = lazy_imports(__name__)

__all__ = [
    "AXIS",
    "ONE_HOST",
    "Advance",
    "Agreement",
    "Checkpoint",
    "CheckpointSeries",
    "Clock",
    "HostError",
    "Hosts",
    "Limits",
    "RowGradient",
    "RowSparseAdamState",
    "RowUpdate",
    "apply_row_update",
    "connected",
    "cpu_multiplies_bfloat16",
    "device_mesh",
    "fetch_rows",
    "free_device_memory",
    "free_host_memory",
    "gather_rows",
    "host_device",
    "load_checkpoint",
    "place",
    "place_parts",
    "platform",
    "platform_problem",
    "quickly_compiled",
    "read_shared",
    "require_same_run",
    "row_blocks",
    "row_sparse_adam",
    "run_loop",
    "scatter_rows",
]
