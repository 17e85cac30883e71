"""Files of figures: the report of a model, and studies of many models."""

from __future__ import annotations

from nerfgen.artifact.schema import Dataset, Schema

_ENTRY = (
    Dataset("table", "string", ("entry",), "table of each figure"),
    Dataset("metric", "string", ("entry",), "name of each figure, its unit at the end"),
    Dataset("mean", "float64", ("entry",), "the figure; NaN where nothing could be measured"),
    Dataset("low", "float64", ("entry",), "lower bound of its 95% interval, by bootstrap over items"),
    Dataset("high", "float64", ("entry",), "upper bound"),
    Dataset("n", "int64", ("entry",), "items that it is of"),
)

REPORT_SCHEMAS = (
    Schema(
        "report/1",
        "how good a model is (`nerfgen evaluate`)",
        (
            *_ENTRY,
            Dataset("value_table", "string", ("value",), "table of each single value"),
            Dataset("value_metric", "string", ("value",), "metric of each single value"),
            Dataset("value_item", "string", ("value",), "photograph, view or sample that it is of"),
            Dataset("value", "float64", ("value",), "the value; NaN where it could not be measured"),
            Dataset("note_table", "string", ("note",), "table of each note"),
            Dataset("note", "string", ("note",), "of what a table is, or what it lacks"),
            Dataset("note_kind", "string", ("note",), "`of`, or `missing`"),
        ),
        {"name": "the model's name"},
        optional_groups={
            "pictures": "by table and title: a grid of pictures, uint8 (item, column, line, column, 3), with "
            "attributes `items` and `columns`",
            "points": "by table and title: pairs of numbers (point, 2), with attributes `x` and `y`, what they are",
        },
    ),
    Schema(
        "study/1",
        "figures of models that differ in one setting (`nerfgen evaluate --sweep`)",
        (
            *_ENTRY,
            Dataset("point", "int64", ("entry",), "point of the study that each figure is of"),
            Dataset("setting", "string", ("point",), "value of the setting at each point"),
            Dataset("images", "int64", ("point",), "photographs that the point's model was trained on"),
            Dataset("steps", "int64", ("point",), "training steps of its model"),
        ),
        {"name": "the setting that is swept"},
    ),
)
