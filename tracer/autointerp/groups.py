"""Labels of groups and components: one call for each, from what is known of the members and from joint prompts."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tracer.autointerp.answers import GroupAnswer
from tracer.autointerp.client.calls import Call, Message, Parameters
from tracer.autointerp.explaining import MAX_TOKENS, Labels
from tracer.autointerp.group_evidence import HOW, GroupEvidence, Member, read_groups
from tracer.autointerp.labeller import feature_id, make_label_id
from tracer.autointerp.prompts import instructions
from tracer.autointerp.rows import split_rows, texts_hash
from tracer.autointerp.stage import Stage
from tracer.autointerp.texts import numbered, write
from tracer.corpus.tokens import visible

METHOD = "llm"
CURRENT_LABELS = "SELECT layer, feature, label FROM labels WHERE target_kind = 'feature'"


def label_groups(stage: Stage) -> None:
    """Ask for the labels of the groups of the settings, and keep them."""
    settings = stage.settings
    n_calls = settings.max_groups * len(settings.groups)
    for call, group, outcome in stage.ask("groups", n_calls, group_calls(stage)):
        if outcome.is_ok and isinstance(outcome.parsed, GroupAnswer):
            _keep(stage, group, call, outcome.request_hash, outcome.parsed)
        else:
            stage.rows.fail(METHOD, f"{group.target_kind} {group.target_id}", outcome)


def group_calls(stage: Stage) -> Iterator[tuple[Call[Any], GroupEvidence]]:
    """The calls that ask what the groups of the settings do, each with its group."""
    known = {(layer, feature): text for layer, feature, text in stage.connection.execute(CURRENT_LABELS).fetchall()}
    known |= {key: label.label for key, label in stage.rows.features.items()}
    for kind in stage.settings.groups:
        for group in read_groups(stage.connection, kind, stage.settings.max_groups):
            yield group_call(group, known, stage.source.between), group


def group_call(group: GroupEvidence, labels: Labels, between: str) -> Call[GroupAnswer]:
    """Ask what a group does.

    Args:
        group: what was measured.
        labels: what is known of its members.
        between: what stands between two tokens of a readable text.
    """
    task = instructions("group")
    return Call(
        stage="group",
        target=f"{group.target_kind}/{group.target_id}",
        messages=(Message("system", task.text), Message("user", group_text(group, labels, between))),
        form=GroupAnswer,
        parameters=Parameters(max_tokens=MAX_TOKENS),
        prompt_version=task.version,
    )


def group_text(group: GroupEvidence, labels: Labels, between: str) -> str:
    """The variable part of the call."""
    graphs = "" if group.n_graphs is None else f", over {group.n_graphs} prompts"
    lines = [_member(one, labels) for one in group.members]
    shown = f" (the {len(lines)} that matter most)" if len(lines) < group.n_members else ""
    promoted = ", ".join(f"{visible(token)} {logit:+.2f}" for token, logit in group.promoted)
    prompts = [
        f"{write(prompt.tokens, between)} → {visible(prompt.next_token or '')}  ({prompt.n_members} of the members)"
        for prompt in group.prompts
    ]
    sections = [
        f"The group: {HOW[group.kind]}{graphs}; {group.n_members} members.",
        f"Members{shown}:\n{numbered(lines)}",
        f"Promoted together: {promoted}" if promoted else "",
        f"Prompts with the next token that the model finds likeliest:\n{numbered(prompts)}" if prompts else "",
    ]
    return "\n\n".join(filter(None, sections))


def _member(member: Member, labels: Labels) -> str:
    name = feature_id(member.layer, member.feature)
    known = labels.get((member.layer, member.feature), "no label")
    frequency = "" if member.frequency is None else f", in {member.frequency:.0%}"
    influence = "" if member.influence is None else f", {member.influence:.1%} of the influence where it is"
    return f"{name} [{known}]{frequency}{influence}"


def _keep(stage: Stage, group: GroupEvidence, call: Call[Any], request_hash: str, answer: GroupAnswer) -> None:
    examples_hash = texts_hash(group.prompts)
    label_id = make_label_id(
        group.target_kind, group.target_id, METHOD, stage.model, call.prompt_version, examples_hash
    )
    stage.rows.all_labels.append({
        "label_id": label_id, "target_kind": group.target_kind, "target_id": group.target_id, "layer": group.layer,
        "label": answer.label, "description": answer.description, "method": METHOD, "model": stage.model,
        "prompt_version": call.prompt_version, "request_hash": request_hash, "examples_hash": examples_hash,
        "provenance": f"{stage.model}, from {len(group.members)} members and {len(group.prompts)} prompts: "
        f"{answer.reasoning}", "created_at": datetime.now(UTC),
    })  # fmt: skip
    stage.rows.label_splits += split_rows(label_id, "explain", [prompt.document_id for prompt in group.prompts])
