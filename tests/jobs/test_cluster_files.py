"""The example clusters: Ray accepts the one, the other has what a run needs, and both have what the recipe asks for."""

import math

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.jobs.head import REPOSITORY
from tracer.config import load_config

CLUSTERS = REPOSITORY / "jobs" / "clusters"


@pytest.fixture(scope="module")
def kuberay() -> list[dict]:
    return list(yaml.safe_load_all((CLUSTERS / "kuberay.yaml").read_text(encoding="utf-8")))


def test_ray_accepts_its_cluster_file():
    config = yaml.safe_load((CLUSTERS / "ray-cluster.yaml").read_text(encoding="utf-8"))
    validate_config(prepare_config(config))
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]
    assert "~/.ray/auth_token" in config["file_mounts"]


def test_every_pod_has_the_token_and_the_shared_folder(kuberay):
    claim, cluster = kuberay
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert cluster["spec"]["rayVersion"] == ray.__version__
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
        assert (mount["name"], mount["mountPath"]) == (volume["name"], "/shared")
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_the_workers_have_what_the_recipe_reserves(kuberay):
    runner = load_config(REPOSITORY / "configs" / "cluster.yaml").runner
    (group,) = kuberay[1]["spec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    n_by_cpu = math.floor(int(limits["cpu"]) / runner.cpus_per_actor)
    n_by_gpu = math.floor(int(limits["nvidia.com/gpu"]) / runner.gpus_per_actor)
    assert group["replicas"] * min(n_by_cpu, n_by_gpu) == runner.n_actors
