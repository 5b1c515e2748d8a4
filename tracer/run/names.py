"""Whether transcoders were made for this checkpoint: what both say of themselves, compared as far as they say it."""

from tracer.config import ModelConfig
from tracer.model.references import hub_reference


def model_names(config: ModelConfig) -> dict[str, str | None]:
    """`checkpoint`: the name of the checkpoint; `transcoders_made_for`: the one that the transcoders name.

    A checkpoint from the hub has the name of its repository, one from elsewhere the `_name_or_path` of its config.json;
    None where nothing is said. The name of a local folder is the user's and says nothing.

    Raises:
        ModelError: one of them is absent or has no readable settings.
    """
    from tracer.model.architectures import checkpoint_facts, read_config
    from tracer.model.readers.registry import describe_transcoders
    from tracer.model.references import resolve

    own = read_config(resolve(config.checkpoint)).get("_name_or_path")
    made_for = describe_transcoders(
        resolve(config.transcoders), checkpoint_facts(resolve(config.checkpoint))
    ).model_name
    on_hub = hub_reference(config.checkpoint)
    return {
        "checkpoint": str(own or "") or None if on_hub is None else on_hub.repository,
        "transcoders_made_for": str(made_for or "") or None,
    }


OTHER_NAMES = {"gpt2-small": "gpt2"}
"""Names that TransformerLens gives a checkpoint beside its own."""


def differing_names(names: dict[str, str | None]) -> bool:
    """Whether both names of `model_names` are known and their last parts differ in more than case."""
    known = [name.rstrip("/").rpartition("/")[2].casefold() for name in names.values() if name]
    return len({OTHER_NAMES.get(name, name) for name in known}) > 1
