"""Makes the tables of recurring circuits; which kinds there are: `tracer.tables.circuit_tables`."""

from collections.abc import Callable, Sequence

from tracer.aggregate.circuits.consensus import stage_consensus
from tracer.aggregate.circuits.graph_clusters import stage_graph_clusters
from tracer.aggregate.circuits.pair_clusters import stage_pair_clusters
from tracer.aggregate.circuits.profiles import stage_profile_clusters, stage_supernodes
from tracer.aggregate.circuits.samples import draw_samples, drop_samples, read_edges
from tracer.aggregate.circuits.staging import close_stage, open_stage
from tracer.aggregate.tasks import TaskMap, in_process
from tracer.config import CircuitConfig
from tracer.tables.database import Connection

DEFAULTS = CircuitConfig()


def build_circuits(
    connection: Connection,
    *,
    by: Sequence[str],
    min_support: int,
    settings: CircuitConfig = DEFAULTS,
    seed: int = 0,
    run: TaskMap = in_process,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Make `circuits`, `circuit_members`, `circuit_graphs` and `circuit_edges`; equal inputs give equal tables.

    Args:
        connection: the results being built, with `prompts`, `graphs`, `nodes`, `edges`, `features`,
            `edge_stats`, `edge_frequency`, `feature_frequency` and `cooccurrence` in it, the state attached.
        by: columns of `prompts` of whose values consensus circuits are made; those of the tables of frequencies.
        min_support: fewest graphs behind an edge or node of a consensus, a cluster of graphs and a feature in it; as
            the tables were made with.
        settings: bounds.
        seed: of samples, resamples and starts.
        run: spreads resamples.
        say: told what is being made.
    """
    say("samples of graphs")
    open_stage(connection)
    draw_samples(
        connection,
        by,
        max_graphs=settings.max_graphs,
        max_graphs_per_value=settings.max_graphs_per_value,
        seed=seed,
    )
    edges = read_edges(connection)
    say("consensus circuits")
    consensus = stage_consensus(connection, edges, by, min_support, settings, seed)
    say("supernodes")
    for circuit_id in consensus:
        stage_supernodes(connection, edges, circuit_id, settings=settings, seed=seed, run=run)
    say("clusters of features")
    stage_profile_clusters(connection, edges, settings=settings, seed=seed, run=run)
    stage_pair_clusters(connection, min_support=min_support, settings=settings, seed=seed, run=run)
    say("clusters of graphs")
    stage_graph_clusters(connection, min_support=min_support, settings=settings, seed=seed, run=run)
    drop_samples(connection)
    close_stage(connection)
