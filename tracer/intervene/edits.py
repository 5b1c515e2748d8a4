"""What an edit is: a feature at one or more positions set to a value, or to a multiple of what it was."""

from collections.abc import Sequence
from dataclasses import dataclass

from tracer.errors import ConfigError
from tracer.graph.formats.groups import Group
from tracer.model.transcoders import TranscoderSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Sets a feature's activation: to `value`, or to `scale` times its activation in the unedited prompt.

    `pos` is a position (negative ones count from the end), a slice, or a list of positions.
    """

    layer: int
    pos: int | slice | Sequence[int]
    feature: int
    value: float | None = None
    scale: float | None = None

    def wanted(self, unedited: float) -> float:
        """The activation to set, given the one in the unedited prompt."""
        if self.value is not None:
            return self.value
        assert self.scale is not None, "checked by check_edits"
        return self.scale * unedited

    def positions(self, n_pos: int, n_ignored: int) -> list[int]:
        """The positions meant, in a prompt of `n_pos` tokens; a slice passes over the first `n_ignored`.

        Raises:
            ConfigError: a position is outside the prompt, or one of the ignored, where no feature is a node.
        """
        if isinstance(self.pos, slice):
            return [pos for pos in range(n_pos)[self.pos] if pos >= n_ignored]
        wanted = [self.pos] if isinstance(self.pos, int) else list(self.pos)
        for pos in wanted:
            if not -n_pos <= pos < n_pos or pos % n_pos < n_ignored:
                raise ConfigError(
                    "edit",
                    found=f"position {pos}",
                    expected=f"a position from {n_ignored} to {n_pos - 1}",
                    to_do="Mend it.",
                )
        return [pos % n_pos for pos in wanted]


def edits_of(group: Group, *, value: float | None = None, scale: float | None = None) -> list[Edit]:
    """Edits that set all members of a group alike, each at its own position.

    Args:
        group: features that somebody takes to play one part, such as one of `load_groups`.
        value: their activation after the edit; either this or `scale`.
        scale: a multiple of each member's own activation; 0 takes the group out.
    """
    return [
        Edit(layer=layer, pos=pos, feature=feature, value=value, scale=scale) for layer, pos, feature in group.members
    ]


def check_edits(edits: Sequence[Edit], transcoders: TranscoderSet) -> None:
    """Refuse edits that name no feature, or not exactly one of value and scale.

    Raises:
        ConfigError: naming the edit.
    """
    for edit in edits:
        if (edit.value is None) == (edit.scale is None):
            raise ConfigError(
                f"{edit}", found="both or neither of value and scale", expected="exactly one of them", to_do="Mend it."
            )
        if not 0 <= edit.layer < transcoders.n_layers or not 0 <= edit.feature < transcoders.n_features[edit.layer]:
            raise ConfigError(
                f"{edit}",
                found=f"layer {edit.layer}, feature {edit.feature}",
                expected=f"one of {transcoders.n_layers} layers with {max(transcoders.n_features)} features",
                to_do="Mend it.",
            )
