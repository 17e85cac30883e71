"""The command that makes a file, from what the file records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nerfgen.errors import InputError
from nerfgen.mesh import MESH_SCHEMA
from nerfgen.model import PERSONAL_SCHEMA
from nerfgen.provenance import model_commands, stage_commands
from nerfgen.provenance.origin import Call, Origin
from nerfgen.provenance.written import DATASET, read_written
from nerfgen.untrusted import printable

_Maker = Callable[[Origin], Call]

# By schema: the makers of its files, each with a parameter that only its files have; the last has none.
_MAKERS: dict[str, tuple[tuple[str, _Maker], ...]] = {
    "truth/1": (("", stage_commands.synth),),
    "landmarks/1": (
        ("estimator", stage_commands.landmark),
        ("format", stage_commands.import_landmarks),
        ("poses", model_commands.dataset),
    ),
    "cameras/1": (
        ("format", stage_commands.import_cameras),
        ("poses", model_commands.dataset),
        ("latent_size", model_commands.train),
        ("intrinsics", stage_commands.fit_cameras),
    ),
    "masks/1": (
        ("format", stage_commands.import_cameras),
        ("poses", model_commands.dataset),
        ("method", stage_commands.segment),
    ),
    "landmarker/1": (("", stage_commands.train_landmarker),),
    "pixels/1": (("", model_commands.pixels),),
    "model/1": (("", model_commands.train),),
    "checkpoint/1": (
        ("split_by", stage_commands.train_landmarker),
        ("", model_commands.train),
    ),
    "views/1": (("rows", model_commands.render), ("", model_commands.sample)),
    "direction/1": (("", model_commands.directions),),
    PERSONAL_SCHEMA: (("", model_commands.personalise),),
    "identities/1": (("", model_commands.dataset),),
    "report/1": (("", model_commands.evaluate),),
    "study/1": (("", model_commands.study),),
    MESH_SCHEMA: (("", model_commands.export),),
    DATASET: (("", model_commands.dataset),),
}


def reconstruct(path: Path) -> Call:
    """The call that makes a file from its inputs, with paths relative to how ``path`` is given.

    Raises:
        InputError: nerfgen did not write the file, it is damaged, or it does not record what its command needs.
    """
    origin = Origin(read_written(path))
    try:
        part = model_commands.point_of_study(origin)
        if part:
            return part
        for parameter, make in _MAKERS[origin.written.schema]:
            if not parameter or parameter in origin.parameters:
                return make(origin)
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise InputError(
            f"{path} does not record all that its command needs ({printable(str(error))}); `nerfgen info FILE` prints "
            "what it has"
        ) from error
    raise InputError(
        f"{path} was made by no command, but from Python; `nerfgen info FILE` prints its parameters"
    )
