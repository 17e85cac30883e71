"""Divergence of adversarial fine-tuning: noticed by the losses, and rolled back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from nerfgen.train.adversarial import Adversary, Snapshot
from nerfgen.train.metrics_log import COLUMNS, DivergedError, Entry
from nerfgen.train.state import TrainState

# Entries of the log between two snapshots, and over which a rise has to last.
_SNAPSHOT_ENTRIES = 10
# A state has diverged when its squared error exceeds this multiple of the first entry's.
_RISE = 1.3
# After so many halvings the adversarial loss has no more weight to speak of.
_MOST_ROLLBACKS = 6

_RGB = COLUMNS.index("rgb")


def watched(state: TrainState, entries: Sequence[Entry], say: Callable[[str], None]) -> TrainState:
    """The state after an entry of the log: as it is, with a new snapshot, or rolled back to the last one.

    A rollback halves the weight of the adversarial loss. Steps and random numbers go on, and the latent codes stay:
    their steps are skipped where a gradient is no number.

    Args:
        entries: of the log, the newest last.
        say: is told of a rollback.

    Raises:
        DivergedError: the weight has been halved too often.
    """
    adversary = state.adversary
    if adversary is None:
        return state
    newest = entries[-1]
    if not np.isfinite(newest).all() or newest[_RGB] > _RISE * entries[0][_RGB]:
        strength = float(adversary.strength) / 2
        if strength < 0.5**_MOST_ROLLBACKS:
            raise DivergedError(
                f"adversarial fine-tuning diverged {_MOST_ROLLBACKS + 1} times, the last time before step "
                f"{newest[0]:g}; lower `lambda_adversarial` or `learning_rate`"
            )
        say(
            f"the squared error rose from {entries[0][_RGB]:.3g} to {newest[_RGB]:.3g} by step {newest[0]:g}: rolled "
            f"back, with {strength:g} of the adversarial weight from now on"
        )
        return _rolled_back(state, adversary)
    return _with_snapshot(state, adversary) if len(entries) % _SNAPSHOT_ENTRIES == 0 else state


def _rolled_back(state: TrainState, adversary: Adversary) -> TrainState:
    # Copies: the next step reuses the memory of its arguments, and the snapshot is one of them.
    good = jax.tree.map(jnp.copy, adversary.good)
    return dataclasses.replace(
        state,
        networks=good.networks,
        network_moments=good.network_moments,
        average=good.average,
        adversary=dataclasses.replace(
            adversary,
            discriminator=good.discriminator,
            moments=good.moments,
            strength=adversary.strength / 2,
        ),
    )


def _with_snapshot(state: TrainState, adversary: Adversary) -> TrainState:
    good = Snapshot(
        state.networks, state.network_moments, state.average, adversary.discriminator, adversary.moments
    )
    copied = jax.tree.map(jnp.copy, good)
    return dataclasses.replace(state, adversary=dataclasses.replace(adversary, good=copied))
