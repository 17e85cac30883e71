"""The files that join the stages: schemas, atomic writing, digests, joins by image, and the stage as a value."""

from typing import TYPE_CHECKING

from nerfgen.lazy import lazy_imports

if TYPE_CHECKING:
    from nerfgen.storage.atomic import (
        atomic_folder,
        atomic_path,
        remove_abandoned,
        remove_folder,
        short_name,
        writing,
    )
    from nerfgen.storage.content import check_attributes, dataset_digest, datasets
    from nerfgen.storage.digest import InputRecord, Record, file_digest, file_record, folder_record
    from nerfgen.storage.division import Shard, parse_shard
    from nerfgen.storage.hdf5 import allocate, create_file, put, put_blocks, put_tree, renew
    from nerfgen.storage.image_rows import (
        STATUSES,
        USABLE,
        changed_images,
        changed_notice,
        image_digests,
        positions,
        usable,
    )
    from nerfgen.storage.join import ShardFile, joined_stage, read_shards, write_joined
    from nerfgen.storage.journal import Digest, Journal, Row
    from nerfgen.storage.reader import (
        class_of,
        get_tree,
        hdf5_errors,
        open_file,
        open_hdf5,
        reading,
        schema_of,
        strings,
    )
    from nerfgen.storage.row_writer import RowWriter
    from nerfgen.storage.schema import ROOT_ATTRIBUTES, Attribute, Dataset, Schema
    from nerfgen.storage.schemas import SCHEMAS
    from nerfgen.storage.seal import check_seal
    from nerfgen.storage.single_writer import OutputBusyError, claim, remove_void_claim
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
    "Attribute",
    "Dataset",
    "Digest",
    "InputRecord",
    "Journal",
    "OutputBusyError",
    "Record",
    "Row",
    "RowWriter",
    "Schema",
    "Shard",
    "ShardFile",
    "Stage",
    "allocate",
    "atomic_folder",
    "atomic_path",
    "changed_images",
    "changed_notice",
    "check_attributes",
    "check_seal",
    "claim",
    "class_of",
    "create_file",
    "dataset_digest",
    "datasets",
    "file_digest",
    "file_record",
    "folder_record",
    "get_tree",
    "hdf5_errors",
    "image_digests",
    "joined_stage",
    "open_file",
    "open_hdf5",
    "parse_shard",
    "positions",
    "put",
    "put_blocks",
    "put_inputs",
    "put_tree",
    "read_shards",
    "reading",
    "remove_abandoned",
    "remove_folder",
    "remove_void_claim",
    "renew",
    "schema_of",
    "short_name",
    "strings",
    "usable",
    "write_joined",
    "writing",
]
