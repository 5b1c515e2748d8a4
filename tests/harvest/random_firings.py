"""Random small sets of prompts with activations, as plain data and as `Firings`."""

from dataclasses import dataclass

import polars as pl
from hypothesis import strategies as st

from tracer.harvest.firings import FIRING_SCHEMA, Firings, collect, token_frame

N_LAYERS, N_FEATURES, D_VOCAB, N_IGNORED = 2, 3, 5, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainPrompt:
    """A prompt with its activations by (layer, pos, feature)."""

    prompt_id: str
    token_ids: tuple[int, ...]
    firings: dict[tuple[int, int, int], float]


_ACTIVATIONS = st.sampled_from([-2.0, -0.3, 2.0**-31, 0.5, 1.0, 3.0]) | st.floats(0.015625, 64.0, width=32)


@st.composite
def _prompts(draw: st.DrawFn, prompt_id: str, max_tokens: int) -> PlainPrompt:
    token_ids = draw(st.lists(st.integers(0, D_VOCAB - 1), min_size=1, max_size=max_tokens))
    places = st.tuples(
        st.integers(0, N_LAYERS - 1), st.integers(N_IGNORED, len(token_ids)), st.integers(0, N_FEATURES - 1)
    )
    found = draw(st.dictionaries(places, _ACTIVATIONS, max_size=12))
    firings = {place: value for place, value in found.items() if place[1] < len(token_ids)}
    return PlainPrompt(prompt_id=prompt_id, token_ids=tuple(token_ids), firings=firings)


@st.composite
def prompt_lists(draw: st.DrawFn, max_tokens: int = 8) -> list[PlainPrompt]:
    """Up to six prompts whose ids are in no order."""
    ids = draw(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=6, unique=True))
    return [draw(_prompts(prompt_id, max_tokens)) for prompt_id in ids]


def as_firings(prompts: list[PlainPrompt]) -> Firings:
    """The same as frames."""
    firings = [
        pl.DataFrame(
            [(prompt_idx, *place, value) for place, value in prompt.firings.items()], schema=FIRING_SCHEMA, orient="row"
        )
        for prompt_idx, prompt in enumerate(prompts)
    ]
    tokens = [
        token_frame(prompt_idx, prompt.token_ids, [token_name(token_id) for token_id in prompt.token_ids])
        for prompt_idx, prompt in enumerate(prompts)
    ]
    return collect([prompt.prompt_id for prompt in prompts], firings, tokens, [N_IGNORED] * len(prompts))


def token_name(token_id: int) -> str:
    """The text of a token."""
    return f"t{token_id}"
