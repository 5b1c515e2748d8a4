"""Named groups of nodes, as viewers of graphs save them: in a file's `qParams`, or in the address of a page.

circuit-tracer's viewer and Neuronpedia use the same three parameters (`circuit_tracer/frontend/assets` 0.5.0, and
addresses of Neuronpedia's pages): `pinnedIds`, node ids joined by commas; `supernodes`, JSON `[[label, node_id, ...],
...]`; and `clerps`, JSON `[[key, label], ...]`. A key of `clerps` is the number `feature` of a node in circuit-tracer's
viewer, and `{layer}_{feature}_{pos}` with that number in Neuronpedia.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from tracer.errors import DataError
from tracer.graph.formats.ids import cantor, feature_id, feature_of_id
from tracer.graph.formats.json_graph import feature_place

_MODEL = re.compile(r"/([^/]+)/graph/?")
_SHOWN_URL = 200
_OLD_STRIDE = 100_000
"""Neuronpedia's first graphs number a feature `layer * 100000 + feature`."""

Member = tuple[int, int, int]
"""(layer, pos, feature)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Nodes that are shown as one."""

    name: str
    node_ids: tuple[str, ...]
    members: tuple[Member, ...]
    """Those of them that are features."""

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
            pinned=_pinned(pinned, where) if pinned is not None else None,
            labels=_labels(q_params.get("clerps"), where),
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
            raise _malformed(where, f"no address ({error})") from error
        if not {"pinnedIds", "supernodes", "clerps"} & found.keys():
            raise _malformed(where, "an address without pinnedIds, supernodes and clerps")
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
    for entry in _listed(found, "supernodes", where):
        if not isinstance(entry, list) or not entry or not all(isinstance(part, str) for part in entry):
            raise _malformed(where, f"a supernode {str(entry)[:100]!r}")
        name, *node_ids = entry
        members = [_member(node_id, places, n_layers) for node_id in node_ids]
        groups.append(
            Group(
                name=name,
                node_ids=tuple(node_ids),
                members=tuple(member for member in members if member is not None),
            )
        )
    return groups


def _member(node_id: str, places: Mapping[str, Member | None] | None, n_layers: int | None) -> Member | None:
    if places is not None:
        return places.get(node_id)
    member = feature_of_id(node_id)
    is_target = member is not None and n_layers is not None and member[0] >= n_layers
    return None if is_target else member


def _pinned(found: Any, where: str) -> tuple[str, ...]:
    """A list, or text with commas, from which viewers read it too."""
    node_ids = unquote(found).split(",") if isinstance(found, str) else found
    if not isinstance(node_ids, list) or not all(isinstance(node_id, str) for node_id in node_ids):
        raise _malformed(where, f"pinnedIds {str(found)[:100]!r}")
    return tuple(node_id for node_id in node_ids if node_id)


def _labels(found: Any, where: str) -> dict[str, str]:
    labels = {}
    for entry in _listed(found, "clerps", where):
        match entry:
            case [(str() | int()) as key, str() as label]:
                labels[str(key)] = label
            case _:
                raise _malformed(where, f"an entry of clerps {str(entry)[:100]!r}")
    return labels


def _listed(found: Any, name: str, where: str) -> list[Any]:
    """A list, or text that is one in JSON, once or twice escaped; none where there is nothing."""
    if isinstance(found, str):
        if not found:
            return []
        for text in (found, unquote(found)):
            try:
                found = json.loads(text)
                break
            except (ValueError, RecursionError):
                continue
    if found is None:
        return []
    if not isinstance(found, list):
        raise _malformed(where, f"{name} {str(found)[:100]!r}")
    return found


def _malformed(where: str, found: str) -> DataError:
    return DataError(
        where, found=found,
        expected="pinnedIds as id,id,...; supernodes as [[label, id, ...], ...]; clerps as [[key, label], ...]",
        to_do="Copy the whole address, or save the view again.",
    )  # fmt: skip
