"""Do the top windows of the embedded model's known features show what they should?

    tracer harvest configs/harvest-demo.yaml --out runs/harvest
    python -m tests.benchmarks.harvest_known runs/harvest

A state feature is known to fire on the cities of one state, wherever they stand (`tracer/model/demo/files/README.md`).
For each state that a feature of the harvest stands for, the feature with the purest top windows is printed: how many of
its top windows name that state or one of its cities, how many of the windows where it does not fire
do, and three of its top windows.
"""

import sys
from pathlib import Path

from tracer.corpus.tasks.atlas_words import STATES
from tracer.tables.database import query

N_WINDOWS = 10
"""Fewest top windows of a feature that is looked at."""
PURE = 0.75


def main(folder: Path) -> None:
    """Print one line and three windows a state, and how many states have a feature."""
    rows = query(
        folder / "results.duckdb",
        "SELECT layer, feature, kind, context, window_tokens, pos - window_start AS place FROM examples "
        "WHERE kind IN ('top', 'random') ORDER BY layer, feature, kind, rank",
    )
    named = {state.name: {state.name, *state.cities} for state in STATES}
    best: dict[str, tuple[float, int, tuple[int, int], list[str], float]] = {}
    for key, group in rows.group_by(["layer", "feature"], maintain_order=True):
        of_kind = {kind: part for (kind,), part in group.group_by(["kind"])}
        top = of_kind.get("top")
        if top is None or len(top) < N_WINDOWS:
            continue
        # what stands behind the firing token cannot have made the feature fire
        seen = [set(tokens[: place + 1]) for tokens, place in zip(top["window_tokens"], top["place"], strict=True)]
        for state, words in named.items():
            share = sum(bool(tokens & words) for tokens in seen) / len(seen)
            found = (share, len(seen), key, top["context"].to_list()[:3], _share(of_kind.get("random"), words))
            if share >= PURE and found[:2] > best.get(state, (0.0, 0))[:2]:
                best[state] = found
    for state, (share, n_windows, (layer, feature), contexts, at_random) in sorted(best.items()):
        print(f"{state}: feature {layer}/{feature}, {share:.0%} of {n_windows} top windows, {at_random:.0%} at random")
        print("".join(f"    {context}\n" for context in contexts), end="")
    print(f"{len(best)} of {len(named)} states")


def _share(rows, words: set[str]) -> float:
    if rows is None:
        return 0.0
    return sum(bool(set(tokens) & words) for tokens in rows["window_tokens"]) / len(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
