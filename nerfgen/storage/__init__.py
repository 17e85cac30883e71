"""The files that join the stages: schemas, atomic writing, digests, joins by image, and the stage as a value."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.storage.atomic import atomic_folder, atomic_path, remove_abandoned, remove_folder
    from nerfgen.storage.digest import InputRecord, Record, file_digest, file_record, folder_record
    from nerfgen.storage.hdf5 import allocate, check, class_of, get_tree, put, put_tree, reading, strings
    from nerfgen.storage.image_rows import STATUSES, USABLE, positions, usable
    from nerfgen.storage.journal import Digest, Journal, Row
    from nerfgen.storage.schema import ROOT_ATTRIBUTES, Dataset, Schema
    from nerfgen.storage.schemas import SCHEMAS
    from nerfgen.storage.stage import (
        ELSEWHERE,
        REPLACE,
        Stage,
        put_inputs,
    )

__getattr__ = lazy_imports(__name__)

__all__ = [
    "ELSEWHERE",
    "REPLACE",
    "ROOT_ATTRIBUTES",
    "SCHEMAS",
    "STATUSES",
    "USABLE",
    "Dataset",
    "Digest",
    "InputRecord",
    "Journal",
    "Record",
    "Row",
    "Schema",
    "Stage",
    "allocate",
    "atomic_folder",
    "atomic_path",
    "check",
    "class_of",
    "file_digest",
    "file_record",
    "folder_record",
    "get_tree",
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
