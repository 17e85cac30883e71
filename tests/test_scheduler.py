"""Workers of Dask: the bytes of one process, whatever happens to workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import load
import pytest

from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.image import InputImage
from nerfgen.landmark.estimator import Detection, EstimatorSpec
from nerfgen.parallel import map_ordered
from nerfgen.workers import WorkerError

distributed = pytest.importorskip("distributed")

COUNT = 300


class FatalFace(load.FaceDouble):
    """Kills its process at one image, as often as ``times``; a file counts."""

    def __init__(self, image: str, times: int, counter: Path) -> None:
        self._image, self._times, self._counter = image, times, counter

    def __call__(self, image: InputImage) -> Detection:
        if image.name.endswith(self._image):
            with open(self._counter, "a+") as file:
                file.write("x")
                if file.tell() <= self._times:
                    file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image)


def squared(number: int) -> int:
    return number * number


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers, which takes a task for bad when it has ended two of them."""
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture
def use_estimator(monkeypatch):
    """Gives the class face an estimator, of the same identity whatever it is."""

    def use(name: str = "FaceDouble", *arguments: object) -> None:
        spec = EstimatorSpec("load" if name == "FaceDouble" else __name__, name, "double", arguments)
        monkeypatch.setattr("nerfgen.landmark.stage.estimator_for", lambda *_, **__: spec)

    use()
    return use


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "data"
    load.make_images(folder, COUNT)
    (folder / "0000" / "000007x.jpg").write_bytes(b"no image")
    return folder


@pytest.mark.slow
def test_every_stage_writes_the_bytes_of_one_process(images, scheduler, use_estimator, call, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    for data, options in ((alone, ()), (together, ("--scheduler", scheduler))):
        shutil.copytree(images, data)
        for command, *own in (
            ("landmark", "--workers", 1),
            ("fit-cameras", "--points", "landmarks"),
            ("segment", "--method", "color", "--size", 32, "--workers", 1),
            ("frame", "--size", 16),
        ):
            call(command, data, *own, *options, "-q")
    files = sorted(path.name for path in alone.glob("*.h5"))
    assert len(files) == 4
    assert [(together / name).read_bytes() for name in files] == [
        (alone / name).read_bytes() for name in files
    ]


@pytest.mark.slow
def test_a_lost_worker_costs_nothing_but_time(images, scheduler, use_estimator, call, tmp_path):
    call("landmark", images, "--workers", 1, "-o", tmp_path / "expected.h5", "-q")
    use_estimator("FatalFace", "000100.jpg", 1, tmp_path / "counter")
    call("landmark", images, "--scheduler", scheduler, "-o", tmp_path / "found.h5", "-q")
    assert len((tmp_path / "counter").read_text()) == 2
    assert (tmp_path / "found.h5").read_bytes() == (tmp_path / "expected.h5").read_bytes()


def test_an_image_that_ends_its_workers_is_named(images, scheduler, use_estimator, call, tmp_path, capsys):
    output = tmp_path / "found.h5"
    use_estimator("FatalFace", "000150.jpg", 1000, tmp_path / "counter")
    with pytest.raises(WorkerError, match=r"000150\.jpg ended 2 workers in a row"):
        call("landmark", images, "--scheduler", scheduler, "-o", output, "-q")
    assert not output.exists()
    use_estimator()
    call("landmark", images, "--workers", 1, "-o", output)  # what was finished is kept
    assert "images were finished by an earlier run" in capsys.readouterr().err


def test_local_workers_are_reached_from_this_machine_alone():
    import psutil

    with contextlib.closing(map_ordered(squared, range(10), workers=2, scheduler="local")) as results:
        found = [next(results)]
        own = psutil.Process()
        listening = {
            connection.laddr.ip
            for process in (own, *own.children(recursive=True))
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        found += results
    assert found == [number * number for number in range(10)]
    assert listening == {"127.0.0.1"}


def test_a_scheduler_that_does_not_answer_is_reported(monkeypatch):
    monkeypatch.setattr("nerfgen.cluster._CONNECT_SECONDS", 0.5)
    with pytest.raises(InputError, match="no Dask scheduler answers at tcp://127"):
        list(map_ordered(squared, range(3), scheduler="tcp://127.0.0.1:1"))


def test_the_extra_is_named_where_dask_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'nerfgen\[cluster\]'"):
        list(map_ordered(squared, range(3), scheduler="local"))
