"""Settings under which the tests export a small run."""

from tracer.views.exports.neuronpedia_settings import ExplanationNames, NeuronpediaSettings

SETTINGS = NeuronpediaSettings(
    release="tiny-release",
    description="Transcoders of a tiny model",
    urls=("https://example.org/tiny",),
    model_id="tiny",
    model_name="Tiny",
    model_owner="nobody",
    neurons_per_layer=64,
    source_set="transcoder-1k",
    creator_id="cl000000000000000000000ab",
    creator_name="somebody",
    explanations={"rule": ExplanationNames(type_name="tracer_rule", model_name=None)},
)
