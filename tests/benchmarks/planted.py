"""False discoveries and power of the hypergraph's statistics, on corpora in which it is known what belongs together.

python -m tests.benchmarks.planted --n-corpora 50
"""

import numpy as np
import typer

from tests.aggregate.hypergraph.planted_corpora import PAIRS, SETS, planted_corpus, task_corpus
from tests.aggregate.hypergraph.planted_scores import LEVEL, Score, score_pairs, score_sets, score_tasks


def main(n_corpora: int = 50) -> None:
    """Print mean false-discovery proportions with standard errors, and shares of the planted that were found."""
    seeds = range(n_corpora)
    score = Score()
    score_pairs((planted_corpus(PAIRS, seed) for seed in seeds), score)
    pairs_found, score.found = score.found, {}
    score_sets((planted_corpus(SETS, seed) for seed in seeds), score)
    sets_found, score.found = score.found, {}
    score_tasks((task_corpus(seed) for seed in seeds), score)
    print(f"mean false-discovery proportion at q <= {LEVEL} over {n_corpora} corpora (standard error), discoveries")
    for name in score.proportions:
        mean, error = score.mean(name)
        n_discovered = float(np.mean(score.discoveries[name]))
        verdict = "ok" if score.is_controlled(name) else "too many"
        if name in {"tasks above", "tasks below"}:
            verdict = "as it must be without strata"
        print(f"{name:32} {mean:7.4f} ({error:.4f}) {n_discovered:9.1f}  {verdict}")
    for title, found in (("pairs", pairs_found), ("sets given their parts", sets_found)):
        print(f"\nshare found, {title}: kind, frequency of a member, strength")
        for kind in dict.fromkeys(kind for kind, *_ in found):
            _print_power(kind, {tuple(cell): np.mean(hits) for (of, *cell), hits in found.items() if of == kind})


def _print_power(kind: str, shares: dict) -> None:
    cells = {(frequency, strength): share for (frequency, strength), share in shares.items()}
    strengths = sorted({strength for _, strength in cells})
    print(f"{kind:10} frequency" + "".join(f"  s={strength:<4}" for strength in strengths))
    for frequency in sorted({frequency for frequency, _ in cells}):
        row = (cells.get((frequency, strength)) for strength in strengths)
        print(f"{'':10} {frequency:9}" + "".join("       -" if share is None else f"{share:8.2f}" for share in row))


if __name__ == "__main__":
    typer.run(main)
