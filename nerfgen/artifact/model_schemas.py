"""Files about networks: models and estimators, what they are trained from, and what models show."""

from __future__ import annotations

from nerfgen.artifact.schema import Dataset, Schema
from nerfgen.artifact.stage_schemas import IMAGE, STATUS

MODEL_SCHEMAS = (
    Schema(
        "pixels/1",
        "the framed photographs as training draws from them (`nerfgen train`); a cache, made anew when stale",
        (
            IMAGE,
            STATUS,
            Dataset(
                "pixels",
                "uint8",
                ("image", "pixel", 4),
                "red, green, blue and foreground probability times 255 of the window's raster; the pixels inside "
                "the dilated mask first, then the others on the photograph, then those beyond it; one image a "
                "chunk, not compressed",
            ),
            Dataset(
                "order",
                "int32",
                ("image", "pixel"),
                "place of each pixel in its raster: row times side plus column; one image a chunk, not compressed",
            ),
            Dataset(
                "inside",
                "int32",
                ("image",),
                "pixels inside the dilated mask; 0 where the image is unusable",
            ),
            Dataset("valid", "int32", ("image",), "pixels on the photograph; 0 where the image is unusable"),
        ),
    ),
    Schema(
        "model/1",
        "a trained model: networks, table and refined cameras (`nerfgen train`)",
        (
            Dataset("image", "string", ("row",), "path of each table row's image relative to DATA"),
            Dataset("image_sha256", "string", ("row",), "SHA-256 of the image file, hexadecimal"),
            Dataset(
                "further_image",
                "string",
                ("further",),
                "paths of further images of the rows' objects, where an object has several",
                optional=True,
            ),
            Dataset("further_sha256", "string", ("further",), "SHA-256 of these image files", optional=True),
            Dataset("further_row", "int32", ("further",), "table row whose object each shows", optional=True),
            Dataset("latents", "float32", ("row", "latent"), "the table Z, one code a row"),
            Dataset("image_size", "int32", ("row", 2), "width and height of the upright photograph", "pixel"),
            Dataset("intrinsics", "float64", ("row", 3, 3), "pinhole matrix", "pixel", "photograph"),
            Dataset(
                "cam_to_world",
                "float64",
                ("row", 4, 4),
                "camera pose, OpenCV axes, as refined in training",
                "world",
                "world",
            ),
            Dataset(
                "window",
                "float64",
                ("row", 3),
                "(x0, y0, side) of the square window that was trained on",
                "pixel",
                "photograph",
            ),
            Dataset(
                "canonical_index",
                "int32",
                ("point",),
                "which landmark or dense point each canonical point is",
            ),
            Dataset(
                "canonical",
                "float64",
                ("point", 3),
                "canonical 3D keypoints that the cameras were fitted to; none where they came from elsewhere",
                "world",
                "world",
            ),
            Dataset(
                "occupancy",
                "float32",
                ("grid", "grid", "grid"),
                "class-shared opacity of a cell, axes x, y, z over the bounds",
            ),
            Dataset(
                "guess_weights",
                "float32",
                ("feature", "output"),
                "first guess of a new photograph's code: what each feature (thumbnail and pose, see "
                "`train.guess`) adds to each number of the code and, where cameras were refined, to each of the "
                "six that correct its camera",
                optional=True,
            ),
            Dataset("guess_offset", "float32", ("output",), "what these numbers begin with", optional=True),
            Dataset("log_step", "int32", ("log",), "steps at which the log was taken"),
            Dataset(
                "log_values",
                "float32",
                ("log", 8),
                "means since the entry before: loss, L_rgb, L_mask, L_hard, L_smooth, norm of the gradient, "
                "mean norm of the codes; and PSNR in dB",
            ),
        ),
        {
            "preset": "JSON object: the effective training recipe",
            "bounds": "half edges x, y, z of the box that holds the object, world units",
            "steps": "training steps done",
        },
        {"field": "arrays of the networks, by layer"},
    ),
    Schema(
        "checkpoint/1",
        "an unfinished training run (`nerfgen train`, for `--resume`)",
        (
            Dataset("step", "int32", (), "steps done"),
            Dataset(
                "log",
                "float64",
                ("log", 9),
                "step and values of the model's log so far",
            ),
            Dataset("totals", "float32", (7,), "sums of the log's terms since its last entry"),
        ),
        {"seconds": "training time so far, which `--minutes` counts from"},
        {"state": "arrays of parameters, table, camera corrections, moments and occupancy"},
    ),
    Schema(
        "views/1",
        "rendered views (`nerfgen render`, `nerfgen sample`)",
        (
            Dataset(
                "name",
                "string",
                ("object",),
                "table row's image, photograph or sample that each object is",
            ),
            Dataset("status", "string", ("object",), "whether the object could be rendered and, if not, why"),
            Dataset("row", "int32", ("object",), "table row of each object; -1 for photographs and samples"),
            Dataset("latents", "float32", ("object", "latent"), "code of each object"),
            Dataset(
                "own_intrinsics",
                "float64",
                ("object", 3, 3),
                "pinhole matrix of the object's own photograph, for a picture whose edge is 1",
                optional=True,
            ),
            Dataset(
                "own_cam_to_world",
                "float64",
                ("object", 4, 4),
                "camera pose of the object's own photograph, OpenCV axes",
                "world",
                "world",
                optional=True,
            ),
            Dataset(
                "coefficients",
                "float32",
                ("object", "component"),
                "place of the code along the principal axes, in standard deviations (samples)",
                optional=True,
            ),
            Dataset(
                "deviation",
                "float64",
                ("axis",),
                "standard deviation of the table along all principal axes (samples); its square, as a share of the "
                "sum of all squares, is the spectrum",
                optional=True,
            ),
            Dataset(
                "fit_psnr",
                "float32",
                ("object",),
                "PSNR of the reconstruction of a fitted photograph over all pixels of its window; NaN where "
                "there is none",
                "dB",
                optional=True,
            ),
            Dataset(
                "fit_iterations",
                "int32",
                ("object",),
                "steps that fitting the photograph took, tuning not counted",
                optional=True,
            ),
            Dataset(
                "angles",
                "float32",
                ("view", 2),
                "yaw and pitch of each view's camera; NaN for the photograph's own, which differs by object",
                "degree",
            ),
            Dataset(
                "intrinsics",
                "float64",
                ("object", "view", 3, 3),
                "pinhole matrix of the rendered picture",
                "pixel",
            ),
            Dataset(
                "cam_to_world",
                "float64",
                ("object", "view", 4, 4),
                "camera pose, OpenCV axes",
                "world",
                "world",
            ),
            Dataset(
                "rgb",
                "uint8",
                ("object", "view", "line", "column", 3),
                "sRGB colour with background times 255",
                "1/255",
            ),
            Dataset(
                "rgba",
                "uint8",
                ("object", "view", "line", "column", 4),
                "sRGB colour without background, not multiplied by its opacity, and opacity, times 255",
                "1/255",
            ),
            Dataset(
                "opacity",
                "uint8",
                ("object", "view", "line", "column"),
                "accumulated foreground opacity times 255",
                "1/255",
            ),
            Dataset(
                "depth",
                "float32",
                ("object", "view", "line", "column"),
                "expected depth along the optical axis; 0 where opacity is below 0.5",
                "world",
            ),
            Dataset(
                "normals",
                "float16",
                ("object", "view", "line", "column", 3),
                "unit normal of the surface, towards the camera; 0 where opacity is below 0.5",
                frame="world",
            ),
        ),
        optional_groups={
            "photographs": "for an object that was fitted to a photograph, by its number: the window that it was "
            "fitted to, uint8",
            "tuned": "for an object whose photograph the network was tuned to, by its number: what is added "
            "to the model's parameters",
        },
    ),
    Schema(
        "identities/1",
        "who is in a shard of a synthetic dataset (`nerfgen sample --dataset`); identities are numbered as their "
        "folders are",
        (
            Dataset("identity", "int64", ("identity",), "number of the identity in the whole dataset"),
            Dataset("latents", "float32", ("identity", "latent"), "code of each identity"),
            Dataset(
                "coefficients",
                "float32",
                ("identity", "component"),
                "draws along the principal axes, in standard deviations",
            ),
            Dataset(
                "nearest_distance",
                "float64",
                ("identity",),
                "distance to the nearest training row: sqrt(1 - cos a), with a the angle at the mean code, in "
                "standard deviations along the principal axes; about 1 for independent draws",
            ),
            Dataset("nearest_row", "int32", ("identity",), "which training row that is"),
            Dataset(
                "attempts",
                "int32",
                ("identity",),
                "draws it took; all but the last were too near to a training row",
            ),
            Dataset(
                "poses",
                "float64",
                ("identity", "view", 4),
                "yaw, pitch and roll in degrees, and distance in world units, of each view",
            ),
            Dataset(
                "landmark_names", "string", ("landmark",), "names of the class's landmarks", optional=True
            ),
            Dataset(
                "landmarks",
                "float64",
                ("identity", "landmark", 3),
                "3D landmarks of each identity",
                "world",
                "world",
                optional=True,
            ),
        ),
        {
            "near": "identities no farther than this from a training row are too near: of the training rows, the "
            "nearest 1% lie so near to another"
        },
    ),
    Schema(
        "landmarker/1",
        "a trained landmark estimator (`nerfgen train-landmarker`)",
        (
            Dataset("landmark_names", "string", ("landmark",), "names of the landmarks that it finds"),
            Dataset("class_names", "string", ("class",), "classes that it tells apart"),
            Dataset(
                "class_descriptions",
                "string",
                ("class",),
                "the files that describe them; empty for a class that ships with nerfgen",
            ),
            Dataset(
                "mean_shape",
                "float64",
                ("landmark", 2),
                "x, y of the landmarks of an upright object in its window, from 0 to 1",
                "side of the window",
            ),
            Dataset("threshold", "float64", (), "score from which on an object is one"),
            Dataset(
                "held_out_image",
                "string",
                ("held_out",),
                "images that were not trained on, relative to IMAGES",
            ),
            Dataset(
                "held_out_error",
                "float64",
                ("held_out", "landmark"),
                "distance to the annotated point, in units of the class, such as the distance of the eyes; NaN "
                "where there is none or nothing was found",
            ),
            Dataset(
                "held_out_score", "float64", ("held_out",), "score of what was found there; 0 for nothing"
            ),
        ),
        {"steps": "steps of the training"},
        {"weights": "parameters of the networks `finder` and `measurer`"},
    ),
    Schema(
        "landmarker-checkpoint/1",
        "an unfinished training of a landmark estimator (for `--resume`)",
        (Dataset("step", "int32", (), "steps done"),),
        {"seconds": "training time so far, which `--minutes` counts from"},
        {"state": "arrays of parameters and moments"},
    ),
)
