"""Schemas of files about networks: pixel caches, models, checkpoints, views, identities, landmark estimators."""

from __future__ import annotations

from nerfgen.storage.schema import IMAGE, STATUS, Dataset, Schema

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
            ),
            Dataset(
                "order",
                "int32",
                ("image", "pixel"),
                "index of each pixel in its raster: row times side plus column; one image per chunk, not compressed",
            ),
            Dataset(
                "inside",
                "int32",
                ("image",),
                "pixels inside the dilated mask; 0 where the image is unusable",
            ),
            Dataset("valid", "int32", ("image",), "pixels within the image; 0 where the image is unusable"),
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
            Dataset(
                "latents",
                "float32",
                ("row", "latent"),
                "the table Z, one latent code per row: `latent_size` global dimensions, then local features of each "
                "plane by row, column and channel, then those of the background",
            ),
            Dataset("image_size", "int32", ("row", 2), "width and height of the upright image", "pixel"),
            Dataset("intrinsics", "float64", ("row", 3, 3), "pinhole matrix", "pixel", "image"),
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
                "image",
            ),
            Dataset(
                "canonical_index",
                "int32",
                ("point",),
                "landmark or dense point that each canonical keypoint is",
            ),
            Dataset(
                "canonical",
                "float64",
                ("point", 3),
                "canonical 3D keypoints that the cameras were fitted to; no rows for imported cameras",
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
                "initial guess of a new image's code: weight of each feature (thumbnail and pose, see "
                "`inversion.initial_guess`) for each latent dimension and, if cameras were refined, for each of the "
                "six parameters that correct its camera",
                optional=True,
            ),
            Dataset("guess_offset", "float32", ("output",), "offset of these outputs", optional=True),
            Dataset("log_step", "int32", ("log",), "steps at which the log was taken"),
            Dataset(
                "log_values",
                "float32",
                ("log", "value"),
                "means since the previous entry of the losses, of the norms of the gradient and of the latent codes, "
                "and PSNR in dB; the attribute `log_names` names the columns",
            ),
        ),
        {
            "preset": "JSON object: the effective training recipe",
            "preparation": "JSON object: camera and mask settings of the training images, which new images repeat; "
            "absent in files of earlier versions, for the defaults",
            "model_version": "version of the meaning of the file; absent in files of version 1",
            "log_names": "JSON array: columns of `log_values`; absent in files of earlier versions, for `loss`, `rgb`, "
            "`mask`, `hard`, `smooth`, `gradient_norm`, `latent_norm`, `psnr_db`",
            "bounds": "half sizes x, y, z of the box that holds the object, world units",
            "steps": "training steps done",
        },
        {"field": "arrays of the networks, by layer"},
    ),
    Schema(
        "checkpoint/1",
        "an unfinished optimisation (`nerfgen train`, `nerfgen train-landmarker`; for `--resume`)",
        (
            Dataset("step", "int32", (), "steps done"),
            Dataset(
                "log", "float64", ("log", "log_value"), "step and values of the log so far", optional=True
            ),
        ),
        {"seconds": "time so far, which `--minutes` counts from"},
        {"state": "arrays that a step changes: parameters, tables, moments"},
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
            ),
            Dataset("status", "string", ("object",), "whether the object could be rendered and, if not, why"),
            Dataset("row", "int32", ("object",), "table row of each object; -1 for new images and samples"),
            Dataset("latents", "float32", ("object", "latent"), "latent code of each object"),
            Dataset(
                "own_intrinsics",
                "float64",
                ("object", 3, 3),
                "pinhole matrix of the object's own image, for an image of size 1",
                optional=True,
            ),
            Dataset(
                "own_cam_to_world",
                "float64",
                ("object", 4, 4),
                "camera pose of the object's own image, OpenCV axes",
                "world",
                "world",
                optional=True,
            ),
            Dataset(
                "coefficients",
                "float32",
                ("object", "component"),
                "coordinates of the latent code along the principal axes, in standard deviations (samples)",
                optional=True,
            ),
            Dataset(
                "deviation",
                "float64",
                ("axis",),
                "standard deviation of the table along all principal axes (samples); the spectrum is its square as "
                "a fraction of the sum of all squares",
                optional=True,
            ),
            Dataset(
                "fit_psnr",
                "float32",
                ("object",),
                "PSNR of the reconstruction of a fitted image over all pixels of its window; NaN for other objects",
                "dB",
                optional=True,
            ),
            Dataset(
                "fit_iterations",
                "int32",
                ("object",),
                "steps of latent fitting, without tuning",
                optional=True,
            ),
            Dataset(
                "angles",
                "float32",
                ("view", 2),
                "yaw and pitch of each view's camera; NaN for the object's own camera, which differs by object",
                "degree",
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
            ),
            Dataset(
                "rgba",
                "uint8",
                ("object", "view", "line", "column", 4),
                "straight sRGB colour without background, and opacity, times 255",
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
            "photographs": "by object number: the window of the image that the object was fitted to, uint8",
            "tuned": "by object number: what tuning to the object's image added to the model's parameters",
        },
    ),
    Schema(
        "identities/1",
        "identities of a shard of a synthetic dataset (`nerfgen sample --dataset`), numbered like their folders",
        (
            Dataset("identity", "int64", ("identity",), "number of the identity in the whole dataset"),
            Dataset("latents", "float32", ("identity", "latent"), "latent code of each identity"),
            Dataset(
                "coefficients",
                "float32",
                ("identity", "component"),
                "coordinates along the principal axes, in standard deviations",
            ),
            Dataset(
                "nearest_distance",
                "float64",
                ("identity",),
                "distance to the nearest training row: sqrt(1 - cos a), with a the angle at the mean code, in "
                "standard deviations along the principal axes; about 1 for independent draws",
            ),
            Dataset("nearest_row", "int32", ("identity",), "index of the nearest training row"),
            Dataset(
                "attempts",
                "int32",
                ("identity",),
                "number of draws; all but the last were too near to a training row",
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
            "near": "distance to a training row within which an identity is too near: 1% of the training rows lie "
            "within it of another row"
        },
    ),
    Schema(
        "landmarker/1",
        "a trained landmark estimator (`nerfgen train-landmarker`)",
        (
            Dataset("landmark_names", "string", ("landmark",), "names of the landmarks"),
            Dataset("class_names", "string", ("class",), "classes that it distinguishes"),
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
            ),
            Dataset("threshold", "float64", (), "smallest score of a detection"),
            Dataset(
                "held_out_image",
                "string",
                ("held_out",),
                "images held out from training, relative to IMAGES",
            ),
            Dataset(
                "held_out_error",
                "float64",
                ("held_out", "landmark"),
                "distance to the annotated point, in units of the class, such as the distance of the eyes; NaN "
                "where the point is not annotated or no object was detected",
            ),
            Dataset("held_out_score", "float64", ("held_out",), "score of the detection; 0 for none"),
        ),
        {"steps": "steps of the training"},
        {"weights": "parameters of the networks `finder` and `measurer`"},
    ),
)
