"""The commands of the stages before training: synth, landmark, fit-cameras, segment, import, train-landmarker."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.image import digest_images, find_images
from nerfgen.interchange import FORMATS, default_front
from nerfgen.mask import METHOD_NAMES, mask_digest
from nerfgen.provenance.origin import Call, Origin
from nerfgen.provenance.recorded_inputs import FOLDER, find_sources
from nerfgen.provenance.written import read_written

_TRAINED = "trained-"


def synth(origin: Origin) -> Call:
    """Of ``truth/1``."""
    values = origin.own("num_images", "size", "views", "heldout_objects", "srn", "views_per_instance", "seed")
    if origin.path.name != "truth.h5":
        origin.notes.append(f"the command writes {origin.folder / 'truth.h5'}")
    return origin.call("synth", [origin.parameters["kind"], origin.folder], **values)


def landmark(origin: Origin) -> Call:
    """Of ``landmarks/1`` with an estimator."""
    data = origin.images(origin.written.names)
    identity, model = str(origin.parameters["estimator"]), None
    if identity.startswith(_TRAINED):
        model = origin.by_digest(identity.rpartition("-")[2], (".h5",), "LANDMARKER.h5")
    return origin.call(
        "landmark",
        [data],
        object_class=origin.class_option("face"),
        model=model,
        shard=origin.shard,
        output=origin.output(data / origin.per_image("landmarks.h5")),
    )


def fit_cameras(origin: Origin) -> Call:
    """Of ``cameras/1`` that were fitted."""
    data = origin.images(origin.written.names)
    values = origin.own(
        "intrinsics",
        "focal",
        "points",
        "depth_weight",
        "estimate_canonical",
        "refine_canonical",
        "robust",
        "max_error",
    )
    if not len(origin.described.canonical):
        values["estimate_canonical"] = None  # is always done
    if "canonical" in origin.parameters:
        sha256 = storage.file_digest(origin.path)[1]
        fits = partial(_has_canonical, canonical=origin.parameters["canonical"], sha256=sha256)
        values |= {"focal": None, "estimate_canonical": None, "refine_canonical": None}
        values["like"] = origin.search(fits, "MODEL", "the model whose canonical keypoints were used")
    return origin.call(
        "fit-cameras",
        [data],
        landmarks=origin.input_unless(origin.files[0], data / "landmarks.h5", "LANDMARKS.h5"),
        **values,
        shard=origin.shard,
        output=origin.output(data / origin.per_image("cameras.h5")),
    )


def _has_canonical(path: Path, canonical: list[list[float]], sha256: str) -> bool:
    """Whether a file is a model with canonical keypoints that was not trained with the cameras of a digest."""
    if not path.is_file() or storage.schema_of(path) != "model/1":
        return False
    if any(record["sha256"] == sha256 for record in read_written(path).inputs):
        return False
    with storage.reading(path, "model/1") as file:
        return "canonical" in file and np.array_equal(file["canonical"][:], np.array(canonical))


def segment(origin: Origin) -> Call:
    """Of ``masks/1`` that were segmented."""
    data, parameters = origin.images(origin.written.names), origin.parameters
    method = next(name for name in METHOD_NAMES if str(parameters["method"]).startswith(f"{name}-"))
    values = origin.own("background", "category", "pixel_range", "size")
    for name, suffixes, placeholder in (
        ("model", (".tflite",), "MODEL.tflite"),
        ("labels", (".txt",), "LABELS.txt"),
    ):
        if name in parameters:
            values[name] = origin.by_digest(parameters[name], suffixes, placeholder)
    if "masks" in parameters:
        names = origin.written.names
        values["masks"] = origin.search(
            lambda path: (
                path.is_dir()
                and not path.name.startswith(".")
                and mask_digest(path, names) == parameters["masks"]
            ),
            "MASKS",
            "the folder of the masks",
        )
    cameras, *landmarks = origin.files
    return origin.call(
        "segment",
        [data],
        method=method,
        **values,
        cameras=origin.input_unless(cameras, data / "cameras.h5", "CAMERAS.h5"),
        landmarks=origin.input_unless(landmarks[0], data / "landmarks.h5", "LANDMARKS.h5")
        if landmarks
        else None,
        shard=origin.shard,
        output=origin.output(data / origin.per_image("masks.h5")),
    )


def import_landmarks(origin: Origin) -> Call:
    """Of ``landmarks/1`` that were imported."""
    data = origin.images(origin.written.names)
    source = _source(origin)
    beside = source if source.is_dir() else source.parent
    default = {"celeba": "face", "ffhq": "face", "cat": "cat"}.get(origin.parameters["format"], "")
    return origin.call(
        "import",
        [source],
        object_class=origin.class_option(default),
        images=None if beside == data else data,
        output=_import_folder(origin, data),
    )


def import_cameras(origin: Origin) -> Call:
    """Of ``cameras/1`` and ``masks/1`` that were imported together."""
    data, parameters = origin.images(origin.written.names), origin.parameters
    source = _source(origin)
    form = parameters["format"]
    known, center = FORMATS[form], parameters["center"]
    values = origin.own("up", "front", "scale", "instances", "ignore_distortion", mask_size="size")
    if known.up == parameters["up"]:
        values["up"] = None
    if parameters["front"] == default_front(form, parameters["up"]):
        values["front"] = None
    if parameters["views"]:
        values |= {"views": parameters["views"], "seed": parameters["seed"]}
    if center != "watched" and (any(center) or not known.centered):
        values["center"] = center
    if "size" not in parameters and len(origin.written.inputs) == 2:
        del values["mask_size"]
    return origin.call(
        "import",
        [source],
        object_class=origin.class_option(known.object_class),
        **values,
        output=_import_folder(origin, data),
    )


def _source(origin: Origin) -> Path:
    """What was imported."""
    _, record = [record for record in origin.written.inputs if record["file"] == FOLDER][:2]
    found, _ = find_sources(origin.written, record, origin.places)
    if found is None:
        origin.notes.append("SOURCE stands for what was imported")
    return found or Path("SOURCE")


def _import_folder(origin: Origin, data: Path) -> Path | None:
    names = {"landmarks/1": "landmarks.h5", "cameras/1": "cameras.h5", "masks/1": "masks.h5"}
    expected = names[origin.written.schema]
    if origin.path.name != expected:
        origin.notes.append(f"the command writes {origin.folder / expected}")
    return None if origin.folder == data else origin.folder


def train_landmarker(origin: Origin) -> Call:
    """Of ``landmarker/1`` and its checkpoints."""
    own, sources = list(origin.written.inputs), []
    if origin.parameters["negatives"]:
        negatives = own.pop()
    count = len(own) // 2
    for number in range(count):
        annotations = own[2 * number]
        suffix = "" if count == 1 else str(number + 1)
        held_out = origin.written.names
        images = origin.images(held_out, f"IMAGES{suffix}") if count == 1 and held_out else None
        if images is None:
            images = Path(f"IMAGES{suffix}")
            origin.notes.append(f"{images} stands for a folder of images")
        sources.append(images)
        if annotations["file"] == FOLDER:
            sources.append(images)
            origin.notes.append("the annotations are assumed to be in the folder of the images")
        else:
            sources.append(origin.input(annotations, f"ANNOTATIONS{suffix}"))
    values = origin.own("split_by", "held_out", "batch", "minutes", "seed", "hard_negatives")
    if not (origin.parameters["minutes"] and origin.parameters["steps"] is None):
        values["steps"] = origin.parameters["steps"]
    if origin.parameters["negatives"]:
        values["negatives"] = _folder_of(origin, negatives, "NEGATIVES")
    if origin.parameters["minutes"]:
        origin.notes.append("a run that minutes end does not give the same bytes again")
    classes = origin.parameters["classes"]
    if origin.written.description:
        classes = [str(origin.class_option()), *classes[1:]]
    output = origin.path
    if origin.written.schema == "checkpoint/1":
        output = finished(origin)
    return origin.call(
        "train-landmarker",
        sources,
        classes=classes,
        **values,
        output=None if output == sources[0] / "landmarker.h5" else output,
    )


def finished(origin: Origin) -> Path:
    """The output of the run that a checkpoint is of."""
    origin.notes.append("the command writes this checkpoint on its way; --resume continues from it")
    return origin.folder / f"{origin.path.name.partition('.checkpoint-')[0]}.h5"


def _folder_of(origin: Origin, record: storage.InputRecord, placeholder: str) -> Path:
    """A folder of images, by its record."""
    return origin.search(
        partial(is_folder_of, record=record),
        placeholder,
        f"a folder of {record.get('count', 0)} images",
    )


def is_folder_of(path: Path, record: storage.InputRecord) -> bool:
    """Whether a folder holds exactly the images of a record."""
    if not path.is_dir() or path.name.startswith("."):
        return False
    try:
        names = find_images(path)
    except InputError:
        return False
    return len(names) == record.get("count") and (
        storage.folder_record(names, digest_images(path, names))["sha256"] == record["sha256"]
    )
