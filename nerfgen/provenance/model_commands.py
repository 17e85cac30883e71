"""The commands of training and after: train, render, sample, export, evaluate."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.model import PRESETS, Model, Recipe, load_model, recorded_recipe
from nerfgen.provenance.origin import Call, Origin
from nerfgen.provenance.recorded_inputs import FOLDER, images_folder, listed_images
from nerfgen.provenance.stage_commands import finished, is_folder_of
from nerfgen.provenance.written import read_written
from nerfgen.render import RenderSettings
from nerfgen.storage import InputRecord, Record
from nerfgen.untrusted import printable

# Parameters of a training that are no fields of its recipe.
_OF_RUN = ("seed", "minutes", "precision", "rehearsal")
_DRAWS = {
    "count": "num_samples",
    "truncation": "truncation",
    "components": "components",
    "seed": "seed",
    "prior": "prior",
}
_FITTING = {
    "steps": "fit_steps",
    "start": "start",
    "refine_cameras": "fit_cameras",
    "residual": "code_residual",
    "seed": "seed",
}
_ALL_TABLES = ["train", "fit", "novel", "pairs", "depth", "samples", "cameras"]
_STUDY_TABLES = ["train", "fit", "novel", "depth"]
_STAGE_FILES = ("landmarks.h5", "cameras.h5", "masks.h5", "truth.h5")
_MINUTES = "a run that minutes end does not give the same bytes again"
# What effective recipes have where inputs rule something out.
_RULED_OUT = {
    "initial_codes": "noise",
    "local_size": 0,
    "local_channels": 0,
    "background_cells": 0,
    "background_channels": 0,
    "mirror": False,
    "lambda_mask": 0.0,
    "mask_margin": 0.0,
    "lambda_opaque": 0.0,
    "camera_learning_rate": 0.0,
    "lambda_camera": 0.0,
}


def train(origin: Origin) -> Call:
    """Of ``model/1``, its refined cameras and its checkpoints."""
    from nerfgen.train import Machine

    output = origin.path
    if origin.written.schema == "checkpoint/1":
        output = finished(origin)
    elif origin.written.schema == "cameras/1":
        output = origin.path.with_name(f"{origin.path.name.removesuffix('.cameras.h5')}.h5")
        origin.notes.append(f"the command writes this file beside {output}; --overwrite replaces both")
    names = listed_images(origin.written, origin.places) or origin.written.names
    data = origin.images(names)
    own = origin.files
    adversarial = origin.parameters.get("lambda_adversarial", 0) > 0
    base_record = own.pop() if adversarial or "rehearsal" in origin.parameters else None
    cameras = origin.input(own[0], "CAMERAS.h5")
    masks = origin.input(own[1], "MASKS.h5") if len(own) > 1 else None
    minutes = origin.parameters["minutes"]
    recipe = _recipe(
        origin, {name: value for name, value in origin.parameters.items() if name not in _OF_RUN}
    )
    options: Record = {"minutes": minutes, **origin.own("seed")}
    if minutes:
        origin.notes.append(_MINUTES)
    known = {name: _effective(origin, recipe, cameras, masks, minutes) for name, recipe in PRESETS.items()}
    if base_record:
        options["init"] = origin.input(base_record, "MODEL")
        options |= (
            {"adversarial": True} if adversarial else {"rehearse": origin.parameters["rehearsal"]["count"]}
        )
        known = _continued(origin, options["init"], cameras, masks, minutes, adversarial=adversarial)
    preset, changes = _changes(recipe, known)
    machine = Machine()
    precision = origin.parameters["precision"]
    if precision != machine.effective_precision(recipe, machine.mesh()):
        options["precision"] = precision
    return origin.call(
        "train",
        [data],
        object_class=_class_unless(origin, cameras),
        cameras=None if cameras == data / "cameras.h5" else cameras,
        masks=None if masks == data / "masks.h5" else masks,
        no_masks=masks is None,
        preset=preset,
        **options,
        output=None if output == data / "model.h5" else output,
    ).with_changes(changes)


def _recipe(origin: Origin, values: Record) -> Recipe:
    try:
        return recorded_recipe(values)
    except InputError as error:
        raise InputError(f"{origin.path}: {error}") from error


def _effective(
    origin: Origin, recipe: Recipe, cameras: Path, masks: Path | None, minutes: float | None
) -> Recipe:
    """What a recipe becomes with the training's inputs, as far as these are there."""
    from nerfgen.train import effective_recipe

    if minutes:
        recipe = replace(recipe, steps=None)
    if not cameras.is_file():
        return recipe
    return effective_recipe(recipe, origin.described, cameras, masks=masks)


def _continued(
    origin: Origin,
    base: Path,
    cameras: Path,
    masks: Path | None,
    minutes: float | None,
    *,
    adversarial: bool,
) -> dict[str, Recipe]:
    from nerfgen.train import adversarial_recipe, continued_recipe

    if not base.is_file():
        return {}
    recipe = (adversarial_recipe if adversarial else continued_recipe)(load_model(base))
    return {"": _effective(origin, recipe, cameras, masks, minutes)}


def _changes(recipe: Recipe, known: dict[str, Recipe]) -> tuple[str | None, Record]:
    """The known recipe that is nearest, and what changes it to a recorded one."""
    candidates = []
    for name, base in known.items():
        changed = {field: value for field, value in recipe.values().items() if getattr(base, field) != value}
        candidates.append((len(changed), name != "fast", name, changed))
    if not candidates:
        candidates = [(0, False, "", recipe.values())]
    _, _, name, changed = min(candidates, key=lambda each: each[:3])
    return name if name not in ("", "fast") else None, changed


def _class_unless(origin: Origin, cameras: Path) -> str | Path | None:
    """The option of the class; None where the cameras have it."""
    if cameras.is_file():
        found = read_written(cameras)
        if (found.object_class, found.description) == (
            origin.written.object_class,
            origin.written.description,
        ):
            return None
    return origin.class_option()


def pixels(origin: Origin) -> Call:
    """Of ``pixels/1``."""
    origin.notes.append("this is a cache of framed images; any training of this size re-creates it")
    data = origin.images(origin.written.names)
    if origin.parameters.get("rehearsal"):
        return origin.call("train", [data], size=origin.parameters["size"])
    cameras, *masks = origin.files
    is_shard = origin.path == data / origin.per_image("pixels.h5")
    return origin.call(
        "frame",
        [data],
        size=origin.parameters["size"],
        cameras=origin.input_unless(cameras, data / "cameras.h5", "CAMERAS.h5"),
        masks=origin.input_unless(masks[0], data / "masks.h5", "MASKS.h5") if masks else None,
        no_masks=not masks,
        shard=origin.shard,
        output=None if is_shard or origin.path.name.startswith("pixels-") else origin.path,
    )


@dataclass
class _OfModel:
    """A file that was made with a model: where the model is, and the model itself if it is there."""

    origin: Origin
    path: Path
    model: Model | None

    @classmethod
    def of(cls, origin: Origin) -> _OfModel:
        path = origin.input(origin.written.inputs[0], "MODEL")
        try:
            return cls(origin, path, load_model(path) if path.is_file() else None)
        except InputError:
            return cls(origin, path, None)

    def rendering(self) -> Record:
        """The options of the size and quality of views; those that the model implies are left out."""
        values = self.origin.own("size", "samples", "antialias", "background")
        records = [each for each in self.origin.files if each["file"] == values["background"]]
        if records:
            values["background"] = self.origin.input(records[0], "IMAGE")
        if self.model:
            settings = RenderSettings(size=values["size"])
            if values["antialias"] == settings.antialias_of(self.model):
                values["antialias"] = None
            if values["size"] == self.model.size:
                values["size"] = None
        return values

    def cameras(self, yaw: Sequence[float]) -> Record:
        """The options of the cameras; ``yaw`` is its default."""
        parameters, values = self.origin.parameters, self.origin.own("orbit", "distance", "fov", "position")
        if "path" in parameters:
            record = next(each for each in self.origin.files if each["file"] == parameters["path"])
            return {"path": self.origin.input(record, "PATH.json")}
        if "position" in parameters:
            towards = [-value for value in parameters["position"]]
            values["look"] = None if parameters["look"] == towards else parameters["look"]
            return values
        if self.model and values["distance"] == self.model.distance:
            values["distance"] = None
        if parameters["pitch"] != [0.0]:
            values["pitch"] = parameters["pitch"]
        if "yaw" in parameters and parameters["yaw"] != list(yaw):
            values["yaw"] = parameters["yaw"]
        return values

    def references(self, names: Iterable[str]) -> list[str]:
        """Objects of files, with the files' places; consecutive ones of a file and rows are joined."""
        joined: list[tuple[str, list[int]]] = []
        for name in names:
            file, _, number = name.rpartition(":")
            if not number.isdigit():
                joined.append((name, []))
            elif joined and joined[-1][0] == file and joined[-1][1]:
                joined[-1][1].append(int(number))
            else:
                joined.append((file, [int(number)]))
        places = {record["file"]: record for record in self.origin.files}
        words = []
        for file, numbers in joined:
            name, colon, which = file, ":" if file else "", numbers_text(numbers)
            if not numbers:  # as given
                name, colon, which = file.rpartition(":")
            if name:
                record = places.get(name)
                name = str(self.origin.input(record, "CODES.h5") if record else name)
            words.append(f"{name}{colon}{which}")
        return words


def numbers_text(numbers: Sequence[int]) -> str:
    """Numbers as ``--rows`` takes them: 0,5-9."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


_DEFAULT_YAW, _WALK_YAW = (-40.0, -20.0, 0.0, 20.0, 40.0), (0.0,)
_DEFAULT_ROWS = list(range(8))


def render(origin: Origin) -> Call:
    """Of ``views/1`` of rows, of objects of files, and of new images."""
    made, parameters = _OfModel.of(origin), origin.parameters
    options: Record = {}
    default = "views.h5"
    if "fit_steps" in parameters:
        options = {**_fitting(origin), "image": _images(origin), "shard": origin.shard}
        default = origin.per_image("fitted.h5")
    elif parameters["codes"]:
        options = {"codes": made.references(parameters["codes"])}
    elif (parameters["rows"] and parameters["rows"] != _DEFAULT_ROWS) or "axes" in parameters:
        options = {"rows": numbers_text(parameters["rows"]) or None}
    return origin.call(
        "render",
        [made.path],
        **options,
        **_moved(origin),
        **made.cameras(_DEFAULT_YAW),
        **made.rendering(),
        output=origin.output(made.path.with_name(default)),
    )


def _moved(origin: Origin) -> Record:
    """The options of a new object, and of objects that were moved along principal axes."""
    axes = origin.parameters.get("axes")
    coordinates = ",".join(f"{axis}={value}" for axis, value in axes) if axes else None
    new = origin.own("new", "truncation") if "new" in origin.parameters else {}
    return {**new, "axes": coordinates}


def _images(origin: Origin) -> list[Path]:
    """The option of the new images that a file of views is of: their folder, or each of them."""
    names = origin.written.names
    record = next(record for record in origin.written.inputs if record["file"] == FOLDER)
    for place in origin.places:
        near = [place, *(each for each in sorted(place.iterdir()) if each.is_dir())]
        whole = next((folder for folder in near if is_folder_of(folder, record)), None)
        if whole:
            return [whole]
    folder = images_folder(origin.written, names, origin.places)
    if folder is None:
        origin.notes.append(f"IMAGE stands for {record.get('count', 0)} images or their folder")
        return [Path("IMAGE")]
    return [folder / name for name in names]


def _fitting(origin: Origin) -> Record:
    """The options of fitting latent codes to new images."""
    options = origin.own(**_FITTING)
    if origin.parameters["tune_steps"]:
        options |= {"tune": True, **origin.own("tune_steps")}
    estimators = [each for each in origin.files[1:] if Path(each["file"]).suffix == ".h5"]
    if estimators:
        options["landmarker"] = origin.input(estimators[-1], "LANDMARKER.h5")
    return options


def directions(origin: Origin) -> Call:
    """Of ``direction/1``."""
    made, parameters = _OfModel.of(origin), origin.parameters
    labels = origin.input(origin.written.inputs[1], "LABELS.csv")
    usual = parameters["column"] if parameters["column"] != "value" else labels.stem
    return origin.call(
        "directions",
        [made.path, labels],
        column=parameters["column"],
        name=None if parameters["name"] == usual else parameters["name"],
        orthogonal_to=",".join(parameters["orthogonal_to"]) or None,
        output=origin.output(made.path.with_name(f"{parameters['name']}.direction.h5")),
    )


def personalise(origin: Origin) -> Call:
    """Of ``personal/1``."""
    made, parameters = _OfModel.of(origin), origin.parameters
    images = _images(origin)
    options = _fitting(origin)
    del options["residual"]
    options["tune"] = None if "tune" in options else False
    return origin.call(
        "personalise",
        [made.path, *images],
        name=None if parameters["name"] == images[0].stem else parameters["name"],
        spread=parameters["spread"],
        **options,
        output=origin.output(made.path.with_name(f"{parameters['name']}.personal.h5")),
    )


def sample(origin: Origin) -> Call:
    """Of ``views/1`` of new objects and of walks."""
    made, parameters = _OfModel.of(origin), origin.parameters
    is_walk = "frames" in parameters
    codes: list[str] = []
    options = origin.own("frames") if is_walk else {}
    if "direction" in parameters:
        codes = made.references(parameters["from"])
        low, high = parameters["range"]
        options |= {"direction": parameters["direction"], "span": f"{low:g}:{high:g}"}
        if isinstance(parameters["direction"], str):
            found = origin.input(origin.files[-1], "DIRECTION.h5")
            if found != made.path.with_name(f"{parameters['direction']}.direction.h5"):
                options["direction"] = found
    elif "between" in parameters:
        codes = made.references(parameters["between"])
    else:
        options |= origin.own(**_DRAWS)
    if is_walk and "direction" not in parameters:
        options["between"] = True
    return origin.call(
        "sample",
        [made.path, *codes],
        **options,
        **made.cameras(_WALK_YAW if is_walk else _DEFAULT_YAW),
        **made.rendering(),
        output=origin.output(made.path.with_name("walk.h5" if is_walk else "samples.h5")),
    )


def dataset(origin: Origin) -> Call:
    """Of the files of a dataset of synthetic identities."""
    made = _OfModel.of(origin)
    folder, count, shard_size = origin.folder, None, None
    for _ in range(3):
        if (folder / "dataset.json").is_file():
            content = read_written(folder / "dataset.json").content
            count, shard_size = content.get("identities"), content.get("identities_a_shard")
            break
        folder = folder.parent
    else:
        origin.notes.append("OUT stands for the folder of the dataset, N for its number of objects")
        folder, count = Path("OUT"), "N"
    poses = origin.parameters["poses"]
    return origin.call(
        "sample",
        [made.path],
        count=count,
        **origin.own("truncation", "components", "seed"),
        dataset=folder,
        **origin.own("views", "min_distance", "transforms"),
        poses=None if poses["kind"] == "training" else "{kind}:{yaw},{pitch}".format(**poses),
        shard_size=shard_size,
        **made.rendering(),
    )


def export(origin: Origin) -> Call:
    """Of meshes."""
    made, parameters = _OfModel.of(origin), origin.parameters
    options = origin.own("resolution", "level", "largest", "watertight", "faces")
    name = str(parameters.get("object", ""))
    if not name:
        origin.notes.append("Python's save_mesh wrote this file; ROW stands for the object")
        options["rows"] = "ROW"
    elif "fit_steps" in parameters:
        options |= _fitting(origin)
        record = next((each for each in origin.files[1:] if each["file"] == Path(name).name), None)
        if record is None:
            origin.notes.append(f"IMAGE stands for the images, {printable(name)} among them")
        options["image"] = [origin.input(record, "IMAGE") if record else Path("IMAGE")]
    elif name.startswith("row "):
        options["rows"] = name.removeprefix("row ")
    elif "new" not in parameters and name != "mean":
        options["codes"] = made.references([name])
    return origin.call(
        "export",
        [made.path],
        **options,
        **_moved(origin),
        output=origin.output(made.path.with_name("mesh.glb")),
    )


def evaluate(origin: Origin) -> Call:
    """Of ``report/1``."""
    made = _OfModel.of(origin)
    tables = origin.parameters["tables"]
    return origin.call(
        "evaluate",
        [made.path],
        tables=None if tables == _ALL_TABLES else ",".join(tables),
        **_evaluation(origin, origin.written.inputs[1:]),
        output=origin.output(made.path.with_suffix(".report.h5")),
    )


def study(origin: Origin) -> Call:
    """Of ``study/1``."""
    parameters = origin.parameters
    records = origin.written.inputs
    # The cameras, the masks if there are any, then the files beside the images in their order.
    has_masks = len(records) > 1 and records[1]["file"] not in ("landmarks.h5", "cameras.h5")
    if [record["file"] for record in records].count("truth.h5") == len(records):
        has_masks = len(records) > 2
    cameras = origin.input(records[0], "CAMERAS.h5")
    masks = origin.input(records[1], "MASKS.h5") if has_masks else None
    data = (
        images_folder(origin.written, read_written(cameras).names, origin.places)
        if cameras.is_file()
        else None
    )
    if data is None:
        origin.notes.append("DATA stands for the folder of the images")
        data = Path("DATA")
    minutes, sweep = parameters["minutes"] or None, parameters["sweep"]
    known = {name: replace(recipe, steps=None) if minutes else recipe for name, recipe in PRESETS.items()}
    if minutes:
        origin.notes.append(_MINUTES)
    preset, changes = _changes(_recipe(origin, parameters["recipe"]), known)
    tables = parameters["tables"]
    return origin.call(
        "evaluate",
        [data],
        sweep=f"{sweep['name']}={','.join(sweep['values'])}",
        minutes=minutes,
        preset=preset,
        tables=None if tables == _STUDY_TABLES else ",".join(tables),
        **_evaluation(origin, records[1 + has_masks :]),
        cameras=None if cameras == data / "cameras.h5" else cameras,
        masks=None if masks == data / "masks.h5" else masks,
        no_masks=masks is None,
        output=origin.output(data / "study.h5"),
    ).with_changes(changes)


def _evaluation(origin: Origin, records: Sequence[InputRecord]) -> Record:
    """The options of an evaluation: its settings and its reference data."""
    options = origin.own("images", "samples", "truncation", "fit_steps", "shown", "seed")
    for record in records:
        if record["file"] == FOLDER:
            options["held_out"] = origin.search(
                partial(is_folder_of, record=record), "HELD_OUT", "the folder of the held-out images"
            )
        elif record["file"] not in _STAGE_FILES:
            found = origin.input(record, "REFERENCE")
            options[_reference_kind(found)] = found
    return options


def _reference_kind(path: Path) -> str:
    """The option that a file of reference data is for, by its content."""
    if path.suffix.lower() == ".h5":
        return "landmarker"
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            columns = {name.strip() for name in next(csv.reader(stream), [])}
    except (OSError, UnicodeDecodeError, csv.Error):
        columns = set()
    return "pairs" if "source" in columns else "visible" if "p0" in columns else "keypoints"


def point_of_study(origin: Origin) -> Call | None:
    """The study that a file below its folder is a point of; None for other files."""
    folder = origin.folder
    if "=" not in folder.name:
        return None
    path = folder.parent.with_name(f"{folder.parent.name}.h5")
    if not path.is_file() or storage.schema_of(path) != "study/1":
        return None
    origin.notes.append(f"the file is a part of the study {path}")
    return study(Origin(read_written(path), origin.notes))
