"""``nerfgen train``: the generative model of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nerfgen.cli import dry_run, options, runtime
from nerfgen.cli.progress import Messages, Reporter, other_statuses
from nerfgen.model import PRESETS, Recipe
from nerfgen.settings import MAX_COUNT, MAX_MINUTES, SettingError, Settings, setting
from nerfgen.stopping import Terminated
from nerfgen.storage import Record
from nerfgen.train import HostSettings, Machine

if TYPE_CHECKING:
    from nerfgen.image import ImageFolder
    from nerfgen.model import Model
    from nerfgen.objectclass import ObjectClass

EPILOG = runtime.examples(
    "Examples",
    "nerfgen train photos",
    "nerfgen train photos --minutes 20 --size 64 --set latent_size=128 --set plane_size=48",
    "nerfgen train photos --preset paper --steps 100000 --resume",
    "nerfgen train mine --init photos/model.h5",
    "nerfgen train photos --init photos/model.h5 --adversarial -o photos/sharper.h5",
    "nerfgen train cars --cameras cars/truth.h5 --masks cars/truth.h5",
    "srun nerfgen train photos --distributed",
)


@dataclass(frozen=True)
class TrainingInputs(Settings, title="Inputs"):
    """Files that a training reads beside the images."""

    cameras: Path | None = setting(None, metavar="FILE", help="Cameras; DATA/cameras.h5 by default.")
    masks: Path | None = setting(None, metavar="FILE", help="Masks; DATA/masks.h5 by default.")
    no_masks: bool = setting(False, help="Train without masks.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.masks and self.no_masks:
            raise SettingError("`masks` and `no_masks` exclude each other; give one of them")

    def files(self, data: Path) -> tuple[Path, Path | None]:
        """Cameras and masks of images, from the local folder that has the files about them."""
        masks = None if self.no_masks else self.masks or data / "masks.h5"
        return self.cameras or data / "cameras.h5", masks


@dataclass(frozen=True)
class BaseRecipe(Settings, title="Recipe"):
    """Where the recipe comes from."""

    preset: str | None = setting(
        None,
        choices=tuple(PRESETS),
        default_text="fast",
        help="[bold]fast[/bold]: right geometry in minutes on a CPU. [bold]quality[/bold]: the best result of an hour "
        "or two. [bold]paper[/bold], [bold]paper-hq[/bold]: the published architecture, losses and schedule, 256 and "
        "1,024 wide.",
    )
    init: Path | None = setting(
        None,
        metavar="MODEL",
        help="Continue this model: its rows stay as they are, and the images of DATA become new rows. The recipe is "
        "the model's, with 1,000 steps and a fifth of the networks' learning rate.",
    )
    rehearse: int = setting(
        256,
        minimum=1,
        maximum=1_000_000,
        help="Number of renderings of the model's own objects that `init` trains on as well, so that they are not "
        "forgotten.",
    )

    adversarial: bool = setting(
        False,
        help="Fine-tune the model of `init` on the images that it was trained on: patches of new views are to pass for "
        "patches of images. Rows stay those of the model. The recipe is that of `init`, with an adversarial loss, a "
        "moving average of the networks, and cameras as they are.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adversarial and not self.init:
            raise SettingError("`adversarial` fine-tunes a model; give it with `init`")
        if self.preset and self.init:
            raise SettingError(
                "`preset` and `init` exclude each other: a continued training has the model's own recipe"
            )


@dataclass(frozen=True)
class Running(Settings, title="Run"):
    """When a run stops, and what it leaves behind meanwhile."""

    minutes: float | None = setting(
        None,
        above=0,
        maximum=MAX_MINUTES,
        zero_is_default=True,
        help="Stop after this many minutes; the decay of learning rates is fitted to them.",
    )
    resume: bool = setting(False, help="Continue from the newest checkpoint, if there is one.")
    checkpoint_minutes: float = setting(
        5.0, minimum=0, maximum=MAX_MINUTES, help="Time between checkpoints and previews."
    )
    keep: int = setting(
        0,
        minimum=0,
        maximum=MAX_COUNT,
        help="Number of checkpoints to keep, the newest ones; 0 keeps one until the run is finished.",
    )
    preview: bool = setting(
        True, option="--preview/--no-preview", help="Draw MODEL.preview.png at every checkpoint."
    )
    tensorboard: Path | None = setting(None, metavar="FOLDER", help="Also log to TensorBoard.")


_NAMED_FIELDS = (
    "size",
    "latent_size",
    "width",
    "samples",
    "images_per_batch",
    "rays_per_image",
    "steps",
    "freeze",
)


def train(
    data: runtime.OptionalDataFolder = None,
    *,
    object_class: Annotated[
        str,
        typer.Option(
            "--class",
            metavar="NAME|FILE",
            help="Object class, or the file that describes it; by default that of the cameras.",
            show_default=False,
        ),
    ] = "",
    inputs: TrainingInputs,
    base: BaseRecipe,
    changes: Annotated[Record, options.Changes(Recipe, _NAMED_FIELDS, BaseRecipe.title)],
    seed: runtime.Seed = 0,
    running: Running,
    planned: dry_run.DryRun,
    machine: Machine,
    hosts: HostSettings,
    output: runtime.OutputFile,
    strict: runtime.Strict = False,
    messages: Messages,
) -> None:
    """Train the auto-decoder on a folder of images; writes DATA/model.h5.

    Needs the cameras of `nerfgen fit-cameras` and the masks of `nerfgen segment`. Fitted cameras are refined and
    written to MODEL.cameras.h5; known cameras, such as those of truth.h5, are kept. The framed images are cached beside
    the images, the log is MODEL.log.jsonl. Ctrl-C writes a checkpoint first. With --distributed many hosts train
    together.
    """
    from nerfgen import storage
    from nerfgen.image import local_folder
    from nerfgen.model import load_model, model_file
    from nerfgen.objectclass import object_class as named_class
    from nerfgen.train import Observers, StartModel, TrainingFiles, load_base_model
    from nerfgen.train import train as train_model

    if not base.init:
        options.refuse("is for --init only", "rehearse")
    if base.adversarial:
        options.refuse("has no effect on --adversarial, which keeps all objects", "rehearse")
    if planned.dry_run and hosts.distributed:
        raise SettingError("`dry_run` is of one host; leave `distributed` out")
    if data is None:
        if base.init:
            raise SettingError("`init` needs DATA, the images that the model does not know")
        wanted = PRESETS[base.preset or "fast"].with_values(**changes)
        dry_run.estimate_without_data(planned, wanted, object_class or "face", machine, messages.reporter())
        return
    folder = runtime.image_folder(data)
    local = local_folder(folder)
    file = output.output or local / "model.h5"
    cameras, masks = inputs.files(local)
    with storage.reading(cameras, "cameras/1", "truth/1", made_by=f"nerfgen fit-cameras {data}") as opened:
        described = named_class(object_class) if object_class else storage.class_of(opened)
    files = TrainingFiles(folder, cameras, masks, file)
    recipe = _recipe(base, changes, described, cameras, with_limit=running.minutes is not None)
    # A rate that is given explicitly refines known cameras too.
    refine_cameras = True if "camera_learning_rate" in changes else None
    if planned.dry_run:
        dry_run.estimate(planned, files, recipe, described, machine, refine_cameras, messages.reporter())
        return
    silenced = runtime.libraries_silenced() if hosts.distributed else nullcontext()
    with silenced, hosts.connected() as group:
        # The first host speaks for all.
        reporter = (messages if group.is_first else Messages(quiet=True, debug=messages.debug)).reporter()
        watcher = _Watcher(file, folder, reporter, preview=running.preview)
        with (
            _remedy(file, reporter),
            reporter.progress("framing") as framing,
            reporter.progress("training", "steps") as training,
        ):
            base_model, start = None, None
            if base.init and base.adversarial:
                path = model_file(base.init)
                start = StartModel(load_model(path), storage.file_record(path))
            elif base.init:
                base_model = load_base_model(base.init, recipe.size, renderings=base.rehearse, seed=seed)
            summary = train_model(
                files,
                recipe,
                object_class=described,
                seed=seed,
                minutes=running.minutes,
                base=base_model,
                start=start,
                refine_cameras=refine_cameras,
                machine=machine,
                resume=running.resume,
                overwrite=output.overwrite,
                checkpoint_minutes=running.checkpoint_minutes,
                keep=running.keep,
                tensorboard=running.tensorboard,
                observers=Observers(framing, training, watcher.look, reporter.say),
                hosts=group,
            )
    if summary["kept"]:
        reporter.kept(file)
        reporter.result(summary, f"-> {file}")
        return
    unusable = sum(summary["skipped"].values())
    reporter.result(
        summary | {"non_flatness": watcher.non_flatness},
        f"{summary['images']} images, {summary['steps']} steps in {summary['seconds']:.0f} s, "
        f"PSNR {summary['psnr_db']:.1f} dB -> {file}" + other_statuses(summary["skipped"]),
    )
    if running.preview and group.is_first:
        reporter.say(f"wrote {watcher.preview_file}")
    runtime.check_strict(strict, unusable, unusable + summary["images"])


def _recipe(
    base: BaseRecipe, changes: Record, described: ObjectClass, cameras: Path, *, with_limit: bool
) -> Recipe:
    """The recipe of a run.

    Args:
        with_limit: whether minutes end it; then steps do so only where they are given.

    Raises:
        InputError: a change is invalid, or the base model is of another class.
    """
    from nerfgen.errors import InputError
    from nerfgen.model import load_model
    from nerfgen.train import adversarial_recipe, continued_recipe

    recipe = PRESETS[base.preset or "fast"]
    if base.init:
        model = load_model(base.init)
        if model.object_class != described:
            raise InputError(
                f"{base.init} is a model of class {model.object_class.name}, but {cameras} is of {described.name}"
            )
        recipe = adversarial_recipe(model) if base.adversarial else continued_recipe(model)
    if with_limit:
        recipe = replace(recipe, steps=None)
    return recipe.with_values(**changes)


@contextmanager
def _remedy(output: Path, reporter: Reporter) -> Iterator[None]:
    """Say how to continue when the run is interrupted after its first checkpoint."""
    from nerfgen.optimize import CheckpointSeries

    try:
        yield
    except (KeyboardInterrupt, Terminated):
        newest = CheckpointSeries(output).newest()
        if newest:
            reporter.say(f"{newest} holds the run so far; the same command with --resume continues it")
        raise


class _Watcher:
    """Draws a preview at every checkpoint, and warns once if objects are flat."""

    def __init__(self, output: Path, data: ImageFolder, reporter: Reporter, *, preview: bool) -> None:
        self.preview_file = output.with_suffix(".preview.png")
        self.non_flatness = 1.0
        self._data, self._reporter, self._preview, self._warned = data, reporter, preview, False

    def look(self, model: Model) -> None:
        from nerfgen.image import save_image
        from nerfgen.render import FLAT, training_non_flatness
        from nerfgen.render.figures import preview_sheet

        if self._preview:
            save_image(self.preview_file, preview_sheet(model, self._data), figure=True)
        self.non_flatness = training_non_flatness(model)
        if self.non_flatness < FLAT and not self._warned:
            self._warned = True
            self._reporter.say(
                f"warning: objects look flat (depth {self.non_flatness:.2f} of their width); images from more sides, "
                "masks, `lambda_mask` 1, fewer `steps` or a smaller `latent_size` help"
            )
