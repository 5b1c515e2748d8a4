"""The settings of co-activation over a reference corpus: which features, and from which support on."""

from pydantic import Field, model_validator

from tracer.config.base import Settings


class CoactivationConfig(Settings):
    """Features whose co-activation is counted: those of a list, or those that many graphs of a run hold."""

    features: list[tuple[int, int]] = Field(default_factory=list, description="[layer, feature] pairs")
    run: str | None = Field(None, description="run whose features are taken too: folder or results.duckdb")
    min_graphs: int = Field(5, ge=1, description="fewest graphs of that run that hold a feature")
    max_features: int = Field(
        2_000,
        ge=2,
        le=20_000,
        description="most features, those in most graphs of the run; memory is 16 bytes times its square",
    )
    min_support: int = Field(5, ge=1, description="fewest positions or documents that a listed pair shares")

    @model_validator(mode="after")
    def _names_enough(self) -> "CoactivationConfig":
        if self.run is None and len(set(self.features)) == 1:
            raise ValueError("at least two features, or a run")
        if len(set(self.features)) > self.max_features:
            raise ValueError(f"{len(set(self.features))} features, max_features {self.max_features}")
        return self

    @property
    def is_wanted(self) -> bool:
        """Whether any features are named."""
        return self.run is not None or bool(self.features)
