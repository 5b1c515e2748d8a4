"""Checks before anything of size is fetched or loaded: access to every repository, and whether a set fits a model."""

from dataclasses import replace

from tracer.errors import ModelError
from tracer.model.architectures import checkpoint_facts
from tracer.model.hub_reference import HubReference
from tracer.model.readers.circuit_tracer import listed_elsewhere
from tracer.model.readers.registry import describe_transcoders
from tracer.model.references import check_access, hub_reference, resolve


def check_transcoders(checkpoint: str, transcoders: str) -> None:
    """Refuse a set that lacks a layer, has another width than the model, or reads where the model has no such place.

    Raises:
        ModelError: naming the layer, what was found and what was expected.
    """
    describe_transcoders(resolve(transcoders), checkpoint_facts(resolve(checkpoint)))


def check_repositories(checkpoint: str, transcoders: str, dataset: HubReference | None = None) -> None:
    """Ask the hub for every repository of a run before the first weight is fetched.

    A set may list files of other repositories in its `config.yaml`, which alone is fetched to ask for them too.

    Args:
        checkpoint: as for `tracer.model.references.resolve`.
        transcoders: the same.
        dataset: that of the corpus, where it lies on the hub.

    Raises:
        ModelError: naming every repository that cannot be read, and why.
    """
    check_access([checkpoint, transcoders, *([] if dataset is None else [dataset])])
    check_access(_listed(transcoders))


def _listed(transcoders: str) -> list[str]:
    on_hub = hub_reference(transcoders)
    if on_hub is None:
        return listed_elsewhere(resolve(transcoders))
    settings = replace(on_hub, inner=f"{on_hub.inner}/config.yaml".lstrip("/"))
    try:
        return listed_elsewhere(resolve(str(settings)).parent)
    except ModelError:
        # A set without settings lists nothing; what is wrong with it is said when it is read.
        return []
