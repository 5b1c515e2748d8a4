"""What fits on which machine."""

from hypothesis import given
from hypothesis import strategies as st

from tracer.config import RunnerConfig
from tracer.run.cluster import n_actors_on


@given(
    n_cpus=st.integers(0, 64),
    n_gpus=st.integers(0, 8),
    cpus=st.integers(1, 8),
    gpus=st.sampled_from([0, 0.25, 0.4, 0.5, 1, 2]),
)
def test_the_actors_that_fit_never_take_more_than_the_machine_has(n_cpus, n_gpus, cpus, gpus):
    n_actors = n_actors_on(
        {"CPU": float(n_cpus), "GPU": float(n_gpus)}, RunnerConfig(cpus_per_actor=cpus, gpus_per_actor=gpus)
    )
    assert n_actors * cpus <= n_cpus
    assert n_actors * gpus <= n_gpus
    if gpus == 0:
        assert (n_actors + 1) * cpus > n_cpus


def test_a_fraction_of_a_gpu_does_not_span_two():
    machine = {"CPU": 64.0, "GPU": 2.0}
    assert n_actors_on(machine, RunnerConfig(gpus_per_actor=0.6)) == 2
    assert n_actors_on(machine, RunnerConfig(gpus_per_actor=0.1)) == 20
    assert n_actors_on({"GPU": 2.0}, RunnerConfig(gpus_per_actor=1)) == 0
