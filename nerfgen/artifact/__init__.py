"""The HDF5 files that join the stages: schemas, atomic writing, provenance and joins."""

from nerfgen.artifact.file import (
    allocate,
    atomic_folder,
    atomic_path,
    check,
    class_of,
    create,
    put,
    put_inputs,
    reading,
    remove_abandoned,
    remove_folder,
    strings,
)
from nerfgen.artifact.join import positions, usable
from nerfgen.artifact.provenance import (
    About,
    check_origin,
    file_digest,
    file_record,
    folder_record,
    is_current,
)
from nerfgen.artifact.schema import ROOT_ATTRIBUTES, STATUSES, USABLE, Dataset, Schema
from nerfgen.artifact.schemas import SCHEMAS
from nerfgen.artifact.tree import get_tree, put_tree

__all__ = [
    "ROOT_ATTRIBUTES",
    "SCHEMAS",
    "STATUSES",
    "USABLE",
    "About",
    "Dataset",
    "Schema",
    "allocate",
    "atomic_folder",
    "atomic_path",
    "check",
    "check_origin",
    "class_of",
    "create",
    "file_digest",
    "file_record",
    "folder_record",
    "get_tree",
    "is_current",
    "positions",
    "put",
    "put_inputs",
    "put_tree",
    "reading",
    "remove_abandoned",
    "remove_folder",
    "strings",
    "usable",
]
