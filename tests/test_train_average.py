"""The moving average of the networks, which a model may have in place of those of the last step."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest

from nerfgen.model import load_model
from nerfgen.train import TrainingFiles, train
from nerfgen.train.state import moving_average

DECAY = 0.9


@pytest.fixture(scope="module")
def averaged(cars, tiny, tmp_path_factory):
    """The output of a run with a moving average, with a checkpoint at every report."""
    output = tmp_path_factory.mktemp("averaged") / "model.h5"
    trained(cars, output, tiny.with_values(steps=60, average_decay=DECAY), checkpoint_minutes=0, keep=1000)
    return output


def trained(cars, output, recipe, **options):
    truth = cars / "truth.h5"
    return train(TrainingFiles(cars, truth, truth, output), recipe, object_class="cars", **options)


def test_the_average_is_the_sum_of_decaying_weights():
    """Sum of (1 - d) d^k of the value k steps ago, and d^n of the start, once the decay is reached."""
    values = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    average, start = values[0], 1000
    for step, value in enumerate(values[1:], start):
        average = moving_average({"a": average}, {"a": value}, DECAY, step)["a"]
    weights = (1 - DECAY) * DECAY ** np.arange(29)[::-1]
    np.testing.assert_allclose(average, weights @ values[1:] + DECAY**29 * values[0], rtol=1e-5, atol=1e-6)


def test_the_initial_values_do_not_linger():
    """After n steps of zeros, at most the product of (1 + i) / (10 + i) is left of the start."""
    average = 1.0
    for step in range(40):
        average = moving_average(average, 0.0, 0.9999, step)
    assert average < 1e-6


def test_the_model_has_the_average(averaged, cars, tiny, tmp_path):
    """The average changes what is written, and nothing of the run."""
    output = tmp_path / "model.h5"
    trained(cars, output, tiny.with_values(steps=60))
    plain, smooth = load_model(output), load_model(averaged)
    np.testing.assert_array_equal(plain.latents, smooth.latents)
    last, mean = (jax.tree.leaves(model.parameters) for model in (plain, smooth))
    assert not any(np.array_equal(one, other) for one, other in zip(last, mean, strict=True))
    assert all(
        np.linalg.norm(one - other) < np.linalg.norm(one) for one, other in zip(last, mean, strict=True)
    )

    def losses(path):
        lines = path.with_suffix(".log.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    assert losses(output) == losses(averaged)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_same_average(averaged, cars, tiny, tmp_path):
    checkpoints = sorted(averaged.parent.glob("model.checkpoint-*.h5"))
    assert len(checkpoints) > 1
    shutil.copy(checkpoints[0], tmp_path / checkpoints[0].name)
    output = tmp_path / "model.h5"
    recipe = tiny.with_values(steps=60, average_decay=DECAY)
    trained(cars, output, recipe, checkpoint_minutes=0, keep=1000, resume=True)
    assert output.read_bytes() == averaged.read_bytes()
