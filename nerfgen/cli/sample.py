"""``nerfgen sample``: new objects that never existed."""

from __future__ import annotations

from typing import Annotated

import typer

from nerfgen.cli import choices, runtime, views

EPILOG = runtime.examples(
    "Examples",
    "nerfgen sample photos/model.h5 -n 8 --sheet people.png",
    "nerfgen sample photos/model.h5 -n 16 --truncation 1.0 --seed 7 --orbit 48 --video people.mp4",
)


def sample(
    model: runtime.ModelFile,
    count: Annotated[int, typer.Option("-n", "--num-samples", min=1, help="New objects.")] = 8,
    truncation: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Draws are from a Gaussian truncated at so many standard deviations: less is cleaner, more is "
            "more varied, 0 is the mean.",
        ),
    ] = 0.7,
    components: Annotated[int, typer.Option(min=0, help="Principal axes that vary; 0: all.")] = 0,
    seed: runtime.Seed = 0,
    yaw: views.Yaw = "",
    pitch: views.Pitch = "",
    orbit: views.Orbit = 0,
    distance: views.Distance = 0.0,
    fov: views.FieldOfView = 0.0,
    position: views.Position = "",
    look: views.Look = "",
    path: views.PathFile = None,
    save_path: views.SavePath = None,
    size: views.Size = 0,
    samples: views.Samples = 0,
    antialias: views.Antialias = 0,
    output: runtime.Output = None,
    png: views.Png = None,
    sheet: views.Sheet = None,
    video: views.Video = None,
    kinds: views.Kinds = "",
    fps: views.Fps = 0.0,
    overwrite: runtime.Overwrite = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Draw new objects from the table's Gaussian and render them; writes samples.h5 beside the model."""
    cameras = choices.CameraChoice(yaw, pitch, orbit, distance, fov, position, look, path)
    pictures = choices.PictureChoice(png, sheet, video, save_path, kinds, fps)

    import numpy as np

    from nerfgen import artifact
    from nerfgen.field import load_model
    from nerfgen.generate import Objects, fitting_antialias, principal_axes, render_to_file, truncated_draws

    model_file = model / "model.h5" if model.is_dir() else model
    trained = load_model(model_file)
    output = output or model_file.with_name("samples.h5")
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    size = size or trained.size
    antialias = antialias or fitting_antialias(trained, size)
    chosen = cameras.of(trained.object_class, trained.distance)
    pictures.check(chosen.path)
    principal = principal_axes(trained.latents, components)
    coefficients = truncated_draws(count, len(principal.deviation), truncation, seed)
    parameters = {
        "num_samples": count,
        "truncation": truncation,
        "components": components,
        "seed": seed,
        **chosen.parameters,
        "size": size,
        "samples": samples,
        "antialias": antialias,
    }
    inputs = [artifact.file_record(model_file), *chosen.inputs]
    about: artifact.About = {"object_class": trained.object_class, "parameters": parameters, "inputs": inputs}
    if artifact.is_current(output, "views/1", **about, overwrite=overwrite):
        reporter.kept(output)
    else:
        objects = Objects(
            names=[f"sample {number}" for number in range(count)],
            status=["ok"] * count,
            rows=np.full(count, -1),
            latents=principal.codes(coefficients),
            extra={"coefficients": coefficients},
        )
        with reporter.progress("rendering", "objects") as progress:
            render_to_file(
                trained,
                objects,
                output,
                cameras=chosen.path.cameras,
                size=size,
                samples=samples,
                antialias=antialias,
                about=about,
                progress=progress,
            )
    pictures.write(output, trained, model_file.parent, chosen.path, reporter)
    views_count = len(chosen.path.cameras.cam_to_world)
    variance = principal.deviation**2
    half = int(np.searchsorted(np.cumsum(variance) / variance.sum(), 0.9)) + 1 if variance.sum() else 0
    reporter.result(
        {
            "num_samples": count,
            "views": views_count,
            "components": len(variance),
            "components_of_90_percent_variance": half,
            "output": str(output),
        },
        f"{count} samples, {views_count} views each; {half} of {len(variance)} principal axes hold 90% of the "
        f"variance -> {output}",
    )
