"""What every nerfgen file holds: one table, from which files are checked and documented."""

from __future__ import annotations

from nerfgen.artifact.model_schemas import MODEL_SCHEMAS
from nerfgen.artifact.report_schemas import REPORT_SCHEMAS
from nerfgen.artifact.schema import Schema
from nerfgen.artifact.stage_schemas import STAGE_SCHEMAS

SCHEMAS: dict[str, Schema] = {
    schema.name: schema for schema in (*STAGE_SCHEMAS, *MODEL_SCHEMAS, *REPORT_SCHEMAS)
}
