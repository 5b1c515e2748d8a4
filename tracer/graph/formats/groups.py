"""Named groups of nodes: in a file of their own, and as viewers of graphs save them, in a file's `qParams` or in the
address of a page.

circuit-tracer's viewer and Neuronpedia use the same three parameters (`circuit_tracer/frontend/assets` 0.5.0, and
addresses of Neuronpedia's pages): `pinnedIds`, node ids joined by commas; `supernodes`, JSON `[[label, node_id, ...],
...]`; and `clerps`, JSON `[[key, label], ...]`. A key of `clerps` is the number `feature` of a node in circuit-tracer's
viewer, and `{layer}_{feature}_{pos}` with that number in Neuronpedia.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml
from pydantic import BaseModel, Field, StrictInt, StrictStr, ValidationError

from tracer.errors import DataError
from tracer.files.limits import checked_size, refused
from tracer.files.writing import write_file
from tracer.graph.formats.group_parameters import labels_by_key, malformed, pinned_ids, supernodes
from tracer.graph.formats.ids import cantor, feature_id, feature_of_id
from tracer.graph.formats.json_graph import feature_place

_MODEL = re.compile(r"/([^/]+)/graph/?")
_SHOWN_URL = 200
_OLD_STRIDE = 100_000
"""Neuronpedia's first graphs number a feature `layer * 100000 + feature`."""

_MAX_FILE_BYTES = 64 * 1024**2
_YAML_LINE_ENDS = "\x85\u2028\u2029"
"""Which YAML reads as spaces where they are not escaped."""

Member = tuple[int, int, int]
"""(layer, pos, feature)."""
_Number = Annotated[StrictInt, Field(ge=0, lt=2**62)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Nodes that are shown as one; what people take to play one part.

    Its members can be edited together (`tracer.intervene.edits.edits_of`) and looked for in the graphs of a run
    (`tracer.aggregate.group_support.group_support`).
    """

    name: str
    node_ids: tuple[str, ...]
    members: tuple[Member, ...]
    """Those of them that are features."""

    def features(self) -> list[tuple[int, int]]:
        """Its features as (layer, feature), each once, whatever their positions."""
        return list(dict.fromkeys((layer, feature) for layer, _, feature in self.members))

    @classmethod
    def of_features(cls, name: str, members: Sequence[Member]) -> "Group":
        """A group of features.

        Args:
            name: its label.
            members: the features as (layer, pos, feature).
        """
        return cls(name=name, node_ids=tuple(feature_id(*member) for member in members), members=tuple(members))


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """What someone saved of their view of a graph."""

    groups: tuple[Group, ...] = ()
    pinned: tuple[str, ...] | None = None
    """Node ids that are shown in the subgraph; where None, those of the groups."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of features under the keys of `clerps`."""
    slug: str | None = None
    """The graph's name, where an address says it."""
    model: str | None = None
    """The model, where an address of Neuronpedia says it."""

    @classmethod
    def from_q_params(
        cls,
        q_params: Mapping[str, Any],
        *,
        where: str = "qParams",
        nodes: Sequence[Mapping[str, Any]] | None = None,
        n_layers: int | None = None,
    ) -> "Groups":
        """The groups in a file's `qParams`.

        Args:
            q_params: the entry of graph JSON.
            where: its file, named in errors.
            nodes: the file's nodes, which tell features from errors and targets; without them a node counts as a
                feature if its id is three numbers.
            n_layers: without nodes, the model's layers; ids of higher layers are targets.

        Raises:
            DataError: an entry is malformed.
        """
        places = None if nodes is None else {node["node_id"]: feature_place(dict(node)) for node in nodes}
        pinned = q_params.get("pinnedIds")
        return cls(
            groups=tuple(_groups(q_params.get("supernodes"), where, places, n_layers)),
            pinned=pinned_ids(pinned, where) if pinned is not None else None,
            labels=labels_by_key(q_params.get("clerps"), where),
        )

    @classmethod
    def from_url(
        cls, url: str, *, nodes: Sequence[Mapping[str, Any]] | None = None, n_layers: int | None = None
    ) -> "Groups":
        """The groups in an address of circuit-tracer's viewer or of Neuronpedia.

        Args:
            url: the address; parameters may stand behind `?` or `#`.
            nodes: as in `from_q_params`.
            n_layers: as in `from_q_params`.

        Raises:
            DataError: the address has none of the parameters, or one that is malformed.
        """
        where = url if len(url) <= _SHOWN_URL else f"{url[:_SHOWN_URL]}..."
        try:
            parts = urlsplit(url.strip())
            texts = [parts.query, parts.fragment.lstrip("?/!")]
            found = {key: values[0] for text in texts for key, values in parse_qs(text).items()}
        except ValueError as error:
            raise malformed(where, f"no address ({error})") from error
        if not {"pinnedIds", "supernodes", "clerps"} & found.keys():
            raise malformed(where, "an address without pinnedIds, supernodes and clerps")
        groups = cls.from_q_params(found, where=where, nodes=nodes, n_layers=n_layers)
        model = _MODEL.fullmatch(parts.path)
        return cls(
            groups=groups.groups, pinned=groups.pinned, labels=groups.labels, slug=found.get("slug"),
            model=unquote(model[1]) if model else None,
        )  # fmt: skip

    def q_params(self, others: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Them as the `qParams` of a file.

        Args:
            others: `qParams` whose other entries are kept.
        """
        found = {"linkType": "both", "clickedId": "", "sg_pos": ""} | dict(others or {})
        found |= {"pinnedIds": self._shown(), "supernodes": self._supernodes()}
        # The viewer parses this entry, so it has to be text.
        return found | ({"clerps": self._clerps()} if self.labels else {})

    def within(self, node_ids: Collection[str]) -> "Groups":
        """Them without nodes that a graph does not have, and without groups of which it has none.

        Args:
            node_ids: the graph's nodes.
        """
        groups = []
        for group in self.groups:
            names = tuple(name for name in group.node_ids if name in node_ids)
            members = tuple(member for member in group.members if feature_id(*member) in node_ids)
            groups += [Group(name=group.name, node_ids=names, members=members)] if names else []
        pinned = None if self.pinned is None else tuple(name for name in self.pinned if name in node_ids)
        return replace(self, groups=tuple(groups), pinned=pinned)

    def query(self) -> str:
        """Them as parameters of an address, without `?`; circuit-tracer's viewer takes groups from there alone."""
        found = {
            "slug": self.slug,
            "pinnedIds": ",".join(self._shown()),
            # That viewer unescapes twice, Neuronpedia once: to the second time nothing may mean anything.
            "supernodes": json.dumps(self._supernodes()).replace("%", "\\u0025") if self.groups else None,
            "clerps": self._clerps().replace("%", "\\u0025") if self.labels else None,
        }
        return urlencode({name: value for name, value in found.items() if value})

    def _shown(self) -> list[str]:
        if self.pinned is not None:
            return list(self.pinned)
        return list(dict.fromkeys(name for group in self.groups for name in group.node_ids))

    def _supernodes(self) -> list[list[str]]:
        return [[group.name, *group.node_ids] for group in self.groups]

    def _clerps(self) -> str:
        return json.dumps([list(pair) for pair in self.labels.items()])

    def label_of(self, layer: int, pos: int, feature: int) -> str | None:
        """The label of a feature; None where it has none.

        Args:
            layer: its layer.
            pos: its position, which Neuronpedia's keys have.
            feature: its number.
        """
        numbers = (cantor(layer, feature), layer * _OLD_STRIDE + feature)
        keys = [*(feature_id(layer, pos, number) for number in (feature, *numbers)), *map(str, numbers)]
        return next((self.labels[key] for key in keys if key in self.labels), None)


def _groups(found: Any, where: str, places: Mapping[str, Member | None] | None, n_layers: int | None) -> list[Group]:
    groups = []
    for name, node_ids in supernodes(found, where):
        members = [_member(node_id, places, n_layers) for node_id in node_ids]
        known = tuple(member for member in members if member is not None)
        groups.append(Group(name=name, node_ids=node_ids, members=known))
    return groups


def _member(node_id: str, places: Mapping[str, Member | None] | None, n_layers: int | None) -> Member | None:
    if places is not None:
        return places.get(node_id)
    member = feature_of_id(node_id)
    is_target = member is not None and n_layers is not None and member[0] >= n_layers
    return None if is_target else member


class _SavedGroup(BaseModel, extra="forbid"):
    name: StrictStr
    members: tuple[tuple[_Number, _Number, _Number], ...] = ()
    node_ids: tuple[StrictStr, ...] | None = None


class _SavedGroups(BaseModel, extra="forbid"):
    groups: tuple[_SavedGroup, ...]
    pinned: tuple[StrictStr, ...] | None = None
    labels: dict[StrictStr, StrictStr] = {}
    slug: StrictStr | None = None
    model: StrictStr | None = None


class _Loader(yaml.SafeLoader):
    """Without aliases, by which a few bytes stand for any number of entries."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def save_groups(groups: Groups, path: Path | str) -> None:
    """Write groups as YAML that people can edit; `load_groups` gives them back.

    Args:
        groups: the groups, with pinned nodes and labels.
        path: the file, written whole or not at all.
    """
    entries = [
        {"name": group.name, "members": [list(member) for member in group.members], "node_ids": list(group.node_ids)}
        for group in groups.groups
    ]
    others = {
        "pinned": None if groups.pinned is None else list(groups.pinned),
        "labels": dict(groups.labels) or None, "slug": groups.slug, "model": groups.model,
    }  # fmt: skip
    content = {"groups": entries} | {name: value for name, value in others.items() if value is not None}
    style: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 120}
    text = yaml.safe_dump(content, allow_unicode=True, **style)
    is_safe = not any(mark in text for mark in _YAML_LINE_ENDS)
    write_file(Path(path), (text if is_safe else yaml.safe_dump(content, **style)).encode())


def load_groups(path: Path | str) -> Groups:
    """The groups of a YAML file: `groups`, each with `name`, `members` as [layer, pos, feature] and, where it has nodes
    that are no features, the `node_ids` of all; `pinned` node ids; `labels` under the keys of `clerps`.

    Args:
        path: a file of `save_groups`, or one that was written by hand.

    Raises:
        DataError: there is no such file, or it is too large or no YAML of groups.
    """
    path = Path(path)
    checked_size(path, _MAX_FILE_BYTES)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        saved = _SavedGroups.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field_name = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise _no_groups(path, f"{field_name}: {first['msg']}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise _no_groups(path, " ".join(str(error).split())[:200] or type(error).__name__) from error
    groups = (
        Group.of_features(group.name, group.members)
        if group.node_ids is None
        else Group(name=group.name, node_ids=group.node_ids, members=group.members)
        for group in saved.groups
    )
    return Groups(groups=tuple(groups), pinned=saved.pinned, labels=saved.labels, slug=saved.slug, model=saved.model)


def _no_groups(path: Path, found: str) -> DataError:
    return refused(
        path, found=found, expected="groups, each with a name and members as [layer, pos, feature]",
        to_do="Mend the file, or make it anew with save_groups.",
    )  # fmt: skip
