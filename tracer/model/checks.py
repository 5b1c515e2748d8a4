"""Checks that a transcoder set fits a checkpoint, from file headers alone, before anything is loaded."""

from tracer.errors import ModelError
from tracer.model.architectures import checkpoint_facts
from tracer.model.readers import circuit_tracer
from tracer.model.references import resolve


def check_transcoders(checkpoint: str, transcoders: str) -> None:
    """Refuse a set that lacks a layer or has another width than the model.

    Raises:
        ModelError: naming the layer, what was found and what was expected.
    """
    facts = checkpoint_facts(resolve(checkpoint))
    folder = resolve(transcoders)
    settings = circuit_tracer.read_settings(folder)
    circuit_tracer.read_point(
        settings.get("feature_input_hook", ""), facts.architecture.centred_norm, folder / "config.yaml"
    )
    cross_layer = settings["model_kind"] == circuit_tracer.CROSS_LAYER
    for layer, (_, n_written, d_model) in enumerate(circuit_tracer.layer_shapes(folder, cross_layer, facts.n_layers)):
        expected_written = facts.n_layers - layer if cross_layer else 1
        if d_model != facts.d_model or n_written != expected_written:
            raise ModelError(
                f"{folder}, layer {layer}",
                found=f"width {d_model}, writing {n_written} layer(s)",
                expected=f"width {facts.d_model}, writing {expected_written} layer(s), as {checkpoint} has",
                to_do="Use transcoders that were made for this model.",
            )
