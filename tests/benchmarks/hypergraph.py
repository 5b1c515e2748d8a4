"""Time and memory of the hypergraph's counting: pairs, recurring sets and what they are judged by.

OMP_NUM_THREADS=1 python -m tests.benchmarks.hypergraph --n-graphs 100000
"""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Annotated, Any

import typer

from tests.benchmarks.measuring import measured
from tests.benchmarks.zipf_graphs import zipf_incidence
from tracer.aggregate.hypergraph.pairs import count_pairs
from tracer.aggregate.hypergraph.set_chances import set_measures
from tracer.aggregate.hypergraph.sets import recurring_sets
from tracer.aggregate.hypergraph.significance import pair_measures
from tracer.aggregate.incidence import Incidence
from tracer.aggregate.tasks import TaskMap, in_process

_work: tuple[Callable[[Any, Any], Any], Any] | None = None


def _do(block: Any) -> Any:
    assert _work is not None
    function, shared = _work
    return function(shared, block)


def in_processes(
    n_processes: int, function: Callable[[Any, Any], Any], shared: Any, blocks: Iterable[Any]
) -> Iterator[Any]:
    """A map over forked processes, which see what is shared without a copy; a block is drawn when one is free."""
    global _work
    _work = (function, shared)
    with ProcessPoolExecutor(n_processes) as pool:
        pending = []
        for block in blocks:
            pending.append(pool.submit(_do, block))
            if len(pending) > n_processes:
                yield pending.pop(0).result()
        yield from (future.result() for future in pending)


def _say(name: str, figures: dict[str, Any], **more: Any) -> None:
    print(json.dumps({"step": name} | {key: round(value, 3) for key, value in figures.items()} | more), flush=True)


def main(
    n_graphs: int = 10_000,
    seed: int = 0,
    pair_share: Annotated[float, typer.Option(help="least support of pairs, as a share of the graphs")] = 1e-4,
    set_share: Annotated[float, typer.Option(help="least support of sets, as a share of the graphs")] = 1e-3,
    max_size: int = 3,
    max_sets: int = 100_000,
    n_processes: int = 1,
) -> None:
    """Print a line of JSON for each step. Peak memory is this process's own, above what it held before the step."""
    run: TaskMap = in_process if n_processes == 1 else partial(in_processes, n_processes)
    drawn = measured(lambda: zipf_incidence(n_graphs, seed), "cpu")
    _say("draw", drawn.figures(), n_held=int(drawn.result.matrix.nnz))
    _pairs(drawn.result, max(10, int(n_graphs * pair_share)), run)
    _sets(drawn.result, max(30, int(n_graphs * set_share)), max_size, max_sets, run)


def _pairs(incidence: Incidence, least: int, run: TaskMap) -> None:
    counted = measured(lambda: count_pairs(incidence, least, run), "cpu")
    pairs = counted.result
    _say("pairs", counted.figures(), least=least, n_pairs=len(pairs.first))
    margins = {"support": incidence.support, "length": incidence.length}
    judged = measured(lambda: pair_measures(pairs, **margins, min_support=least), "cpu")
    found = {f"n_{tail}": int((judged.result[f"q_{tail}"] < 0.05).sum()) for tail in ("above", "below")}
    _say("judge pairs", judged.figures(), **found)


def _sets(incidence: Incidence, least: int, max_size: int, max_sets: int, run: TaskMap) -> None:
    searched = measured(
        lambda: recurring_sets(incidence, min_support=least, max_size=max_size, max_sets=max_sets, run=run), "cpu"
    )
    of_size = [
        {
            "size": found.size,
            "least": found.min_support_listed,
            "n_found": found.n_found,
            "n_listed": len(found.members),
        }
        for found in searched.result.by_size
    ]
    _say("sets", searched.figures(), least=least, sizes=of_size)
    for found in searched.result.by_size:
        judged = measured(partial(set_measures, incidence, found, run), "cpu")
        _say(f"judge sets of {found.size}", judged.figures(), n_above=int((judged.result["q_above"] < 0.05).sum()))


if __name__ == "__main__":
    typer.run(main)
