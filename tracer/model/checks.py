"""Checks that a transcoder set fits a checkpoint, from file headers alone, before anything is loaded."""

from tracer.errors import ModelError
from tracer.model.architectures import checkpoint_facts
from tracer.model.readers import circuit_tracer_files as files
from tracer.model.references import resolve


def check_transcoders(checkpoint: str, transcoders: str) -> None:
    """Refuse a set that lacks a layer, has another width than the model, or reads where the model has no such place.

    Raises:
        ModelError: naming the layer, what was found and what was expected.
    """
    facts = checkpoint_facts(resolve(checkpoint))
    folder = resolve(transcoders)
    settings = files.read_settings(folder)
    files.read_point(settings, facts, folder / "config.yaml")
    cross_layer = settings["model_kind"] == files.CROSS_LAYER
    for layer in range(facts.n_layers):
        _, n_written, d_model = files.layer_decoder(folder, layer, cross_layer).shape
        expected_written = facts.n_layers - layer if cross_layer else 1
        if d_model != facts.d_model or n_written != expected_written:
            raise ModelError(
                f"{folder}, layer {layer}",
                found=f"width {d_model}, writing {n_written} layer(s)",
                expected=f"width {facts.d_model}, writing {expected_written} layer(s), as {checkpoint} has",
                to_do="Use transcoders that were made for this model.",
            )
