"""Addresses on Neuronpedia."""

import json
from urllib.parse import parse_qs, urlsplit

from tracer.tables.neuronpedia_links import NeuronpediaSources, quick_list_url, source_url

SOURCES = NeuronpediaSources("gemma-2-2b", "gemmascope-transcoder-16k")


def test_a_layer_has_a_page():
    assert source_url(SOURCES, 3) == "https://www.neuronpedia.org/gemma-2-2b/3-gemmascope-transcoder-16k"
    assert NeuronpediaSources.named("gemma-2-2b/gemmascope-transcoder-16k") == SOURCES
    assert NeuronpediaSources.named(None) is None


def test_a_list_names_its_features_in_order():
    url = quick_list_url(SOURCES, "says a & b — 100 %", [(2, 7), (0, 11)])
    parts = urlsplit(url)
    assert (parts.netloc, parts.path) == ("www.neuronpedia.org", "/quick-list/")
    assert not set(url) & set(' "{}[]—')
    [name], [features] = (parse_qs(parts.query)[key] for key in ("name", "features"))
    assert name == "says a & b — 100 %"
    assert json.loads(features) == [
        {"modelId": "gemma-2-2b", "layer": "2-gemmascope-transcoder-16k", "index": "7"},
        {"modelId": "gemma-2-2b", "layer": "0-gemmascope-transcoder-16k", "index": "11"},
    ]
