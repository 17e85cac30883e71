"""Shards of the per-image commands: joined, they are the file that one run writes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import load
import pytest

from nerfgen.errors import InputError, OutputExistsError
from nerfgen.landmark.estimator import EstimatorSpec
from nerfgen.provenance import reconstruct
from nerfgen.settings import SettingError
from nerfgen.storage import Shard, parse_shard

COUNT, SHARDS = 150, 4


@pytest.fixture(scope="module")
def face_double():
    """The class face has an estimator that costs nothing."""
    spec = EstimatorSpec("load", "FaceDouble", "double")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nerfgen.landmark.stage.estimator_for", lambda *_, **__: spec)
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """More images than two batches of the camera solver have, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("images") / "data"
    load.make_images(folder, COUNT)
    (folder / "0000" / "000007x.jpg").write_bytes(b"no image")
    return folder


# Each command, in order, and the file that it writes.
STAGES = (
    (("landmark", "--workers", 1), "landmarks.h5"),
    (("fit-cameras", "--estimate-canonical", "--points", "landmarks"), "cameras.h5"),
    (("segment", "--method", "color", "--size", 32, "--workers", 1), "masks.h5"),
    (("frame", "--size", 16), "pixels-*.h5"),
)


@pytest.fixture(scope="module")
def whole_run(images, face_double, call, tmp_path_factory) -> Path:
    """The images with all files, each of which one run made. Tests write elsewhere."""
    data = tmp_path_factory.mktemp("finished") / "data"
    shutil.copytree(images, data)
    for (command, *options), _ in STAGES:
        call(command, data, *options, "-q")
    return data


@pytest.fixture
def finished(whole_run, tmp_path) -> Path:
    """A copy that a test may write to."""
    return Path(shutil.copytree(whole_run, tmp_path / "finished"))


def shard_names(data: Path) -> list[Path]:
    return sorted(data.glob("*.shard-*"))


@pytest.mark.slow
def test_joined_shards_are_the_file_of_one_run(finished, call):
    for (command, *options), pattern in STAGES:
        (whole,) = finished.glob(pattern)
        expected = whole.read_bytes()
        whole.unlink()
        for number in range(1, SHARDS + 1):
            call(command, finished, *options, "--shard", f"{number}/{SHARDS}", "-q")
        shards = shard_names(finished)
        assert len(shards) == SHARDS
        call("join", *reversed(shards), "-q")
        assert whole.read_bytes() == expected, command
        call(command, finished, *options, "-q")  # finds it current
        assert whole.read_bytes() == expected
        for shard in shards:
            shard.unlink()


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "a/b", "1/0"])
def test_words_that_are_no_shard_are_refused(text):
    with pytest.raises(SettingError, match="`shard`"):
        parse_shard("shard", text)


@pytest.mark.parametrize(("of", "count"), [(1, 5), (3, 10), (7, 7), (9, 4)])
def test_shards_divide_rows_in_order(of, count):
    rows = [row for number in range(1, of + 1) for row in Shard(number, of).rows(count)]
    assert rows == list(range(count))


@pytest.fixture
def landmark_shards(images, face_double, call, tmp_path) -> Path:
    """A folder of images with landmarks in three shards."""
    data = tmp_path / "data"
    (data / "0000").mkdir(parents=True)
    for image in sorted((images / "0000").iterdir())[:7]:
        shutil.copy(image, data / "0000")
    for number in range(1, 4):
        call("landmark", data, "--workers", 1, "--shard", f"{number}/3", "-q")
    return data


def test_shards_that_do_not_make_up_a_run_are_refused(landmark_shards, call):
    data = landmark_shards
    first, second, third = shard_names(data)
    with pytest.raises(InputError, match="shard 2/3 is missing"):
        call("join", first, third)
    doubled = data / "copy.h5"
    shutil.copy(second, doubled)
    with pytest.raises(InputError, match=f"{re.escape(second.name)} and .*copy.h5 are both shard 2/3"):
        call("join", first, second, third, doubled)
    call("landmark", data, "--workers", 1, "--shard", "1/2", "-q")
    with pytest.raises(InputError, match=r"different runs, .* number of shards: 3 and 2"):
        call("join", second, third, data / "landmarks.shard-1-of-2.h5")
    (data / "0000" / "new.jpg").write_bytes((data / "0000" / "000000.jpg").read_bytes())
    call("landmark", data, "--workers", 1, "--shard", "1/3", "--overwrite", "-q")
    with pytest.raises(InputError, match="images that were listed"):
        call("join", first, second, third)
    assert not (data / "landmarks.h5").exists()
    call("landmark", data, "--workers", 1, "-q")
    with pytest.raises(InputError, match=r"landmarks\.h5 is no shard"):
        call("join", data / "landmarks.h5")


def test_shards_that_were_made_with_other_options_are_refused(finished, call):
    call("frame", finished, "--size", 16, "--shard", "1/2", "-q")
    call("frame", finished, "--size", 8, "--shard", "2/2", "-q")
    with pytest.raises(InputError, match="differ in parameter size"):
        call("join", *shard_names(finished))


def test_a_shard_in_the_place_of_another_is_refused(landmark_shards, call):
    first = shard_names(landmark_shards)[0]
    before = first.read_bytes()
    with pytest.raises(OutputExistsError, match="differs in parameter shard number: 1 in the file, 2 now"):
        call("landmark", landmark_shards, "--workers", 1, "--shard", "2/3", "-o", first, "-q")
    assert first.read_bytes() == before


def test_the_command_of_a_shard_is_known(landmark_shards):
    made = reconstruct(shard_names(landmark_shards)[1])
    assert (made.command, made.options["shard"], made.options["output"]) == ("landmark", "2/3", None)


def test_more_shards_than_images_are_joined(landmark_shards, call):
    data = landmark_shards
    call("landmark", data, "--workers", 1, "-q")
    expected = (data / "landmarks.h5").read_bytes()
    (data / "landmarks.h5").unlink()
    for shard in shard_names(data):
        shard.unlink()
    for number in range(1, 10):
        call("landmark", data, "--workers", 1, "--shard", f"{number}/9", "-q")
    call("join", *shard_names(data), "-q")
    assert (data / "landmarks.h5").read_bytes() == expected


@pytest.mark.slow
def test_training_finds_what_was_framed_before(cars, tiny_options, call, tmp_path):
    data = tmp_path / "cars"
    shutil.copytree(cars, data)
    truth = ("--cameras", data / "truth.h5", "--masks", data / "truth.h5")
    call("frame", data, *truth, "--size", 24, "-q")
    (cache,) = data.glob("pixels-*.h5")
    made = cache.stat().st_mtime_ns
    call("train", data, *truth, *tiny_options, "--steps", 2, "--no-preview", "-q")
    assert [each.stat().st_mtime_ns for each in data.glob("pixels-*.h5")] == [made]
