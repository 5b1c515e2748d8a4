"""What a language model may answer, by sort of call; reasoning comes before the verdict wherever there is one."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tracer.autointerp.labeller import LabelKind
from tracer.autointerp.wording import MAX_LABEL_CHARACTERS, without_controls

Chance = Annotated[float, Field(ge=0.0, le=1.0)]
Text = Annotated[str, AfterValidator(without_controls)]
Name = Annotated[Text, Field(min_length=1, max_length=MAX_LABEL_CHARACTERS)]
Sentence = Annotated[Text, Field(min_length=1, max_length=500)]


class Answer(BaseModel):
    """Base of all answers: no field more, none fewer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FeatureAnswer(Answer):
    """What a feature is."""

    reasoning: Text
    kind: LabelKind
    label: Name
    description: Sentence


class SettledAnswer(Answer):
    """What a feature is, after several drafts."""

    reasoning: Text
    n_agreeing: Annotated[int, Field(ge=0)]
    kind: LabelKind
    label: Name
    description: Sentence


class GroupAnswer(Answer):
    """What a group of features does."""

    reasoning: Text
    label: Name
    description: Sentence


class NumberedChance(Answer):
    """The chance given to one numbered text or token."""

    number: int
    chance: Chance


class VerdictsAnswer(Answer):
    """A chance for each text or token."""

    verdicts: list[NumberedChance]


class IntruderAnswer(Answer):
    """Which text does not belong."""

    reasoning: Text
    intruder: int


class NumberedActivations(Answer):
    """What is foretold of one numbered text, 0 to 10 for each token."""

    number: int
    activations: list[Annotated[int, Field(ge=0, le=10)]]


class SimulationAnswer(Answer):
    """Activations foretold for all tokens of all texts."""

    texts: list[NumberedActivations]
