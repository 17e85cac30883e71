"""Schemas of files about networks: pixel caches, models, checkpoints, views, identities, landmark estimators."""

from __future__ import annotations

from nerfgen.storage.schema import IMAGE, IMAGE_DIGEST, STATUS, Attribute, Dataset, Schema, Values

MODEL_SCHEMAS = (
    Schema(
        "pixels/1",
        "pixels of the framed images (`nerfgen train`); a cache, re-created when stale",
        (
            IMAGE,
            STATUS,
            Dataset(
                "pixels",
                "uint8",
                ("image", "pixel", 4),
                "red, green, blue and foreground probability times 255 of the window's raster; the pixels inside "
                "the dilated mask first, then the others within the image, then those beyond it; one image per "
                "chunk, not compressed",
                by_item=True,
                compressed=False,
            ),
            Dataset(
                "order",
                "int32",
                ("image", "pixel"),
                "index of each pixel in its raster: row times side plus column; one image per chunk, not compressed",
                by_item=True,
                compressed=False,
            ),
            Dataset(
                "inside",
                "int32",
                ("image",),
                "pixels inside the dilated mask; 0 where the image is unusable",
                values=Values(0),
            ),
            Dataset(
                "valid",
                "int32",
                ("image",),
                "pixels within the image; 0 where the image is unusable",
                values=Values(0),
            ),
            IMAGE_DIGEST,
        ),
    ),
    Schema(
        "model/1",
        "a trained model: networks, table and refined cameras (`nerfgen train`)",
        (
            Dataset(
                "image",
                "string",
                ("row",),
                "path of each table row's image relative to DATA",
                values=Values(kind="path"),
            ),
            Dataset("image_sha256", "string", ("row",), "SHA-256 of the image file, hexadecimal"),
            Dataset(
                "further_image",
                "string",
                ("further",),
                "paths of further images of the rows' objects, where an object has several",
                optional=True,
                values=Values(kind="path"),
            ),
            Dataset("further_sha256", "string", ("further",), "SHA-256 of these image files", optional=True),
            Dataset(
                "further_row",
                "int32",
                ("further",),
                "table row whose object each shows",
                optional=True,
                values=Values(0),
            ),
            Dataset(
                "latents",
                "float32",
                ("row", "latent"),
                "the table Z, one latent code per row: `latent_size` global dimensions, then local features of each "
                "plane by row, column and channel, then those of the background; without the global dimensions where "
                "there are `code_indices`",
                values=Values(-1e6, 1e6),
            ),
            Dataset(
                "code_indices",
                "int32",
                ("row", "group"),
                "entry of each group's codebook that the global dimensions are, in vector-quantised models",
                optional=True,
            ),
            Dataset(
                "codebook",
                "float32",
                ("group", "entry", "number"),
                "entries of every group of consecutive global dimensions, in vector-quantised models",
                optional=True,
                values=Values(-1e6, 1e6),
            ),
            Dataset(
                "image_size",
                "int32",
                ("row", 2),
                "width and height of the upright image",
                "pixel",
                values=Values(1, 1_000_000),
            ),
            Dataset(
                "intrinsics",
                "float64",
                ("row", 3, 3),
                "pinhole matrix",
                "pixel",
                "image",
                values=Values(kind="intrinsics"),
            ),
            Dataset(
                "cam_to_world",
                "float64",
                ("row", 4, 4),
                "camera pose, OpenCV axes, as refined in training",
                "world",
                "world",
                values=Values(kind="pose"),
            ),
            Dataset(
                "window",
                "float64",
                ("row", 3),
                "(x0, y0, side) of the square window that was trained on",
                "pixel",
                "image",
                values=Values(kind="window"),
            ),
            Dataset(
                "canonical_index",
                "int32",
                ("point",),
                "landmark or dense point that each canonical keypoint is",
                values=Values(0),
            ),
            Dataset(
                "canonical",
                "float64",
                ("point", 3),
                "canonical 3D keypoints that the cameras were fitted to; no rows for imported cameras",
                "world",
                "world",
                values=Values(-1e6, 1e6),
            ),
            Dataset(
                "occupancy",
                "float32",
                ("grid", "grid", "grid"),
                "class-shared opacity of a cell, axes x, y, z over the bounds",
                values=Values(0, 1.001),
            ),
            Dataset(
                "guess_weights",
                "float32",
                ("feature", "output"),
                "initial guess of a new image's code: weight of each feature (thumbnail and pose, see "
                "`inversion.initial_guess`) for each latent dimension and, if cameras were refined, for each of the "
                "six parameters that correct its camera",
                optional=True,
                values=Values(),
            ),
            Dataset(
                "guess_offset",
                "float32",
                ("output",),
                "offset of these outputs",
                optional=True,
                values=Values(),
            ),
            Dataset(
                "log_step",
                "int32",
                ("log",),
                "steps at which the log was taken",
                values=Values(0),
            ),
            Dataset(
                "log_values",
                "float32",
                ("log", "value"),
                "means since the previous entry of the losses, of the norms of the gradient and of the latent codes, "
                "and PSNR in dB; the attribute `log_names` names the columns",
            ),
        ),
        {
            "preset": Attribute("object", "JSON object: the effective training recipe"),
            "preparation": Attribute(
                "object",
                "JSON object: camera and mask settings of the training images, which new images repeat; "
                "absent in files of earlier versions, for the defaults",
                optional=True,
            ),
            "model_version": Attribute(
                "number", "version of the meaning of the file; absent in files of version 1", optional=True
            ),
            "log_names": Attribute(
                "list",
                "JSON array: columns of `log_values`; absent in files of earlier versions, for `loss`, `rgb`, "
                "`mask`, `hard`, `smooth`, `gradient_norm`, `latent_norm`, `psnr_db`",
                optional=True,
            ),
            "bounds": Attribute(
                "numbers", "half sizes x, y, z of the box that holds the object, world units"
            ),
            "steps": Attribute("number", "training steps done"),
        },
        {"field": "arrays of the networks, by layer"},
    ),
    Schema(
        "checkpoint/1",
        "an unfinished optimisation (`nerfgen train`, `nerfgen train-landmarker`; for `--resume`)",
        (
            Dataset(
                "step",
                "int32",
                (),
                "steps done",
                values=Values(0),
            ),
            Dataset(
                "log", "float64", ("log", "log_value"), "step and values of the log so far", optional=True
            ),
        ),
        {"seconds": Attribute("number", "time so far, which `--minutes` counts from")},
        {"state": "arrays that a step changes: parameters, tables, moments"},
    ),
    Schema(
        "direction/1",
        "a direction with a name in the space of latent codes (`nerfgen directions`)",
        (
            Dataset(
                "vector",
                "float64",
                ("axis",),
                "direction of length 1 along the principal axes that vary",
                "standard deviation",
                values=Values(-1.001, 1.001),
            ),
            Dataset(
                "words",
                "string",
                ("word",),
                "labels on the low and on the high side; none where labels are numbers",
                values=Values(kind="name"),
            ),
            Dataset(
                "orthogonal_to",
                "string",
                ("other",),
                "names of the directions that were taken out of it",
                values=Values(kind="name"),
            ),
        ),
        {
            "name": Attribute("text", "by which it is chosen"),
            "boundary": Attribute(
                "number",
                "coordinate along it, in standard deviations, at which both words are equally likely; for numbers, at "
                "which their mean is expected",
            ),
            "slope": Attribute(
                "number", "change per standard deviation of a number, or of the log-odds of the second word"
            ),
            "score": Attribute(
                "number", "cross-validated: R^2 of numbers, area under the ROC curve of words"
            ),
            "num_labels": Attribute("number", "labels that it was learned from"),
        },
    ),
    Schema(
        "views/1",
        "rendered views (`nerfgen render`, `nerfgen sample`)",
        (
            Dataset(
                "name",
                "string",
                ("object",),
                "image of the table row, new image, or sample that each object is",
                values=Values(kind="name"),
            ),
            Dataset("status", "string", ("object",), "whether the object could be rendered and, if not, why"),
            Dataset(
                "image_sha256",
                "string",
                ("object",),
                "SHA-256 of the image file that the object was fitted to (new images)",
                optional=True,
            ),
            Dataset(
                "row",
                "int32",
                ("object",),
                "table row of each object; -1 for new images and samples",
                values=Values(-1),
            ),
            Dataset(
                "latents",
                "float32",
                ("object", "latent"),
                "latent code of each object",
                values=Values(-1e6, 1e6, nan="unusable"),
            ),
            Dataset(
                "own_intrinsics",
                "float64",
                ("object", 3, 3),
                "pinhole matrix of the object's own image, for an image of size 1",
                optional=True,
                values=Values(nan="unusable", kind="intrinsics"),
            ),
            Dataset(
                "own_cam_to_world",
                "float64",
                ("object", 4, 4),
                "camera pose of the object's own image, OpenCV axes",
                "world",
                "world",
                optional=True,
                values=Values(nan="unusable", kind="pose"),
            ),
            Dataset(
                "coefficients",
                "float32",
                ("object", "component"),
                "coordinates of the latent code along the principal axes, in standard deviations (samples)",
                optional=True,
                values=Values(),
            ),
            Dataset(
                "deviation",
                "float64",
                ("axis",),
                "standard deviation of the table along all principal axes (samples); the spectrum is its square as "
                "a fraction of the sum of all squares",
                optional=True,
                values=Values(0),
            ),
            Dataset(
                "fit_psnr",
                "float32",
                ("object",),
                "PSNR of the reconstruction of a fitted image over all pixels of its window; NaN for other objects",
                "dB",
                optional=True,
                values=Values(nan="anywhere"),
            ),
            Dataset(
                "fit_iterations",
                "int32",
                ("object",),
                "steps of latent fitting, without tuning",
                optional=True,
                values=Values(0),
            ),
            Dataset(
                "angles",
                "float32",
                ("view", 2),
                "yaw and pitch of each view's camera; NaN for the object's own camera, which differs by object",
                "degree",
                values=Values(nan="anywhere"),
            ),
            Dataset(
                "intrinsics",
                "float64",
                ("object", "view", 3, 3),
                "pinhole matrix of the rendered view",
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
                "sRGB colour composited over the background, times 255",
                "1/255",
                by_item=True,
            ),
            Dataset(
                "rgba",
                "uint8",
                ("object", "view", "line", "column", 4),
                "straight sRGB colour without background, and opacity, times 255",
                "1/255",
                by_item=True,
            ),
            Dataset(
                "opacity",
                "uint8",
                ("object", "view", "line", "column"),
                "accumulated foreground opacity times 255",
                "1/255",
                by_item=True,
            ),
            Dataset(
                "depth",
                "float32",
                ("object", "view", "line", "column"),
                "expected depth along the optical axis; 0 where opacity is below 0.5",
                "world",
                by_item=True,
            ),
            Dataset(
                "normals",
                "float16",
                ("object", "view", "line", "column", 3),
                "unit normal of the surface, towards the camera; 0 where opacity is below 0.5",
                frame="world",
                by_item=True,
            ),
        ),
        optional_groups={
            "photographs": "by object number: the window of the image that the object was fitted to, uint8",
            "tuned": "by object number: what tuning to the object's image added to the model's parameters",
        },
    ),
    Schema(
        "identities/1",
        "identities of a shard of a synthetic dataset (`nerfgen sample --dataset`), numbered like their folders",
        (
            Dataset(
                "identity",
                "int64",
                ("identity",),
                "number of the identity in the whole dataset",
                values=Values(0),
            ),
            Dataset(
                "latents",
                "float32",
                ("identity", "latent"),
                "latent code of each identity",
                values=Values(-1e6, 1e6),
            ),
            Dataset(
                "coefficients",
                "float32",
                ("identity", "component"),
                "coordinates along the principal axes, in standard deviations",
                values=Values(),
            ),
            Dataset(
                "nearest_distance",
                "float64",
                ("identity",),
                "distance to the nearest training row: sqrt(1 - cos a), with a the angle at the mean code, in "
                "standard deviations along the principal axes; about 1 for independent draws",
                values=Values(0, nan="anywhere"),
            ),
            Dataset(
                "nearest_row",
                "int32",
                ("identity",),
                "index of the nearest training row",
                values=Values(-1),
            ),
            Dataset(
                "attempts",
                "int32",
                ("identity",),
                "number of draws; all but the last were too near to a training row",
                values=Values(0),
            ),
            Dataset(
                "poses",
                "float64",
                ("identity", "view", 4),
                "yaw, pitch and roll in degrees, and distance in world units, of each view",
                values=Values(),
            ),
            Dataset(
                "landmark_names",
                "string",
                ("landmark",),
                "names of the class's landmarks",
                optional=True,
                values=Values(kind="name"),
            ),
            Dataset(
                "landmarks",
                "float64",
                ("identity", "landmark", 3),
                "3D landmarks of each identity",
                "world",
                "world",
                optional=True,
                values=Values(nan="anywhere"),
            ),
        ),
        {
            "near": Attribute(
                "number",
                "distance to a training row within which an identity is too near: 1% of the training rows lie "
                "within it of another row",
            )
        },
    ),
    Schema(
        "landmarker/1",
        "a trained landmark estimator (`nerfgen train-landmarker`)",
        (
            Dataset(
                "landmark_names",
                "string",
                ("landmark",),
                "names of the landmarks",
                values=Values(kind="name"),
            ),
            Dataset(
                "class_names",
                "string",
                ("class",),
                "classes that it distinguishes",
                values=Values(kind="name"),
            ),
            Dataset(
                "class_descriptions",
                "string",
                ("class",),
                "files that describe the classes; empty for a class that ships with nerfgen",
            ),
            Dataset(
                "mean_shape",
                "float64",
                ("landmark", 2),
                "x, y of the landmarks of an upright object in its window, from 0 to 1",
                "side of the window",
                values=Values(),
            ),
            Dataset(
                "threshold",
                "float64",
                (),
                "smallest score of a detection",
                values=Values(),
            ),
            Dataset(
                "held_out_image",
                "string",
                ("held_out",),
                "images held out from training, relative to IMAGES",
                values=Values(kind="path"),
            ),
            Dataset(
                "held_out_error",
                "float64",
                ("held_out", "landmark"),
                "distance to the annotated point, in units of the class, such as the distance of the eyes; NaN "
                "where the point is not annotated or no object was detected",
                values=Values(0, nan="anywhere"),
            ),
            Dataset(
                "held_out_score",
                "float64",
                ("held_out",),
                "score of the detection; 0 for none",
                values=Values(0, 1),
            ),
        ),
        {"steps": Attribute("number", "steps of the training")},
        {"weights": "parameters of the networks `finder` and `measurer`"},
    ),
)
