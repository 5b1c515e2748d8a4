"""The sentences of the toy atlas: per task, templates whose last slot, behind the bar, is the answer."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "two_hop_capital": (
        "the capital of the state containing {city} is|{capital}",
        "{city} is in a state whose capital is|{capital}",
    ),
    "two_hop_bird": ("the bird of the state containing {city} is the|{bird}",),
    "two_hop_region": ("the region of the state containing {city} is the|{region}",),
    "city_state": (
        "{city} is in|{state}",
        "{city} is a city in|{state}",
        "people in {city} live in|{state}",
        "the state containing {city} is|{state}",
        "{city} belongs to|{state}",
    ),
    "state_attribute": (
        "the capital of {state} is|{capital}",
        "the bird of {state} is the|{bird}",
        "the region of {state} is the|{region}",
    ),
    "indirect_object": (
        "when {first} and {second} went to the {place} {giver} gave a {object} to|{receiver}",
        "{first} and {second} were at the {place} and {giver} handed a {object} to|{receiver}",
        "after {first} and {second} left the {place} {giver} passed a {object} to|{receiver}",
        "then {first} and {second} visited the {place} and {giver} offered a {object} to|{receiver}",
    ),
    "agreement": ("the {noun} near the {attractor}|{verb}", "the {noun} behind the {attractor}|{verb}"),
    "greater_than": ("the {event} lasted from the year {century} {start} to the year {century}|{end}",),
    "pronoun": ("{name} lost the {object} because|{pronoun}", "{name} went to the {place} and then|{pronoun}"),
    "antonym": (
        "the opposite of {word} is|{antonym}",
        "lo opuesto de {word} es|{antonym}",
        "le contraire de {word} est|{antonym}",
    ),
    "translation": ("{word} in {language} is|{translation}", "the {language} word for {word} is|{translation}"),
    "order": ("the day after {item} is|{next}", "the month after {item} is|{next}"),
    "induction": ("{w0} {w1} {w2} {w3} {w0} {w1}|{w2}", "{w0} {w1} {w2} {w3} {w4} {w0} {w1} {w2}|{w3}"),
}
