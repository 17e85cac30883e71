"""Trees of arrays (nested dictionaries) as HDF5 groups."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np


def put_tree(group: h5py.Group, tree: dict[str, Any]) -> None:
    """Write nested dictionaries of arrays, in sorted order, so that equal trees give equal files."""
    for name in sorted(tree):
        if isinstance(tree[name], dict):
            put_tree(group.create_group(name), tree[name])
        else:
            group.create_dataset(name, data=np.asarray(tree[name]))


def get_tree(group: h5py.Group) -> dict[str, Any]:
    """Read what :func:`put_tree` wrote."""
    return {
        name: get_tree(item) if isinstance(item, h5py.Group) else item[()] for name, item in group.items()
    }
