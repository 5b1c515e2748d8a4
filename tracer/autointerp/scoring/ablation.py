"""What a feature really does to the next token: its ablation in prompts of the run whose graphs keep it.

The prompts are of the split `score`, which labels are not made from. At every position where the graph keeps the
feature its activation is set to 0, attention patterns held; what the logits at the last position lose is what the
feature gave.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tracer.autointerp.feature_evidence import FeatureKey
from tracer.autointerp.scoring.asking import Effect
from tracer.autointerp.scoring.measures import hashed
from tracer.config import ModelConfig
from tracer.harvest.examples import example_split
from tracer.intervene.edits import Edit
from tracer.intervene.intervene import intervene
from tracer.model.device import resolve_device
from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import token_text
from tracer.tables.database import Connection

N_PROMPTS = 4
"""Prompts by feature, those where it has most influence."""
N_TRIED = 8
"""Prompts looked at for each one used: about half are of the other split."""
N_RAISED = 20
FAINT_SHARE = 0.1
"""A token is left alone when its logit changes by less than this share of the largest change."""

PROMPTS_SQL = """
SELECT layer, feature, prompt_id, token_ids, list(pos ORDER BY pos), sum(influence) AS total
FROM nodes JOIN (SELECT unnest($layers) AS layer, unnest($features) AS feature) USING (layer, feature)
JOIN graphs USING (graph_id) JOIN prompts USING (prompt_id) WHERE kind = 'feature'
GROUP BY layer, feature, prompt_id, token_ids
QUALIFY row_number() OVER (PARTITION BY layer, feature ORDER BY total DESC, prompt_id) <= $n
ORDER BY layer, feature, total DESC, prompt_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A prompt in which a feature is ablated at some positions."""

    document_id: str
    token_ids: tuple[int, ...]
    positions: tuple[int, ...]


Ablation = tuple[FeatureKey, tuple[Site, ...]]


def read_sites(connection: Connection, keys: Sequence[FeatureKey]) -> list[Ablation]:
    """Where features can be ablated; a feature that no graph of the split `score` keeps is absent.

    Args:
        connection: to a results file.
        keys: the features.
    """
    wanted = {"layers": [layer for layer, _ in keys], "features": [feature for _, feature in keys]}
    sites: dict[FeatureKey, list[Site]] = {}
    for layer, feature, prompt_id, token_ids, positions, _ in connection.execute(
        PROMPTS_SQL, wanted | {"n": N_TRIED * N_PROMPTS}
    ).fetchall():
        found = sites.setdefault((layer, feature), [])
        if example_split(prompt_id) == "score" and len(found) < N_PROMPTS:
            found.append(Site(document_id=prompt_id, token_ids=tuple(token_ids), positions=tuple(positions)))
    return [(key, tuple(found)) for key, found in sites.items() if found]


def measure_ablations(settings: ModelConfig, ablations: Sequence[Ablation]) -> dict[FeatureKey, Effect]:
    """Load the model and ablate features one by one.

    Args:
        settings: the run's model and transcoders.
        ablations: the features and where.
    """
    model = load_model(settings)
    return {key: ablate(model, key, sites) for key, sites in ablations}


def load_model(settings: ModelConfig) -> ReplacementModel:
    """The model and transcoders of a run, to measure in what is asked about.

    Args:
        settings: which they are.

    Raises:
        ModelError: they cannot be loaded.
    """
    return ReplacementModel.from_pretrained(
        settings.checkpoint, settings.transcoders, device=resolve_device(settings.device),
        trust_remote_code=settings.trust_remote_code, lazy_encoder=settings.lazy_encoder,
        lazy_decoder=settings.lazy_decoder, shared_cache=settings.shared_cache, check=False,
    )  # fmt: skip


def ablate(model: ReplacementModel, key: FeatureKey, sites: Sequence[Site]) -> Effect:
    """The tokens whose logits fall most without a feature, mean over prompts, and tokens that it leaves alone.

    Args:
        model: the replacement model.
        key: the feature.
        sites: the prompts and positions.
    """
    given = torch.zeros(model.weights.W_U.shape[1], device=model.device)
    for site in sites:
        token_ids = torch.tensor(site.token_ids, device=model.device)
        with torch.no_grad():
            unedited = model.forward(token_ids)
        edits = [Edit(layer=key[0], pos=list(site.positions), feature=key[1], scale=0.0)]
        ablated = intervene(token_ids, model, edits, unedited=unedited).logits[-1]
        whole = intervene(token_ids, model, [], unedited=unedited).logits[-1]
        lost = whole - ablated
        given += (lost - lost.mean()) / len(sites)
    top = given.topk(min(N_RAISED, len(given)))
    raised = [int(token_id) for token_id, lost in zip(top.indices, top.values, strict=True) if lost > 0]
    faint = (given.abs() < FAINT_SHARE * given.abs().max()).nonzero()[:, 0].tolist()
    chosen = sorted(faint, key=lambda token_id: hashed(*key, token_id))[:N_RAISED]
    names = [token_text(model.tokenizer, token_id) for token_id in (*raised, *chosen)]
    return Effect(
        raised=tuple(names[: len(raised)]),
        left_alone=tuple(names[len(raised) :]),
        documents=tuple(site.document_id for site in sites),
    )
