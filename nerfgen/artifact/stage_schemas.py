"""Files with a row an image: those of the stages, and the truth of synthetic classes."""

from __future__ import annotations

from nerfgen.artifact.schema import Dataset, Schema

IMAGE = Dataset(
    "image", "string", ("image",), "path of the image relative to DATA, UTF-8, `/` between folders"
)
STATUS = Dataset("status", "string", ("image",), "whether the image is usable and, if not, why")
_SIZE = Dataset(
    "image_size",
    "int32",
    ("image", 2),
    "width and height of the upright photograph (0 if unreadable)",
    "pixel",
)
_INTRINSICS = Dataset(
    "intrinsics",
    "float64",
    ("image", 3, 3),
    "pinhole matrix; NaN where there is no camera",
    "pixel",
    "photograph",
)
_POSE = Dataset(
    "cam_to_world",
    "float64",
    ("image", 4, 4),
    "camera pose, OpenCV axes; NaN where there is none",
    "world",
    "world",
)
_WINDOW = Dataset(
    "window",
    "float64",
    ("image", 3),
    "(x0, y0, side) of the square window that shows the object; may reach beyond the photograph",
    "pixel",
    "photograph",
)
_INSTANCE = Dataset(
    "instance",
    "string",
    ("image",),
    "object that each image shows; images of one object share a row of the model's table. Absent where each shows "
    "another one",
    optional=True,
)
_MASK = Dataset(
    "mask",
    "uint8",
    ("image", "row", "column"),
    "foreground probability times 255, one image a chunk",
    "1/255",
    "mask_window",
)
_MASK_WINDOW = Dataset(
    "mask_window",
    "float64",
    ("image", 3),
    "(x0, y0, side) of the window that the mask's columns span; a pixel (u, v) of the mask is the photograph's "
    "(x0 + u side / columns, y0 + v side / columns)",
    "pixel",
    "photograph",
)

STAGE_SCHEMAS = (
    Schema(
        "landmarks/1",
        "2D landmarks of every image (`nerfgen landmark`, or those of others by `nerfgen import`)",
        (
            IMAGE,
            STATUS,
            _SIZE,
            Dataset("image_bytes", "int64", ("image",), "size of the image file", "byte"),
            Dataset("image_sha256", "string", ("image",), "SHA-256 of the image file, hexadecimal"),
            Dataset("landmark_names", "string", ("landmark",), "names of the class's landmarks"),
            Dataset(
                "landmarks",
                "float32",
                ("image", "landmark", 2),
                "x, y; NaN where not found",
                "pixel",
                "photograph",
            ),
            Dataset("score", "float32", ("image",), "confidence of the detection, 0 to 1; 0 where none"),
            Dataset("num_objects", "int32", ("image",), "objects of the class that were found"),
            Dataset(
                "mesh_index",
                "int32",
                ("mesh",),
                "index of each dense point in the estimator's own numbering",
                optional=True,
            ),
            Dataset(
                "mesh",
                "float32",
                ("image", "mesh", 3),
                "dense points: x, y, and the estimator's relative depth in the same unit (smaller is nearer)",
                "pixel",
                "photograph",
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
            _SIZE,
            _INTRINSICS,
            _POSE,
            _WINDOW,
            Dataset(
                "reprojection_rmse",
                "float64",
                ("image",),
                "root mean square distance of landmarks to reprojected canonical points",
                "pixel",
                "photograph",
                optional=True,
            ),
            Dataset("iterations", "int32", ("image",), "solver iterations until converged", optional=True),
            Dataset(
                "canonical_index",
                "int32",
                ("point",),
                "which landmark or dense point each canonical point is",
                optional=True,
            ),
            Dataset(
                "canonical",
                "float64",
                ("point", 3),
                "canonical 3D keypoints that were fitted",
                "world",
                "world",
                optional=True,
            ),
            _INSTANCE,
        ),
    ),
    Schema(
        "masks/1",
        "foreground mask of every image (`nerfgen segment`, or those of others by `nerfgen import`)",
        (
            IMAGE,
            STATUS,
            _SIZE,
            _MASK_WINDOW,
            _MASK,
            Dataset(
                "method",
                "string",
                ("image",),
                "method of `nerfgen segment` that told this image's foreground; empty where there is no mask",
                optional=True,
            ),
        ),
    ),
    Schema(
        "truth/1",
        "ground truth of a synthetic class (`nerfgen synth`); serves as cameras and masks too",
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
            ),
            Dataset("keypoint_names", "string", ("keypoint",), "names of the keypoints"),
            Dataset(
                "keypoints",
                "float64",
                ("image", "keypoint", 3),
                "3D keypoints of the object",
                "world",
                "world",
            ),
            Dataset(
                "heldout_rgb",
                "uint8",
                ("object", "view", "row", "column", 3),
                "held-out views of the first objects, in the order in which the images show them",
            ),
            Dataset(
                "heldout_mask",
                "uint8",
                ("object", "view", "row", "column"),
                "foreground coverage times 255",
                "1/255",
            ),
            Dataset(
                "heldout_depth",
                "float32",
                ("object", "view", "row", "column"),
                "depth along the optical axis; 0 on the background",
                "world",
            ),
            Dataset("heldout_intrinsics", "float64", ("object", "view", 3, 3), "pinhole matrix", "pixel"),
            Dataset(
                "heldout_cam_to_world",
                "float64",
                ("object", "view", 4, 4),
                "camera pose, OpenCV axes",
                "world",
                "world",
            ),
            _INSTANCE,
        ),
    ),
)
