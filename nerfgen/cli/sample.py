"""``nerfgen sample``: new objects that never existed."""

from __future__ import annotations

from typing import Annotated

import typer

from nerfgen.cli import runtime, views

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
    yaw: views.Yaw = "-40,-20,0,20,40",
    pitch: views.Pitch = "0",
    orbit: views.Orbit = 0,
    distance: views.Distance = 0.0,
    size: views.Size = 0,
    samples: views.Samples = 0,
    output: runtime.Output = None,
    png: views.Png = None,
    sheet: views.Sheet = None,
    video: views.Video = None,
    overwrite: runtime.Overwrite = False,
    quiet: runtime.Quiet = False,
    as_json: runtime.Json = False,
    debug: runtime.Debug = False,
) -> None:
    """Draw new objects from the table's Gaussian and render them; writes samples.h5 beside the model."""
    import numpy as np

    from nerfgen import artifact
    from nerfgen.field import load_model
    from nerfgen.generate import Objects, principal_axes, render_to_file, truncated_draws, turned_cameras

    path = model / "model.h5" if model.is_dir() else model
    trained = load_model(path)
    output = output or path.with_name("samples.h5")
    reporter = runtime.Reporter(quiet=quiet, as_json=as_json)
    size, distance = size or trained.size, distance or trained.distance
    angles = views.angles_of(trained, yaw, pitch, orbit)
    principal = principal_axes(trained.latents, components)
    coefficients = truncated_draws(count, len(principal.deviation), truncation, seed)
    parameters = {
        "num_samples": count,
        "truncation": truncation,
        "components": components,
        "seed": seed,
        "angles": angles.tolist(),
        "distance": distance,
        "size": size,
        "samples": samples,
    }
    inputs = [artifact.file_record(path)]
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
                cameras=turned_cameras(angles[:, 0], angles[:, 1], distance),
                size=size,
                samples=samples,
                about=about,
                progress=progress,
            )
    views.write_pictures(output, reporter, png=png, sheet=sheet, video=video)
    variance = principal.deviation**2
    half = int(np.searchsorted(np.cumsum(variance) / variance.sum(), 0.9)) + 1 if variance.sum() else 0
    reporter.result(
        {
            "num_samples": count,
            "views": len(angles),
            "components": len(variance),
            "components_of_90_percent_variance": half,
            "output": str(output),
        },
        f"{count} samples, {len(angles)} views each; {half} of {len(variance)} principal axes hold 90% of the "
        f"variance -> {output}",
    )
