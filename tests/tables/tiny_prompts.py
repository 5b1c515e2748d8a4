"""Prompts of a made-up model of three layers whose features are known: what each fires on is written here."""

import hashlib
from dataclasses import dataclass
from random import Random

STATES = {
    "Texas": ("Austin", ("Dallas", "Houston", "Plano")),
    "Ohio": ("Columbus", ("Dayton", "Toledo", "Akron")),
    "Utah": ("Provo", ("Ogden", "Moab", "Logan")),
}
TEMPLATES = {
    "two_hop_capital": "the capital of the state containing {city} is",
    "city_state": "people in {city} live in",
    "antonym": "the opposite of {word} is",
}
ANTONYMS = {"hot": "cold", "big": "small", "old": "young"}
WORDS = sorted(
    {word for template in TEMPLATES.values() for word in template.split() if "{" not in word}
    | {*STATES, *ANTONYMS, *ANTONYMS.values()}
    | {word for capital, cities in STATES.values() for word in (capital, *cities)}
)
VOCABULARY = ("<bos>", *(f" {word}" for word in WORDS))
N_LAYERS = 3
N_NOISE_FEATURES = 6

Activations = dict[tuple[int, int, int], float]
"""Activation by (layer, pos, feature)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyPrompt:
    """A prompt with the activations that the made-up model has on it."""

    prompt_id: str
    tokens: tuple[str, ...]
    task: str
    pair_id: str
    answer: str
    counterfactual_answer: str
    metadata: dict[str, str | int]
    activations: Activations

    @property
    def token_ids(self) -> list[int]:
        """Vocabulary ids."""
        return [VOCABULARY.index(token) for token in self.tokens]

    @property
    def graph_id(self) -> str:
        """The one graph of the prompt."""
        return f"g{self.prompt_id[1:]}"


def draw_prompts(n_prompts: int, seed: int = 0) -> list[TinyPrompt]:
    """Prompts drawn from a seed; the n-th is the same however many are drawn."""
    return [_draw_prompt(number, Random(f"{seed}:{number}")) for number in range(n_prompts)]


def _draw_prompt(number: int, rng: Random) -> TinyPrompt:
    task = rng.choice(sorted(TEMPLATES))
    metadata: dict[str, str | int] = {"difficulty": rng.randrange(3), "text": f"note {number}"}
    if task == "antonym":
        subject, other = rng.sample(sorted(ANTONYMS), 2)
        answer, counterfactual = ANTONYMS[subject], ANTONYMS[other]
    else:
        state, other_state = rng.sample(sorted(STATES), 2)
        subject = rng.choice(STATES[state][1])
        answer, counterfactual = (
            (STATES[name][0] if task == "two_hop_capital" else name) for name in (state, other_state)
        )
        metadata |= {"state": state, "city": subject}
    tokens = ("<bos>", *(f" {word}" for word in TEMPLATES[task].format(city=subject, word=subject).split()))
    digest = hashlib.sha256(f"{number}{tokens}".encode()).hexdigest()[:15]
    return TinyPrompt(
        prompt_id=f"p{digest}",
        tokens=tokens,
        task=task,
        pair_id=f"pair{number // 2}",
        answer=f" {answer}",
        counterfactual_answer=f" {counterfactual}",
        metadata=metadata,
        activations=_activations(tokens, rng),
    )


def _activations(tokens: tuple[str, ...], rng: Random) -> Activations:
    """Layer 0 feature s fires on the cities of state s, layer 1 right after them, layer 2 at the end of the prompt;
    others at random.

    Feature 10 of layer 0 fires on ` the`, feature 10 of layer 2 at every position.
    """
    found: Activations = {}
    for state_idx, (_, cities) in enumerate(STATES.values()):
        for pos, token in enumerate(tokens):
            if token.strip() in cities:
                for layer, place in ((0, pos), (1, pos + 1), (2, len(tokens) - 1)):
                    found[layer, place, state_idx] = 1 + rng.random()
    for pos in range(1, len(tokens)):
        found[2, pos, 10] = 0.5 + rng.random()
        if tokens[pos] == " the":
            found[0, pos, 10] = 2 + rng.random()
        for layer in range(N_LAYERS):
            if rng.random() < 0.5:
                found[layer, pos, 20 + rng.randrange(N_NOISE_FEATURES)] = 4 * rng.random() ** 2
    return found
