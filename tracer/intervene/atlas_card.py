"""The demo model's card: every figure that is claimed of it, the floors under them, and the text that states both."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, cast

from transformers import PreTrainedTokenizerFast

from tracer.corpus.tasks import atlas
from tracer.intervene import atlas_measures as measures
from tracer.intervene.fidelity import measure_fidelity
from tracer.intervene.swaps import Rate
from tracer.model.demo.text import packed_rows
from tracer.model.replacement import ReplacementModel


@dataclass(frozen=True, slots=True)
class Floor:
    """A bound that the shipped weights must respect."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether `value` respects the bound."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


FLOORS = (
    Floor("answers.two_hop_capital", at_least=0.97),
    Floor("answers.indirect_object", at_least=0.95),
    Floor("answers.agreement", at_least=0.98),
    Floor("answers.pronoun", at_least=0.98),
    Floor("loss_recovered", at_least=0.96),
    Floor("n_states_with_feature", at_least=24.0),
    Floor("median_rank_of_state_feature", at_most=3.0),
    Floor("influence_share_of_state_features", at_least=0.15),
    Floor("flips.top_10", at_least=0.85),
    Floor("flips.top_10_layer_0", at_least=0.60),
    Floor("flips.random_20", at_most=0.30),
    Floor("keeps.random_10_ablated", at_least=0.85),
)


def measure_card(
    model: ReplacementModel,
    pairs: Sequence[measures.SwapPair],
    *,
    tasks: Sequence[str] = tuple(atlas.TASKS),
    replaced_tasks: Sequence[str] = tuple(atlas.TASKS),
    n_prompts: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of one transcoder set; rates carry their 95 % Wilson intervals.

    Args:
        model: the demo model with one of its transcoder sets.
        pairs: held-out pairs of prompts for swaps.
        tasks: whose answers are measured.
        replaced_tasks: whose answers are measured with every MLP replaced.
        n_prompts: held-out prompts a task.
        seed: seed of the prompts.
    """
    rows, _ = packed_rows(
        cast("PreTrainedTokenizerFast", model.tokenizer),
        Random(f"card-{seed}"),
        n_rows=100,
        n_ctx=model.facts.n_ctx,
        answer_weight=1.0,
    )
    fidelity = measure_fidelity(model, list(rows.to(model.weights.W_U.device)))
    by_state = measures.state_features(model)
    states = measures.measure_state_features(by_state, pairs)
    flips = {
        "top_10": measures.top_features(10),
        "top_10_layer_0": measures.top_features(10, layer=0),
        "random_20": measures.random_features(20),
        "state_features": measures.named_features(by_state),
    }
    scores = [pair.base_graph.scores() for pair in pairs]
    return {
        "fidelity": asdict(fidelity),
        "loss_recovered": fidelity.loss_recovered,
        "answers": {task: _rate(measures.answer_rate(model, task, n_prompts, seed=seed)) for task in tasks},
        "answers_replaced": {
            task: _rate(measures.answer_rate(model, task, n_prompts, replaced=True, seed=seed))
            for task in replaced_tasks
        },
        "n_state_features": states.n_features,
        "n_states_with_feature": states.n_states,
        "median_rank_of_state_feature": states.median_rank,
        "influence_share_of_state_features": states.influence_share,
        "flips": {name: _rate(measures.flip_rate(model, pairs, select)) for name, select in flips.items()},
        "keeps": {"random_10_ablated": _rate(measures.keep_rate(model, pairs, measures.random_features(10)))},
        "replacement_score_mean": sum(score.replacement for score in scores) / len(scores),
        "completeness_score_mean": sum(score.completeness for score in scores) / len(scores),
        "n_active_features_mean": sum(pair.base_graph.layout.n_features for pair in pairs) / len(pairs),
        "texas_features_of_dallas": measures.texas_features_of_dallas(model, by_state),
    }


def _rate(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval()
    return {"share": rate.share, "low": low, "high": high, "n_trials": rate.n_trials}


def check_floors(card: dict[str, Any]) -> Iterator[tuple[Floor, float, bool]]:
    """Each floor with the card's value and whether it holds."""
    for floor in FLOORS:
        value: Any = card
        for part in floor.figure.split("."):
            value = value[part]
        share = float(value["share"] if isinstance(value, dict) else value)
        yield floor, share, floor.holds(share)


def render_card(cards: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The model card as Markdown; `cards` maps a seed's name to the cards of its transcoder sets."""
    lines = [_HEADER]
    for seed, by_kind in cards.items():
        for kind, card in by_kind.items():
            lines += [f"## {seed}, {kind.replace('_', '-')} transcoders", "", *_figures(card), ""]
    return "\n".join(lines).rstrip() + "\n"


_HEADER = """# The embedded demo model

A GPT-2 of 4 layers and width 128 (0.9 million parameters), trained from a seed on the toy atlas (`tracer/corpus/tasks/atlas.py`), and two
transcoder sets of 768 JumpReLU features a layer, per-layer and cross-layer. Trained by `jobs/train_demo_model.py`, which also measured
every figure below. Held-out prompts use cities, name pairs, noun pairs, years and words that never occur in that task in the training
text; tasks marked * hold nothing out, so their prompts may have been seen. Flips are over held-out pairs of prompts, pooled over the
two capital templates and bird; the pairs differ but share cities. Intervals are 95 % Wilson intervals. Weights are stored in float16. Licence: that of tracer (MIT).

* *answers*: the likeliest next token is the answer; for agreement and greater-than, more probability on the right set of words than on the wrong one.
* *all MLPs replaced*: the same with every MLP output replaced by its reconstruction, errors left out.
* *flips*: features of a prompt set to zero and those of a prompt about another state put in; the other prompt's answer is then the likeliest.
"""  # noqa: E501 - Markdown paragraphs


def _figures(card: dict[str, Any]) -> list[str]:
    def rate(entry: dict[str, Any]) -> str:
        return f"{entry['share']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"

    fidelity = card["fidelity"]
    by_layer = {
        "explained variance": " ".join(f"{value:.3f}" for value in fidelity["explained_variance"]),
        "L0, active features per token": " ".join(f"{value:.1f}" for value in fidelity["l0"]),
        "dead features of 768": " ".join(str(value) for value in fidelity["n_dead"]),
    }
    single = {
        "loss recovered, all MLPs replaced": f"{card['loss_recovered']:.3f}",
        "state features, and states with one": f"{card['n_state_features']}, {card['n_states_with_feature']} of 26",
        "median influence rank of the best state feature": f"{card['median_rank_of_state_feature']:.0f}",
        "influence share of state features": f"{card['influence_share_of_state_features']:.2f}",
        "replacement score": f"{card['replacement_score_mean']:.2f}",
        "completeness score": f"{card['completeness_score_mean']:.2f}",
        "active features a graph": f"{card['n_active_features_mean']:.0f}",
    }
    lines = [
        "| figure | value (by layer) |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in by_layer.items()),
    ]
    lines += [f"| {name} | {value} |" for name, value in single.items()]
    lines += [f"| flips, {name.replace('_', ' ')} | {rate(entry)} |" for name, entry in card["flips"].items()]
    lines += [f"| answer kept, {name.replace('_', ' ')} | {rate(entry)} |" for name, entry in card["keeps"].items()]
    lines += ["", "| task | answers, held out | all MLPs replaced |", "|---|---|---|"]
    for task, entry in card["answers"].items():
        star = "" if atlas.TASKS[task].has_held_out else " *"
        lines.append(f"| {task}{star} | {rate(entry)} | {rate(card['answers_replaced'][task])} |")
    return lines
