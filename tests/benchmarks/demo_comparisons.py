"""Does comparing two-hop prompts with their counterfactuals find the features that are known to stand for a state?

For each state, its two-hop prompts of a demo run are compared, pair by pair, with their counterfactual partners, which
are about other states. Known features of a state are those of the model's card
(`tracer.intervene.atlas_measures.state_features`), found by running the model on every city, not by comparing graphs.
A feature's rank counts all features with at least its effect, so that ties count against it, among all that any of
these graphs holds. As a control, the known features of another state are looked for in the same lists. Fewer than six
pairs give no exact p below 0.05, whatever they show; effect and interval then say all that can be said, or more prompts
are needed, or a comparison with all other states' prompts, which are not paired.

    python -m tests.benchmarks.demo_comparisons RUN
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from tracer.aggregate.comparing.compare import compare
from tracer.cli.printing import database_of
from tracer.corpus.tasks import atlas_words
from tracer.intervene.atlas_measures import FeatureKey, FeaturesOfState, state_features
from tracer.model.replacement import ReplacementModel
from tracer.tables.database import Connection, connect

N_TOP = 10
HEADING = (
    "state         pairs  least p  rank  feature  first second  effect h  difference, 95 %         "
    "p        q        family-wise p"
)
TWO_HOP = "task IN ('two_hop_capital', 'two_hop_bird', 'two_hop_region')"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFound:
    """The strongest known feature of a state among all that differ: its row of `comparisons`, None where none does."""

    state: str
    n_pairs: int
    n_features: int
    """How many features were compared."""
    rank: int | None
    row: dict[str, Any] | None
    has_control: bool
    """Whether the known features of another state are among the strongest."""

    @property
    def is_found(self) -> bool:
        """Whether a known feature is among the strongest."""
        return self.rank is not None and self.rank <= N_TOP

    @property
    def least_p(self) -> float:
        """The least p that McNemar's exact test can give to so many pairs."""
        return min(1.0, 2 * 0.5**self.n_pairs)


def known_features(connection: Connection) -> FeaturesOfState:
    """Features by the state that they stand for, of the model and transcoders of a run."""
    (text,) = connection.execute("SELECT config FROM runs").fetchall()[0]
    model = json.loads(text)["model"]
    return state_features(ReplacementModel.from_pretrained(model["checkpoint"], model["transcoders"], device="cpu"))


def compare_states(connection: Connection, known: FeaturesOfState) -> list[StateFound]:
    """The comparison of every state with its counterfactuals."""
    states = [state.name for state in atlas_words.STATES]
    found = []
    for place, state in enumerate(states):
        two_hop = f"{TWO_HOP} AND state = '{state}'"
        items = compare(connection, two_hop, against="counterfactual", kinds=["feature"], min_support=1)
        items = items.with_columns(pl.col("effect_size").abs().round(9).rank("max", descending=True).alias("rank"))
        row, control = (_best(items, known[name]) for name in (state, states[place - len(states) // 2]))
        found.append(
            StateFound(
                state=state,
                n_pairs=items["n_first"][0],
                n_features=items.height,
                rank=None if row is None else int(row["rank"]),
                row=row,
                has_control=control is not None and control["rank"] <= N_TOP,
            )
        )
    return found


def _best(items: pl.DataFrame, features: set[FeatureKey]) -> dict[str, Any] | None:
    wanted = pl.DataFrame(sorted(features), schema={"layer_a": pl.Int64, "feature_a": pl.Int64}, orient="row")
    rows = items.join(wanted, on=["layer_a", "feature_a"], how="semi", maintain_order="left")
    return rows.row(0, named=True) if rows.height else None


def main(run: Annotated[str, typer.Argument(help="folder of a finished run of configs/demo.yaml")]) -> None:
    """Print each state's best known feature, and how many states have one among the strongest."""
    with connect(Path(database_of(run))) as connection:
        states = compare_states(connection, known_features(connection))
    print(HEADING)
    for found in states:
        print(f"{found.state:<14}{found.n_pairs:>5}  {found.least_p:.1e}  {_texts(found)}")
    n_found, n_control = sum(found.is_found for found in states), sum(found.has_control for found in states)
    print(f"\nstates with a known feature among the {N_TOP} strongest: {n_found} of {len(states)}")
    print(f"control, known features of another state there: {n_control} of {len(states)}")
    n_few = sum(found.least_p > 0.05 for found in states)
    print(f"states with so few pairs (under 6) that no exact p can be below 0.05: {n_few}")
    for title, column in (("p", "p"), ("q", "q"), ("family-wise p", "p_permutation")):
        n = sum(found.row is not None and (found.row[column] or 1) < 0.05 for found in states)
        print(f"states whose best known feature has {title} < 0.05: {n}")


def _texts(found: StateFound) -> str:
    row = found.row
    if row is None:
        return "none"
    interval = f"{row['difference']:5.2f} [{row['difference_low']:5.2f}, {row['difference_high']:5.2f}]"
    q = "   -   " if row["q"] is None else f"{row['q']:.1e}"
    return (
        f"{found.rank}/{found.n_features:<4}L{row['layer_a']}/{row['feature_a']:<5} {row['frequency_first']:5.2f}  "
        f"{row['frequency_second']:5.2f}   {row['effect_size']:6.2f}    {interval}  {row['p']:.1e}  {q}  "
        f"{row['p_permutation']:.3f}"
    )


if __name__ == "__main__":
    typer.run(main)
