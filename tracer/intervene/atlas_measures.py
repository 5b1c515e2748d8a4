"""What the demo model's card states about its circuits, measured on held-out prompts of the toy atlas."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import mean, median

import torch

from tracer.attribution.attribute import attribute, graph_of
from tracer.attribution.prepared import prepare
from tracer.corpus.tasks import atlas, atlas_words
from tracer.graph.graph import Graph
from tracer.intervene import swaps
from tracer.intervene.swaps import Rate
from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel

TWO_HOP_TEMPLATES = (
    *(("two_hop_capital", template) for template in atlas.TEMPLATES["two_hop_capital"]),
    ("two_hop_bird", atlas.TEMPLATES["two_hop_bird"][0]),
)
"""Where swaps are measured: the two capital templates and bird."""

FeatureKey = tuple[int, int]
"""(layer, feature)"""

FeaturesOfState = dict[str, set[FeatureKey]]
"""Features by the name of the state that they stand for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapPair:
    """Two held-out prompts of one template about different states, with different answers, and their exact graphs."""

    base: atlas.AtlasPrompt
    donor: atlas.AtlasPrompt
    base_forward: Forward
    base_graph: Graph
    donor_graph: Graph
    donor_answer_id: int
    base_answer_id: int


def held_out_pairs(model: ReplacementModel, n_pairs: int, seed: int = 0) -> list[SwapPair]:
    """Distinct pairs, in turn from each of the two-hop templates; with 52 held-out cities, pairs share cities."""
    rng = Random(f"swap-pairs-{seed}")
    ids = model.tokenizer.get_vocab()
    pairs: list[SwapPair] = []
    drawn: set[tuple[str, str]] = set()
    while len(pairs) < n_pairs:
        task, template = TWO_HOP_TEMPLATES[len(pairs) % len(TWO_HOP_TEMPLATES)]
        base = atlas.draw(atlas.TASKS[task], rng, held_out=True, template=template)
        donor = atlas.partner(base, rng)
        if (base.text, donor.text) in drawn:
            continue
        drawn.add((base.text, donor.text))
        prepared = prepare(model, model.tokenize(base.text))
        pairs.append(
            SwapPair(
                base=base,
                donor=donor,
                base_forward=prepared.forward,
                base_graph=graph_of(model, prepared),
                donor_graph=attribute(donor.text, model),
                base_answer_id=ids[base.answer],
                donor_answer_id=ids[donor.answer],
            )
        )
    return pairs


Selection = Callable[[Graph, atlas.AtlasPrompt, Random], list[int]]
"""Chooses feature nodes of a graph."""


def top_features(n_features: int, layer: int | None = None) -> Selection:
    """The most influential ones."""
    return lambda graph, _prompt, _rng: swaps.most_influential(graph, n_features, layer=layer)


def random_features(n_features: int) -> Selection:
    """Random ones outside the ten most influential, matched to those in activation."""

    def select(graph: Graph, _prompt: atlas.AtlasPrompt, rng: Random) -> list[int]:
        return swaps.matched_random(graph, swaps.most_influential(graph, 10), n_features, rng)

    return select


def named_features(features_of_state: FeaturesOfState) -> Selection:
    """Those that a table names after the prompt's state."""

    def select(graph: Graph, prompt: atlas.AtlasPrompt, _rng: Random) -> list[int]:
        wanted = features_of_state.get(prompt.slots["state"], set())
        keys = graph.layout.features[:, [0, 2]].tolist()
        return [node for node, (layer, feature) in enumerate(keys) if (layer, feature) in wanted]

    return select


def flip_rate(model: ReplacementModel, pairs: Sequence[SwapPair], select: Selection, seed: int = 0) -> Rate:
    """How often swapping the selected features makes the donor's answer the likeliest."""
    rng = Random(f"flip-{seed}")
    n_flips = 0
    for pair in pairs:
        base_nodes = select(pair.base_graph, pair.base, rng)
        donor_nodes = select(pair.donor_graph, pair.donor, rng)
        edits = swaps.swap_edits(pair.base_graph, base_nodes, pair.donor_graph, donor_nodes)
        n_flips += swaps.answer_after(model, pair.base_forward, edits) == pair.donor_answer_id
    return Rate(n_hits=n_flips, n_trials=len(pairs))


def keep_rate(model: ReplacementModel, pairs: Sequence[SwapPair], select: Selection, seed: int = 0) -> Rate:
    """How often the answer stays when the selected features are set to zero."""
    rng = Random(f"keep-{seed}")
    n_kept = 0
    for pair in pairs:
        edits = swaps.ablation_edits(pair.base_graph, select(pair.base_graph, pair.base, rng))
        n_kept += swaps.answer_after(model, pair.base_forward, edits) == pair.base_answer_id
    return Rate(n_hits=n_kept, n_trials=len(pairs))


def state_features(model: ReplacementModel) -> FeaturesOfState:
    """Features that at some position of some two-hop template fire for at least 75 % of a state's cities, and of
    whose firings there at
    least 75 % are that state's."""
    found: FeaturesOfState = {state.name: set() for state in atlas_words.STATES}
    for _, template in TWO_HOP_TEMPLATES:
        counts: dict[tuple[int, int, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for city, state in atlas_words.STATE_BY_CITY.items():
            text = template.split("|")[0].format(city=city)
            for layer, active in enumerate(model.get_activations(text)):
                for pos, feature in zip(active.pos.tolist(), active.feature.tolist(), strict=True):
                    counts[layer, pos, feature][state.name] += 1
        for (layer, _, feature), by_state in counts.items():
            name, n_cities = max(by_state.items(), key=lambda item: item[1])
            n_all = len(atlas_words.STATE_BY_NAME[name].cities)
            if n_cities >= 0.75 * n_all and n_cities >= 0.75 * sum(by_state.values()):
                found[name].add((layer, feature))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFeatureMeasures:
    """How state features rank in held-out two-hop graphs."""

    n_features: int
    n_states: int
    median_rank: float
    influence_share: float


def measure_state_features(by_state: FeaturesOfState, pairs: Sequence[SwapPair]) -> StateFeatureMeasures:
    """Rank (0 is the strongest feature) of the best feature of the prompt's state, and the share of feature influence
    on all of them.
    """
    select = named_features(by_state)
    ranks, shares = [], []
    for pair in pairs:
        reach = pair.base_graph.influence[: pair.base_graph.layout.n_features]
        nodes = select(pair.base_graph, pair.base, Random(0))
        order = reach.argsort(descending=True).tolist()
        ranks.append(min((order.index(node) for node in nodes), default=len(order)))
        shares.append(float(reach[nodes].sum() / reach.sum()))
    return StateFeatureMeasures(
        n_features=len({key for keys in by_state.values() for key in keys}),
        n_states=sum(bool(keys) for keys in by_state.values()),
        median_rank=median(ranks),
        influence_share=mean(shares),
    )


def texas_features_of_dallas(model: ReplacementModel, by_state: FeaturesOfState) -> list[FeatureKey]:
    """State features of Texas among the ten most influential of the Dallas prompt."""
    graph = attribute("the capital of the state containing Dallas is", model)
    top = swaps.most_influential(graph, 10)
    keys = [(layer, feature) for layer, _, feature in graph.layout.features[top].tolist()]
    return [key for key in keys if key in by_state["Texas"]]


@torch.no_grad()
def answer_rate(model: ReplacementModel, task: str, n_prompts: int, *, replaced: bool = False, seed: int = 0) -> Rate:
    """Share of held-out prompts of a task that the model answers right, bare or with every MLP replaced.

    Agreement and greater-than count as right when most of the probability is on the right set of words: verbs of the
    noun's number against the other number's; years after the start against the others.
    """
    rng = Random(f"answers-{task}-{seed}")
    ids = model.tokenizer.get_vocab()
    n_right = 0
    for _ in range(n_prompts):
        prompt = atlas.draw(atlas.TASKS[task], rng, held_out=True)
        token_ids = model.tokenize(prompt.text)
        logits = model.replaced_logits(token_ids) if replaced else model.forward(token_ids).logits
        probabilities = logits[-1].softmax(-1)
        right, wrong = _right_and_wrong(prompt)
        if wrong:
            right_mass = float(probabilities[[ids[word] for word in right]].sum())
            n_right += right_mass > float(probabilities[[ids[word] for word in wrong]].sum())
        else:
            n_right += int(probabilities.argmax()) == ids[prompt.answer]
    return Rate(n_hits=n_right, n_trials=n_prompts)


def _right_and_wrong(prompt: atlas.AtlasPrompt) -> tuple[list[str], list[str]]:
    if prompt.task == "agreement":
        number = ("singular", "plural").index(prompt.slots["number"])
        return [verb[number] for verb in atlas_words.VERBS], [verb[1 - number] for verb in atlas_words.VERBS]
    if prompt.task == "greater_than":
        start = int(prompt.slots["start"])
        return list(atlas_words.YEARS[start + 1 :]), list(atlas_words.YEARS[: start + 1])
    return [prompt.answer], []
