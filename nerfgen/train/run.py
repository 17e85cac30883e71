"""The steps of a run: reports, checkpoints and the end, decided alike by all hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nerfgen import storage
from nerfgen.data import BatchSource
from nerfgen.model import Model
from nerfgen.optimize import (
    Agreement,
    Checkpoint,
    CheckpointSeries,
    Clock,
    Limits,
    load_checkpoint,
    read_shared,
    run_loop,
)
from nerfgen.parallel import Progress, silent
from nerfgen.stopping import Stop
from nerfgen.train.metrics_log import Entry, MetricsLog, logged_values, mean_entry, recent_means
from nerfgen.train.result import model_preview
from nerfgen.train.rollback import watched
from nerfgen.train.setup import Setup
from nerfgen.train.state import (
    TrainState,
    in_format,
    shard_state,
    state_placement,
    unshard_state,
    without_totals,
)


@dataclass(frozen=True)
class Observers:
    """Callbacks of a run.

    Attributes:
        framing: progress of decoding and framing.
        training: progress of the steps.
        checkpoint: called with the model so far at every checkpoint and at the end.
        say: receives warnings, a line each.
    """

    framing: Progress = silent
    training: Progress = silent
    checkpoint: Callable[[Model], None] = lambda model: None
    say: Callable[[str], None] = lambda line: None


class Run:
    """A state on its way through the loop, with its log and checkpoints. Hosts of a run call its methods together.

    Attributes:
        clock: of its steps.
        entries: of its log.
    """

    def __init__(
        self,
        setup: Setup,
        source: BatchSource,
        stage: storage.Stage,
        limits: Limits,
        checkpoints: CheckpointSeries,
        observers: Observers,
        resumed: Path | None,
    ) -> None:
        self._setup, self._source, self._stage = setup, source, stage
        self._checkpoints, self._observers = checkpoints, observers
        if resumed:
            state, done, seconds, self.entries = self._resumed(resumed)
        else:
            checkpoints.discard_previous()
            state, done, seconds, self.entries = setup.initial_state(), 0, 0.0, []
        self._state = state
        self._advance = setup.compile_step(source, state, done)
        self._waited_before = source.waited
        # The clock starts when the step is compiled: a time limit buys training.
        self._agreement = Agreement(setup.hosts)
        self.clock = Clock(limits, done=done, seconds=seconds, now=self._agreement.now)

    def train(self, log: MetricsLog | None, stop: Stop) -> TrainState:
        """The state at the end of the run, or where a stop was requested, with a checkpoint written.

        Args:
            log: of the first host.
        """
        recipe, say = self._setup.recipe, self._observers.say

        def report(state: TrainState) -> TrainState:
            totals = np.asarray(state.totals)
            self._agreement.meet(stop)
            may_recover = state.adversary is not None
            entry = mean_entry(totals, self.clock.done, self.entries, may_recover=may_recover)
            self.entries.append(entry)
            state = watched(state, self.entries, say)
            if log:
                log.add(logged_values(entry, recipe, self.clock, self._data_wait_fraction()))
            self._observers.training(self.clock.done, self.clock.expected_steps, self._note())
            return without_totals(state)

        def save(state: TrainState) -> None:
            self._save(state)
            if not should_stop():
                preview = model_preview(self._setup, state, self.clock.fraction)
                if self._setup.hosts.is_first:
                    self._observers.checkpoint(preview)

        def should_stop() -> bool:
            return self._agreement.should_stop(stop)

        return run_loop(
            self._advance,
            self._state,
            self.clock,
            report_every=self._setup.report_every,
            report=report,
            should_stop=should_stop,
            save=save,
        )

    def summary(self) -> storage.Record:
        """Figures of the run."""
        recent, rows = recent_means(self.entries), self._setup.rows
        return {
            "images": rows.num_inputs,
            "rows": rows.count,
            "steps": self.clock.done,
            "psnr_db": recent["psnr_db"],
            "loss_rgb": recent["rgb"],
            "loss_mask": recent["mask"],
            "loss_hard": recent["hard"],
            "rays_per_second": self._rays_per_second(),
            "data": self._source.placement,
            "data_wait_share": self._data_wait_fraction(),
            "devices": self._setup.mesh.size,
            "hosts": self._setup.hosts.count,
            "seconds": self.clock.seconds,
        }

    def _resumed(self, path: Path) -> tuple[TrainState, int, float, list[Entry]]:
        """State, steps, seconds and log of a checkpoint, whatever the number of hosts that wrote it."""
        setup = self._setup
        if path.is_dir():
            state, run = read_shared(path, state_placement(setup.state_shapes(), setup.mesh))
            log = [tuple(entry) for entry in run["log"]]
            return in_format(state, setup.mesh), int(run["step"]), float(run["seconds"]), log
        found = load_checkpoint(path, self._stage, setup.state_shapes())
        return shard_state(found.state, setup.mesh), found.step, found.seconds, found.log

    def _save(self, state: TrainState) -> None:
        hosts, clock = self._setup.hosts, self.clock
        if hosts.count > 1:
            checkpoint = Checkpoint(state, clock.done, clock.seconds, self.entries)
            self._checkpoints.save_shared(checkpoint, self._stage, hosts)
        else:
            arrays = unshard_state(state, self._setup.rows)
            checkpoint = Checkpoint(arrays, clock.done, clock.seconds, self.entries)
            self._checkpoints.save(checkpoint, self._stage)

    def _note(self) -> str:
        recent = recent_means(self.entries)
        note = (
            f"rgb {recent['rgb']:.4f} mask {recent['mask']:.4f} hard {recent['hard']:.4f} "
            f"PSNR {recent['psnr_db']:.1f} dB, {self._rays_per_second():,.0f} rays/s"
        )
        if self._source.streamed:
            note += f", {self._data_wait_fraction():.0%} waiting for data"
        return note

    def _rays_per_second(self) -> float:
        return self._setup.recipe.rays_per_batch * self.clock.steps_per_second

    def _data_wait_fraction(self) -> float:
        """Fraction of the session's time that the step waited for data."""
        return (self._source.waited - self._waited_before) / max(self.clock.session_seconds, 1e-6)
