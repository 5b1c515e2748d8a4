"""The fault matrix: the cluster that its cases share, and the table at its end."""

from collections import defaultdict
from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster

OUTCOMES = ("failed", "error", "skipped", "passed")
"""The first that one of a test's phases had is the test's."""


@pytest.fixture(scope="module")
def machines() -> Iterator[Cluster]:
    """A head without room for actors and three machines with room for one each; this process has joined."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(3):
            made.add_node(num_cpus=1)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level=30)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


CASES = pytest.StashKey[frozenset[str]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which tests are cases: their marker, since a keyword may be the name of a folder."""
    marked = (item.nodeid for item in session.items if item.get_closest_marker("faults") is not None)
    session.config.stash[CASES] = frozenset(marked)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print case, outcome and seconds of the cases that ran."""
    cases = terminalreporter.config.stash.get(CASES, frozenset())
    outcomes: defaultdict[str, set[str]] = defaultdict(set)
    seconds: defaultdict[str, float] = defaultdict(float)
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            if outcome in {*OUTCOMES, ""} and report.nodeid in cases:
                outcomes[report.nodeid].add(outcome)
                seconds[report.nodeid] += report.duration
    if not outcomes:
        return
    terminalreporter.section("fault matrix")
    for nodeid, found in outcomes.items():
        outcome = next(outcome for outcome in OUTCOMES if outcome in found)
        case = nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
        terminalreporter.write_line(f"{outcome:8}{seconds[nodeid]:7.1f} s  {case}")
