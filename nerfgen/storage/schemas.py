"""All schemas by name, and those of stages, synthetic classes and evaluation."""

from __future__ import annotations

from nerfgen.storage.model_schemas import MODEL_SCHEMAS
from nerfgen.storage.schema import IMAGE, IMAGE_DIGEST, REASON, STATUS, Attribute, Dataset, Schema, Values

_SIZE = Dataset(
    "image_size",
    "int32",
    ("image", 2),
    "width and height of the upright image (0 if unreadable)",
    "pixel",
    values=Values(0, 1_000_000, kind="size"),
)
_INTRINSICS = Dataset(
    "intrinsics",
    "float64",
    ("image", 3, 3),
    "pinhole matrix; NaN where there is no camera",
    "pixel",
    "image",
    values=Values(nan="unusable", kind="intrinsics"),
)
_POSE = Dataset(
    "cam_to_world",
    "float64",
    ("image", 4, 4),
    "camera pose, OpenCV axes; NaN where there is none",
    "world",
    "world",
    values=Values(nan="unusable", kind="pose"),
)
_WINDOW = Dataset(
    "window",
    "float64",
    ("image", 3),
    "(x0, y0, side) of the square window that shows the object; may extend beyond the image",
    "pixel",
    "image",
    values=Values(nan="unusable", kind="window"),
)
_INSTANCE = Dataset(
    "instance",
    "string",
    ("image",),
    "object that each image shows; images of one object share a row of the model's table. Absent if every image "
    "shows a different object",
    optional=True,
    values=Values(kind="path"),
)
_MASK = Dataset(
    "mask",
    "uint8",
    ("image", "row", "column"),
    "foreground probability times 255, one image per chunk",
    "1/255",
    "mask_window",
    by_item=True,
)
_MASK_WINDOW = Dataset(
    "mask_window",
    "float64",
    ("image", 3),
    "(x0, y0, side) of the window that the mask's columns span; pixel (u, v) of the mask is pixel "
    "(x0 + u side / columns, y0 + v side / columns) of the image",
    "pixel",
    "image",
    values=Values(nan="unusable", kind="window"),
)

STAGE_SCHEMAS = (
    Schema(
        "landmarks/1",
        "2D landmarks of every image (`nerfgen landmark`, or imported by `nerfgen import`)",
        (
            IMAGE,
            STATUS,
            REASON,
            _SIZE,
            Dataset(
                "image_bytes",
                "int64",
                ("image",),
                "size of the image file",
                "byte",
                values=Values(0),
            ),
            Dataset("image_sha256", "string", ("image",), "SHA-256 of the image file, hexadecimal"),
            Dataset(
                "landmark_names",
                "string",
                ("landmark",),
                "names of the class's landmarks",
                values=Values(kind="name"),
            ),
            Dataset(
                "landmarks",
                "float32",
                ("image", "landmark", 2),
                "x, y; NaN where not found",
                "pixel",
                "image",
                values=Values(-1e7, 1e7, nan="anywhere"),
            ),
            Dataset(
                "score",
                "float32",
                ("image",),
                "confidence of the detection, 0 to 1; 0 for no detection",
                values=Values(0, 1),
            ),
            Dataset(
                "num_objects",
                "int32",
                ("image",),
                "objects of the class that were found",
                values=Values(0),
            ),
            Dataset(
                "mesh_index",
                "int32",
                ("mesh",),
                "index of each dense point in the estimator's own numbering",
                optional=True,
                values=Values(0),
            ),
            Dataset(
                "mesh",
                "float32",
                ("image", "mesh", 3),
                "dense points: x, y, and the estimator's relative depth in the same unit (smaller is nearer)",
                "pixel",
                "image",
                optional=True,
            ),
        ),
    ),
    Schema(
        "cameras/1",
        "camera and framing of every image (`nerfgen fit-cameras`, `nerfgen import`, and the refined cameras of "
        "`nerfgen train`)",
        (
            IMAGE,
            STATUS,
            REASON,
            _SIZE,
            _INTRINSICS,
            _POSE,
            _WINDOW,
            Dataset(
                "reprojection_rmse",
                "float64",
                ("image",),
                "root mean square distance of landmarks to reprojected canonical keypoints",
                "pixel",
                "image",
                optional=True,
                values=Values(0, nan="anywhere"),
            ),
            Dataset(
                "iterations",
                "int32",
                ("image",),
                "solver iterations until converged",
                optional=True,
                values=Values(0),
            ),
            Dataset(
                "canonical_index",
                "int32",
                ("point",),
                "landmark or dense point that each canonical keypoint is",
                optional=True,
                values=Values(0),
            ),
            Dataset(
                "canonical",
                "float64",
                ("point", 3),
                "canonical 3D keypoints that were fitted",
                "world",
                "world",
                optional=True,
                values=Values(-1e6, 1e6),
            ),
            _INSTANCE,
            IMAGE_DIGEST,
        ),
    ),
    Schema(
        "masks/1",
        "foreground mask of every image (`nerfgen segment`, or imported by `nerfgen import`)",
        (
            IMAGE,
            STATUS,
            REASON,
            _SIZE,
            _MASK_WINDOW,
            _MASK,
            Dataset(
                "method",
                "string",
                ("image",),
                "method of `nerfgen segment` that made this image's mask; empty where there is no mask",
                optional=True,
                values=Values(kind="name"),
            ),
            IMAGE_DIGEST,
        ),
    ),
    Schema(
        "truth/1",
        "ground truth of a synthetic class (`nerfgen synth`); also serves as a cameras and masks file",
        (
            IMAGE,
            STATUS,
            _SIZE,
            _INTRINSICS,
            _POSE,
            _WINDOW,
            _MASK_WINDOW,
            _MASK,
            Dataset(
                "depth",
                "float32",
                ("image", "row", "column"),
                "depth along the optical axis; 0 on the background",
                "world",
                by_item=True,
                values=Values(0.0),
            ),
            Dataset(
                "keypoint_names",
                "string",
                ("keypoint",),
                "names of the keypoints",
                values=Values(kind="name"),
            ),
            Dataset(
                "keypoints",
                "float64",
                ("image", "keypoint", 3),
                "3D keypoints of the object",
                "world",
                "world",
                values=Values(-1e6, 1e6),
            ),
            Dataset(
                "heldout_rgb",
                "uint8",
                ("object", "view", "row", "column", 3),
                "held-out views of the first objects, in the order of the images",
                by_item=True,
            ),
            Dataset(
                "heldout_mask",
                "uint8",
                ("object", "view", "row", "column"),
                "foreground coverage times 255",
                "1/255",
                by_item=True,
            ),
            Dataset(
                "heldout_depth",
                "float32",
                ("object", "view", "row", "column"),
                "depth along the optical axis; 0 on the background",
                "world",
                by_item=True,
                values=Values(0.0),
            ),
            Dataset(
                "heldout_intrinsics",
                "float64",
                ("object", "view", 3, 3),
                "pinhole matrix",
                "pixel",
                values=Values(kind="intrinsics"),
            ),
            Dataset(
                "heldout_cam_to_world",
                "float64",
                ("object", "view", 4, 4),
                "camera pose, OpenCV axes",
                "world",
                "world",
                values=Values(kind="pose"),
            ),
            _INSTANCE,
        ),
    ),
)


_ENTRY = (
    Dataset("table", "string", ("entry",), "table of each estimate"),
    Dataset("metric", "string", ("entry",), "metric of each estimate, with its unit at the end"),
    Dataset("mean", "float64", ("entry",), "the estimate; NaN if nothing could be measured"),
    Dataset("low", "float64", ("entry",), "lower bound of its 95% confidence interval"),
    Dataset("high", "float64", ("entry",), "upper bound"),
    Dataset("n", "int64", ("entry",), "number of items"),
)

REPORT_SCHEMAS = (
    Schema(
        "report/1",
        "evaluation of a model (`nerfgen evaluate`)",
        (
            *_ENTRY,
            Dataset("value_table", "string", ("value",), "table of each single value"),
            Dataset("value_metric", "string", ("value",), "metric of each single value"),
            Dataset("value_item", "string", ("value",), "image, view or sample of each single value"),
            Dataset("value", "float64", ("value",), "the value; NaN if it could not be measured"),
            Dataset("note_table", "string", ("note",), "table of each note"),
            Dataset("note", "string", ("note",), "what was compared, or what is missing"),
            Dataset("note_kind", "string", ("note",), "`of`, or `missing`"),
        ),
        {"name": Attribute("text", "the model's name")},
        optional_groups={
            "pictures": "by table and title: a grid of images, uint8 (item, grid column, row, column, 3), with "
            "attributes `items` and `columns`",
            "points": "by table and title: a scatter plot (point, 2), with axis labels as attributes `x` and `y`",
        },
    ),
    Schema(
        "study/1",
        "metrics of models that differ in one setting (`nerfgen evaluate --sweep`)",
        (
            *_ENTRY,
            Dataset("point", "int64", ("entry",), "point of the study of each estimate"),
            Dataset("setting", "string", ("point",), "value of the setting at each point"),
            Dataset("images", "int64", ("point",), "number of training images of the point's model"),
            Dataset("steps", "int64", ("point",), "number of its training steps"),
        ),
        {"name": Attribute("text", "the swept setting")},
    ),
)


SCHEMAS: dict[str, Schema] = {
    schema.name: schema for schema in (*STAGE_SCHEMAS, *MODEL_SCHEMAS, *REPORT_SCHEMAS)
}
