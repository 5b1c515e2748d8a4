"""Addresses of features on Neuronpedia, where the transcoders are known there."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

SITE = "https://www.neuronpedia.org"


@dataclass(frozen=True, slots=True)
class NeuronpediaSources:
    """Where a transcoder set is: the model's id and the name of the source set, whose layers are its sources."""

    model_id: str
    source_set: str

    @classmethod
    def named(cls, name: str | None) -> "NeuronpediaSources | None":
        """Those that `MODEL_ID/SOURCE_SET` names; None where nothing is named."""
        return None if not name else cls(*name.split("/", 1))

    def source_id(self, layer: int) -> str:
        """The source of a layer."""
        return f"{layer}-{self.source_set}"


def source_url(sources: NeuronpediaSources, layer: int) -> str:
    """The page of a layer's source; behind it, `/` and the index within its layer are that of a feature.

    Args:
        sources: where the transcoder set is.
        layer: the layer.
    """
    return "/".join([SITE, *(quote(part, safe="") for part in (sources.model_id, sources.source_id(layer)))])


def quick_list_url(sources: NeuronpediaSources, name: str, features: Sequence[tuple[int, int]]) -> str:
    """A page that shows several features as a list.

    Args:
        sources: where the transcoder set is.
        name: heading of the list.
        features: (layer, feature) pairs in the order shown.
    """
    listed = [
        {"modelId": sources.model_id, "layer": sources.source_id(layer), "index": str(feature)}
        for layer, feature in features
    ]
    encoded = quote(json.dumps(listed, separators=(",", ":"), ensure_ascii=False), safe="")
    return f"{SITE}/quick-list/?name={quote(name, safe='')}&features={encoded}"
