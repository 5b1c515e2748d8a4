"""One attribution graph as a picture: token position from left to right, layer from bottom to top.

Everything is placed here; the template `graph.svg.j2` only writes it down.
"""

from collections import defaultdict
from typing import Any

from tracer.corpus.tokens import visible
from tracer.views import formats
from tracer.views.graph_choice import ChosenGraph
from tracer.views.graph_shapes import Band, Caption, Column, GraphDrawing, KeyEntry, PlacedEdge, PlacedNode

N_NUMBERED = 12
"""Features with most influence that carry a number, explained in the key below the picture."""

PITCH, PER_ROW = 20.0, 4
AXIS_WIDTH, COLUMN_PADDING, MIN_COLUMN_WIDTH, MAX_PILL_WIDTH = 62.0, 14.0, 76.0, 160.0
FULL_WIDTH, MAX_SPARE_WIDTH = 1090.0, 90.0
MIN_BAND_HEIGHT, BAND_PADDING, CAPTION_HEIGHT = 56.0, 26.0, 14.0
PILL_HEIGHT, PILL_GAP, TOKEN_ROW_HEIGHT, POSITION_HEIGHT = 22.0, 6.0, 40.0, 18.0
CHARACTER_WIDTH, CAPTION_CHARACTER_WIDTH, MAX_CAPTION_WIDTH = 6.6, 6.0, 300.0

Row = dict[str, Any]


def draw_graph(graph: ChosenGraph) -> GraphDrawing:
    """Place every node of `graph` and the edges it comes with."""
    rows = list(graph.nodes.iter_rows(named=True))
    numbers = _number_features(rows)
    cells = _group_cells(rows)
    columns = _place_columns(graph, cells, numbers)
    width = columns[-1].x + columns[-1].width
    logits, logit_height = _place_logits([row for row in rows if row["kind"] == "logit"], columns)
    bands = _place_bands(graph.n_layers, cells, numbers, logit_height)
    features, captions = _place_cells(cells, columns, bands, numbers)
    token_band = bands[-1]
    tokens = [
        _pill(row, columns[row["pos"]].middle, token_band.y + token_band.height / 2, visible(row["token"]))
        for row in rows
        if row["kind"] == "token"
    ]
    nodes = (*tokens, *features, *logits)
    return GraphDrawing(
        width=width,
        height=token_band.y + token_band.height + POSITION_HEIGHT,
        columns=columns,
        bands=bands,
        captions=captions,
        nodes=nodes,
        edges=_draw_edges(graph, {node.node_idx: node for node in nodes}),
        key=_write_key(rows, numbers, graph.tokens),
    )


def _number_features(rows: list[Row]) -> dict[int, int]:
    features = sorted(
        (row for row in rows if row["kind"] == "feature"), key=lambda row: (-row["influence"], row["node_idx"])
    )
    return {row["node_idx"]: number for number, row in enumerate(features[:N_NUMBERED], start=1)}


def _group_cells(rows: list[Row]) -> dict[tuple[int, int], list[Row]]:
    cells: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] in ("feature", "error"):
            cells[row["layer"], row["pos"]].append(row)
    for cell in cells.values():
        cell.sort(key=lambda row: (row["kind"] == "error", -row["influence"], row["node_idx"]))
    return cells


def _place_columns(
    graph: ChosenGraph, cells: dict[tuple[int, int], list[Row]], numbers: dict[int, int]
) -> tuple[Column, ...]:
    """As wide as nodes and tokens need; width to spare goes to captions first, then to all columns alike."""
    n_across, caption_width = [0] * len(graph.tokens), [0.0] * len(graph.tokens)
    for (_, pos), cell in cells.items():
        n_across[pos] = max(n_across[pos], min(PER_ROW, len(cell)))
        if cell[0]["node_idx"] in numbers:
            caption_width[pos] = max(caption_width[pos], CAPTION_CHARACTER_WIDTH * len(cell[0]["label"] or ""))
    needed = [
        max(MIN_COLUMN_WIDTH, COLUMN_PADDING + max(n_across[pos] * PITCH, _pill_width(visible(token))))
        for pos, token in enumerate(graph.tokens)
    ]
    wished = [max(0.0, min(MAX_CAPTION_WIDTH, wish) - width) for wish, width in zip(caption_width, needed, strict=True)]
    spare = max(0.0, FULL_WIDTH - AXIS_WIDTH - sum(needed))
    granted = min(1.0, spare / (sum(wished) or 1.0))
    even = min(MAX_SPARE_WIDTH, max(0.0, spare - sum(wished)) / len(needed))
    columns, x = [], AXIS_WIDTH
    for pos, (width, wish) in enumerate(zip(needed, wished, strict=True)):
        width = round(width + granted * wish + even, 1)
        columns.append(Column(pos=pos, x=x, width=width))
        x += width
    return tuple(columns)


def _place_logits(rows: list[Row], columns: tuple[Column, ...]) -> tuple[list[PlacedNode], float]:
    """Likeliest on the right, centred over their column or, where that is too narrow, from its right edge leftwards.

    A new line begins where a line is full.
    """
    placed: list[PlacedNode] = []
    line_ends = [float("inf")]
    texts = {row["node_idx"]: _logit_text(row) for row in rows}
    total = {
        pos: sum(_pill_width(texts[row["node_idx"]]) + PILL_GAP for row in rows if row["pos"] == pos)
        for pos in range(len(columns))
    }
    for row in sorted(rows, key=lambda row: (-row["pos"], -(row["probability"] or 0.0), row["node_idx"])):
        text, column = texts[row["node_idx"]], columns[row["pos"]]
        start = min(column.x + column.width - PILL_GAP, column.middle + (total[row["pos"]] - PILL_GAP) / 2)
        right = min(start, line_ends[-1] - PILL_GAP)
        if right - _pill_width(text) < AXIS_WIDTH:
            line_ends.append(float("inf"))
            right = start
        line_ends[-1] = right - _pill_width(text)
        y = PILL_GAP + (len(line_ends) - 0.5) * (PILL_HEIGHT + PILL_GAP)
        placed.append(_pill(row, right - _pill_width(text) / 2, y, text))
    return placed, len(line_ends) * (PILL_HEIGHT + PILL_GAP) + 2 * PILL_GAP


def _place_bands(
    n_layers: int, cells: dict[tuple[int, int], list[Row]], numbers: dict[int, int], logit_height: float
) -> tuple[Band, ...]:
    bands, y = [Band(y=0.0, height=logit_height, text="logits")], logit_height
    for layer in reversed(range(n_layers)):
        in_layer = [cell for (cell_layer, _), cell in cells.items() if cell_layer == layer]
        n_lines = max((-(-len(cell) // PER_ROW) for cell in in_layer), default=0)
        has_caption = any(cell[0]["node_idx"] in numbers for cell in in_layer)
        height = max(MIN_BAND_HEIGHT, n_lines * PITCH + BAND_PADDING + has_caption * CAPTION_HEIGHT)
        bands.append(Band(y=y, height=height, text=f"layer {layer}"))
        y += height
    return (*bands, Band(y=y, height=TOKEN_ROW_HEIGHT, text="tokens"))


def _place_cells(
    cells: dict[tuple[int, int], list[Row]],
    columns: tuple[Column, ...],
    bands: tuple[Band, ...],
    numbers: dict[int, int],
) -> tuple[list[PlacedNode], tuple[Caption, ...]]:
    largest = max((row["influence"] for cell in cells.values() for row in cell), default=0.0) or 1.0
    nodes, captions = [], []
    for (layer, pos), cell in sorted(cells.items()):
        column, band = columns[pos], bands[len(bands) - 2 - layer]
        n_lines = -(-len(cell) // PER_ROW)
        has_caption = cell[0]["node_idx"] in numbers
        top = band.y + (band.height - n_lines * PITCH + has_caption * CAPTION_HEIGHT) / 2
        if has_caption:
            text = formats.shorten(cell[0]["label"] or "", int(column.width / CAPTION_CHARACTER_WIDTH))
            captions.append(Caption(x=column.middle, y=top - 4, text=text))
        for place, row in enumerate(cell):
            line, across = divmod(place, PER_ROW)
            n_in_line = min(PER_ROW, len(cell) - line * PER_ROW)
            number = numbers.get(row["node_idx"])
            radius = 3.0 + 5.0 * (max(row["influence"], 0.0) / largest) ** 0.5
            nodes.append(
                PlacedNode(
                    node_idx=row["node_idx"],
                    kind=row["kind"],
                    x=column.middle + (across - (n_in_line - 1) / 2) * PITCH,
                    y=top + (line + 0.5) * PITCH,
                    radius=round(max(radius, 7.5 if number else 0.0), 1),
                    number=number,
                    title=_title(row),
                )
            )
    return nodes, tuple(captions)


def _logit_text(row: Row) -> str:
    probability = "" if row["probability"] is None else f" {formats.share(row['probability'])}"
    return formats.shorten(visible(row["token"]), 13) + probability


def _pill_width(text: str) -> float:
    return round(min(MAX_PILL_WIDTH, len(text) * CHARACTER_WIDTH + 14), 1)


def _pill(row: Row, x: float, y: float, text: str) -> PlacedNode:
    n_characters = int((MAX_PILL_WIDTH - 14) / CHARACTER_WIDTH)
    width = _pill_width(text)
    title, text = _title(row), formats.shorten(text, n_characters)
    return PlacedNode(node_idx=row["node_idx"], kind=row["kind"], x=x, y=y, width=width, text=text, title=title)


def _name(row: Row) -> str:
    match row["kind"]:
        case "feature":
            return f"L{row['layer']}/{row['feature']}" + (f" ({row['label']})" if row["label"] else "")
        case "error":
            return f"error of layer {row['layer']} at position {row['pos']}"
        case kind:
            return f"{kind} {visible(row['token'])}"


def _title(row: Row) -> str:
    parts = [_name(row)]
    if row["kind"] != "error":
        parts.append(f"position {row['pos']}")
    if row["probability"] is not None:
        parts.append(f"probability {formats.share(row['probability'])}")
    if row["activation"] is not None:
        parts.append(f"activation {formats.number(row['activation'])}")
    return ", ".join((*parts, f"influence {formats.share(row['influence'])}"))


def _draw_edges(graph: ChosenGraph, nodes: dict[int, PlacedNode]) -> tuple[PlacedEdge, ...]:
    """Curves, weakest first so that stronger ones lie above; width by share of the target's input."""
    names = {row["node_idx"]: _name(row) for row in graph.nodes.iter_rows(named=True)}
    rows = list(graph.edges.iter_rows(named=True))
    strongest = max((row["edge_score"] for row in rows), default=0.0) or 1.0
    edges = []
    for row in reversed(rows):
        source, target = nodes[row["source_idx"]], nodes[row["target_idx"]]
        bend = 0.45 * (source.y - target.y)
        edges.append(
            PlacedEdge(
                source_idx=source.node_idx,
                target_idx=target.node_idx,
                path=f"M{source.x:.1f} {source.y:.1f}C{source.x:.1f} {source.y - bend:.1f} "
                f"{target.x:.1f} {target.y + bend:.1f} {target.x:.1f} {target.y:.1f}",
                is_negative=row["weight"] < 0,
                width=round(0.5 + 5.0 * row["normalised_weight"], 2),
                opacity=round(0.12 + 0.68 * (row["edge_score"] / strongest) ** 0.5, 2),
                title=f"{names[source.node_idx]} → {names[target.node_idx]}: weight {formats.number(row['weight'])}, "
                f"{formats.share(row['normalised_weight'])} of the target's input",
            )
        )
    return tuple(edges)


def _write_key(rows: list[Row], numbers: dict[int, int], tokens: tuple[str, ...]) -> tuple[KeyEntry, ...]:
    numbered = sorted((row for row in rows if row["node_idx"] in numbers), key=lambda row: numbers[row["node_idx"]])
    return tuple(
        KeyEntry(
            number=numbers[row["node_idx"]],
            name=f"L{row['layer']}/{row['feature']}",
            label=row["label"] or "",
            pos=row["pos"],
            token=visible(tokens[row["pos"]]),
            activation=row["activation"],
            influence=row["influence"],
        )
        for row in numbered
    )
