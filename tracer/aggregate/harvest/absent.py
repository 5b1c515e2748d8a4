"""Question: which windows do not show a feature, and which of these come near?

Grain: feature x window. What fires in reference windows, drawn from the whole corpus by hash, is known, so that of each
feature it is known in which of them it is not active at all. Of those, some are drawn at random, and some among near
misses: windows that hold a token on which the feature often fires, or in which a neighbour of it is active. What is
held grows with features times reference windows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from tracer.aggregate.harvest.examples import CHOSEN_SCHEMA
from tracer.config.harvest import ExampleConfig
from tracer.harvest.hashing import hashed
from tracer.tables.database import Connection

N_TOKENS, N_NEIGHBOURS = 3, 5
"""Tokens and neighbours of a feature that make a window a near miss."""
NOWHERE = -1
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceWindows:
    """`peaks`, by layer, has for each feature and window where it is most active there, `NOWHERE` where it is not."""

    document_key: Ints
    window_start: Ints
    token_ids: tuple[Ints, ...]
    peaks: dict[int, Places]

    @classmethod
    def read(cls, connection: Connection, n_features: Mapping[int, int]) -> "ReferenceWindows":
        """Read them from the parts."""
        rows = connection.execute("""
            SELECT document_key, window_start, token_ids FROM part_harvest_windows WHERE is_reference
            ORDER BY document_key, window_start
        """).fetchall()
        place = {(document, start): place for place, (document, start, _) in enumerate(rows)}
        peaks = {layer: np.full((n, len(rows)), NOWHERE, np.int32) for layer, n in n_features.items()}
        reader = connection.sql(
            "SELECT document_key, window_start, layer, features, pos FROM part_reference_firings"
        ).to_arrow_reader(64)
        for batch in reader:
            for row in range(len(batch)):
                document, start, layer = (batch.column(column)[row].as_py() for column in range(3))
                features, pos = (batch.column(column)[row].values.to_numpy() for column in (3, 4))
                peaks[layer][features, place[document, start]] = pos
        return cls(
            document_key=np.array([row[0] for row in rows], np.int64),
            window_start=np.array([row[1] for row in rows], np.int64),
            token_ids=tuple(np.array(row[2], np.int64) for row in rows),
            peaks=peaks,
        )

    def absent(self, connection: Connection, layer: int, settings: ExampleConfig) -> pa.Table:
        """Windows without the features of a layer that fire in the corpus, random ones and near misses.

        Args:
            connection: the results being built, with `features`, `feature_tokens` and `feature_neighbours`.
            layer: the layer.
            settings: how many of each.
        """
        alive = _column(connection, f"SELECT feature FROM features WHERE layer = {layer} AND n_firings > 0 ORDER BY 1")
        if not len(alive) or not len(self.document_key):
            return CHOSEN_SCHEMA.empty_table()
        draws = self._draws(layer, alive, settings.seed)
        is_absent = self.peaks[layer][alive] == NOWHERE
        found = [
            self._rows(
                "random", layer, alive, _first_drawn(draws, is_absent, settings.n_random), seed=settings.seed + 1
            )
        ]
        at_token = self._at_tokens(connection, layer, alive)
        at_neighbour, which = self._at_neighbours(connection, layer, alive)
        is_near = is_absent & ((at_token != NOWHERE) | (at_neighbour != NOWHERE))
        chosen = _first_drawn(draws, is_near, settings.n_near_miss)
        pos = np.where(at_token != NOWHERE, at_token, at_neighbour)
        reasons = np.where(at_token != NOWHERE, "token", which)
        found.append(self._rows("near_miss", layer, alive, chosen, pos, reasons, seed=settings.seed))
        return pa.concat_tables(found)

    def _draws(self, layer: int, features: Ints, seed: int) -> Ints:
        name = torch.from_numpy(features)[:, None] + (layer << 32)
        windows = torch.from_numpy(self.document_key), torch.from_numpy(self.window_start)
        return hashed(name, *windows, seed).numpy()

    def _at_tokens(self, connection: Connection, layer: int, features: Ints) -> Places:
        """Where in each window the first token stands on which each feature fires often; [feature, window]."""
        rows = connection.execute(f"""
            SELECT feature, token_id, row_number() OVER often AS rank FROM feature_tokens
            WHERE layer = {layer} AND n_at > 0 AND token_id NOT IN (SELECT token_id FROM token_counts WHERE n_at = 0)
            WINDOW often AS (PARTITION BY feature ORDER BY n_at DESC, token_id)
            QUALIFY rank <= {N_TOKENS} ORDER BY rank, feature
        """).fetchnumpy()
        tokens, inverse = np.unique(rows["token_id"], return_inverse=True)
        first = np.full((len(tokens), len(self.token_ids)), NOWHERE, np.int32)
        for window, token_ids in enumerate(self.token_ids):
            # position 0 never fires; later places are put first, so that the earliest one stays
            pos = np.arange(len(token_ids) - 1, 0, -1)
            found = np.searchsorted(tokens, token_ids[pos])
            is_known = (found < len(tokens)) & (tokens[np.minimum(found, len(tokens) - 1)] == token_ids[pos])
            first[found[is_known], window] = pos[is_known]
        places = np.full((len(features), len(self.token_ids)), NOWHERE, np.int32)
        for rank in range(1, N_TOKENS + 1):
            is_rank = rows["rank"] == rank
            row = np.searchsorted(features, rows["feature"][is_rank])
            there = first[inverse[is_rank]]
            places[row] = np.where(places[row] == NOWHERE, there, places[row])
        return places

    def _at_neighbours(
        self, connection: Connection, layer: int, features: Ints
    ) -> tuple[Places, npt.NDArray[np.object_]]:
        """Where in each window the nearest neighbour that is active there is most active, and its name."""
        rows = connection.execute(f"""
            SELECT feature, neighbour_layer, neighbour_feature, row_number() OVER alike AS rank
            FROM feature_neighbours WHERE layer = {layer}
            WINDOW alike AS (PARTITION BY feature ORDER BY cosine DESC, neighbour_layer, neighbour_feature)
            QUALIFY rank <= {N_NEIGHBOURS} ORDER BY rank, feature
        """).fetchall()
        places = np.full((len(features), len(self.token_ids)), NOWHERE, np.int32)
        names = np.full(places.shape, "token", object)
        row_of = {int(feature): row for row, feature in enumerate(features)}
        for feature, neighbour_layer, neighbour, _ in rows:
            if feature in row_of and neighbour_layer in self.peaks:
                row, there = row_of[feature], self.peaks[neighbour_layer][neighbour]
                is_new = (places[row] == NOWHERE) & (there != NOWHERE)
                places[row, is_new] = there[is_new]
                names[row, is_new] = f"neighbour {neighbour_layer}/{neighbour}"
        return places, names

    def _rows(
        self,
        kind: str,
        layer: int,
        features: Ints,
        chosen: tuple[Ints, Ints, Ints],
        pos: Places | None = None,
        reasons: npt.NDArray[np.object_] | None = None,
        *,
        seed: int,
    ) -> pa.Table:
        row, rank, window = chosen
        if pos is None:
            lengths = np.array([len(token_ids) for token_ids in self.token_ids])[window]
            draws = self._draws(layer, features, seed)[row, window]
            places = 1 + draws % np.maximum(lengths - 1, 1)
        else:
            places = pos[row, window].astype(np.int64)
        nothing = pa.array(np.zeros(len(row) + 1, np.int32))
        columns = {
            "layer": np.full(len(row), layer), "feature": features[row], "kind": [kind] * len(row),
            "quantile": pa.nulls(len(row), pa.int64()), "rank": rank, "document_key": self.document_key[window],
            "window_start": self.window_start[window], "pos": places, "activation": np.zeros(len(row)),
            "firing_pos": pa.ListArray.from_arrays(nothing, pa.array([], pa.int64())),
            "firing_activations": pa.ListArray.from_arrays(nothing, pa.array([], pa.float64())),
            "reason": pa.nulls(len(row), pa.string()) if reasons is None else reasons[row, window].tolist(),
        }  # fmt: skip
        return pa.table(columns, schema=CHOSEN_SCHEMA)


def _first_drawn(draws: Ints, may: npt.NDArray[np.bool_], n_most: int) -> tuple[Ints, Ints, Ints]:
    """Of each row of `draws` the `n_most` least that may be taken: rows, ranks and columns."""
    order = np.lexsort((draws, ~may), axis=1)[:, :n_most]
    row, rank = np.nonzero(np.take_along_axis(may, order, axis=1))
    return row, rank, order[row, rank]


def _column(connection: Connection, query: str) -> Ints:
    (values,) = connection.execute(query).fetchnumpy().values()
    return np.asarray(values, np.int64)
