"""``nerfgen train --dry-run``: what a run would need, here or on TPUs that are not here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nerfgen.settings import MAX_COUNT, SettingError, Settings, setting
from nerfgen.storage import Record

if TYPE_CHECKING:
    from nerfgen.cli.progress import Reporter
    from nerfgen.model import Recipe
    from nerfgen.objectclass import ObjectClass
    from nerfgen.train import Machine, TrainingFiles

# Of the published data set (FFHQ).
_PUBLISHED_IMAGES = 70_000


@dataclass(frozen=True)
class DryRun(Settings, title="Dry run"):
    """What to print instead of training."""

    dry_run: bool = setting(
        False, help="Print sizes, memory and time per step; train nothing and write nothing."
    )
    topology: str | None = setting(
        None,
        metavar="TPU",
        help="Chips to print them for, instead of this machine: a TPU topology of v4, v5e, v5p or v6e, such as "
        "[bold]v5e:2x2[/bold]. The TPU's own compiler answers, and DATA may be left out.",
    )
    num_images: int | None = setting(
        None,
        option="--images",
        minimum=1,
        maximum=MAX_COUNT,
        default_text=f"those of DATA, or {_PUBLISHED_IMAGES:,}",
        help="Number of images, and of objects, to plan for on `topology`.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.topology and not self.dry_run:
            raise SettingError("`topology` is for `dry_run` only")
        if self.num_images and not self.topology:
            raise SettingError("`num_images` is for `topology` only")


def estimate(
    planned: DryRun,
    files: TrainingFiles,
    recipe: Recipe,
    described: ObjectClass,
    machine: Machine,
    refine_cameras: bool | None,
    reporter: Reporter,
) -> None:
    """Print what a run would need here, or on the chips of a topology."""
    from nerfgen.data import list_images
    from nerfgen.train import effective_recipe, estimate_on_topology, estimate_run

    if planned.topology is None:
        needs = estimate_run(
            files, recipe, object_class=described, machine=machine, refine_cameras=refine_cameras
        )
        reporter.result(needs, "\n".join(f"{name.replace('_', ' ')}: {needs[name]}" for name in needs))
        return
    recipe = effective_recipe(
        recipe, described, files.cameras, masks=files.masks, refine_cameras=refine_cameras
    )
    count = planned.num_images or len(list_images(files.data, files.cameras, files.masks).rows)
    needs = estimate_on_topology(
        recipe,
        planned.topology,
        num_images=count,
        object_class=described,
        machine=machine,
    )
    reporter.result(needs, _topology_text(needs))


def estimate_without_data(
    planned: DryRun, recipe: Recipe, object_class: str, machine: Machine, reporter: Reporter
) -> None:
    """Print what a run on fitted cameras and masks would need on the chips of a topology.

    Raises:
        SettingError: no topology is given.
    """
    from nerfgen.objectclass import object_class as named_class
    from nerfgen.train import estimate_on_topology

    if planned.topology is None:
        raise SettingError("missing argument 'DATA'; see `nerfgen train --help`")
    described = named_class(object_class)
    needs = estimate_on_topology(
        replace(recipe, mirror=recipe.mirror and described.mirror),
        planned.topology,
        num_images=planned.num_images or _PUBLISHED_IMAGES,
        object_class=described,
        machine=machine,
    )
    reporter.result(needs, _topology_text(needs))


def _topology_text(needs: Record) -> str:
    """The figures of a topology for people: memory, a table of the parts of a step, the run."""
    memory, fitting = needs["memory_mib"] / 1024, needs["fitting"]
    lines = [
        f"{needs['topology']}: {needs['chips']} x {needs['chip']}, {needs['precision']}, {needs['images']:,} images, "
        f"{needs['micro_batch']} at a time on each chip",
        f"memory of a chip: {needs['needed_mib'] / 1024:.2f} of {memory:.0f} GiB"
        + ("" if needs["fits"] else ", which does not fit"),
    ]
    if fitting is None:
        return "\n".join([*lines, "nor does a single image at a time; more chips, or a smaller recipe, do"])
    if not needs["fits"]:
        remat = " --remat" if fitting["rematerialise"] else ""
        lines.append(f"what fits: --micro-batch {fitting['micro_batch']}{remat}, for which the rest is")
    lines += [
        f"arguments {needs['arguments_mib']:,.0f} MiB, temporaries {needs['temporaries_mib']:,.0f} MiB",
        "",
        f"{'a step':12} {'share':>6} {'GFLOP':>10} {'memory MiB':>11} {'sent MiB':>9} {'rows':>8} "
        f"{'roofline ms':>12} {'estimated ms':>13}",
    ]
    for name, part in [*needs["parts"].items(), ("total", {"share": 1.0, **needs})]:
        lines.append(
            f"{name:12} {part['share']:6.1%} {part['gflop']:10,.1f} {part['traffic_mib']:11,.1f} "
            f"{part['sent_mib']:9,.1f} {part['indexed_rows']:8,} {part['roofline_ms']:12,.3f} "
            f"{part['estimated_ms']:13,.3f}"
        )
    if needs["hours"] is not None:
        hours = needs["hours"]
        time = f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.2g} minutes"
        lines += ["", f"{needs['steps']:,} steps: {time}, {needs['chip_hours']:,.3g} chip hours"]
    return "\n".join(lines)
