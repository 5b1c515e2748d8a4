"""tracer's side of a comparison; answers the same requests as circuit-tracer's, and times its own phases."""

import argparse
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from tests.benchmarks.arithmetic import matrix_rate, row_flops
from tests.benchmarks.measuring import measured
from tests.benchmarks.serving import Answer, serve
from tests.benchmarks.shapes import Shape
from tracer.attribution.attribute import attribute
from tracer.attribution.encoded import encode
from tracer.attribution.graphs import graphs_of
from tracer.attribution.prepared import prepare_forward
from tracer.graph.graph import Graph
from tracer.graph.layout import NodeKind
from tracer.model.replacement import ReplacementModel

PHASES = (
    ("forward", "tracer.model.replacement", "ReplacementModel.forward"),
    ("prepare", "tracer.attribution.attribute", "prepare"),
    ("rows", "tracer.attribution.graphs", "compute_rows"),
    ("rows", "tracer.attribution.graphs", "account_together"),
    ("assemble", "tracer.attribution.schedule", "PromptRows.accounted"),
    ("assemble", "tracer.attribution.graphs", "_graph"),
)
"""Functions that do a phase's work; `prepare` contains `forward`, which is taken off below. Where prompts lie side by
side, `rows` contains most of `assemble`.
"""


@contextmanager
def _phase_times(device: str) -> Iterator[dict[str, float]]:
    """Seconds spent in each phase while the block runs."""
    seconds = {name: 0.0 for name, *_ in PHASES}

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                if device.startswith("cuda"):
                    torch.cuda.synchronize()
                seconds[name] += time.perf_counter() - start

        return wrapper

    with ExitStack() as stack:
        for name, module, path in PHASES:
            *holders, attribute_name = path.split(".")
            owner = importlib.import_module(module)
            for holder in holders:
                owner = getattr(owner, holder)
            stack.enter_context(patch.object(owner, attribute_name, timed(name, getattr(owner, attribute_name))))
        yield seconds
    seconds["prepare"] -= seconds["forward"]


def _save(graph: Graph, request: dict[str, Any]) -> None:
    tensors = {
        "adjacency": graph.adjacency(), "active_features": graph.layout.features,
        "target_ids": torch.tensor([-1 if target.token_id is None else target.token_id for target in graph.targets]),
    }  # fmt: skip
    if "prune_at" in request:
        pruned, scores = graph.prune(*request["prune_at"]), graph.scores()
        tensors |= {
            "target_weights": torch.tensor([target.weight for target in graph.targets]),
            "influence": graph.influence, "node_mask": pruned.node_mask, "edge_mask": pruned.adjacency() != 0,
            "scores": torch.tensor([scores.replacement, scores.completeness]),
            "n_pos": torch.tensor(graph.layout.n_pos),
        }  # fmt: skip
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, request["save_to"])


def _features_share(graph: Graph) -> float:
    """Influence on features over influence on all nodes but the targets."""
    by_kind = torch.zeros(len(NodeKind)).index_add_(0, graph.layout.kinds(), graph.influence.float())
    return float(by_kind[NodeKind.feature] / by_kind[: NodeKind.logit].sum())


def _description(graph: Graph, shape: Shape) -> dict[str, Any]:
    pruned = graph.prune()
    return {
        "n_features": graph.layout.n_features, "n_rows": int(graph.has_row.sum()),
        "features_share": _features_share(graph), "n_kept_features": pruned.count(NodeKind.feature),
        "n_kept_edges": len(pruned.edge_weight), "uncovered_influence": graph.uncovered_influence,
        "row_flops": row_flops(graph, shape),
        # Tokens and targets are always kept; counting them would only flatter.
        "kept": pruned.node_mask[: graph.layout.first_token].nonzero().flatten().tolist(),
    }  # fmt: skip


def _attributed(model: ReplacementModel, device: str, request: dict[str, Any]) -> dict[str, Any]:
    """Graphs of one prompt, or of several in one pass."""
    names = ("coverage", "max_feature_nodes", "memory_budget_bytes", "node_threshold", "precision")
    settings = {name: request[name] for name in names if request.get(name) is not None}

    def work() -> list[Graph]:
        if "batch" not in request:
            return [attribute(request["token_ids"], model, **settings)]
        forwards = model.forward_batch([model.tokenize(token_ids) for token_ids in request["batch"]])
        prepared = [
            prepare_forward(model, forward, encoded=encoded)
            for forward, encoded in zip(forwards, encode(model, forwards), strict=True)
        ]
        return graphs_of(model, prepared, **settings)

    with _phase_times(device) as phases:
        found = measured(work, device, trace=request.get("trace", False))
    reply: dict[str, Any] = found.figures() | {"phases": phases}
    if request.get("trace"):
        reply["trace_bytes"] = found.trace_bytes
    if "shape" in request:
        reply["graphs"] = [_description(graph, Shape(**request["shape"])) for graph in found.result]
    if "save_to" in request:
        _save(found.result[0], request)
    return reply


def main() -> None:
    """Answer requests for graphs, and `rate` and `tokenize` ones."""
    parser = argparse.ArgumentParser()
    for name in ("--checkpoint", "--transcoders", "--device", "--precision", "--threads"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(given.threads))

    def load() -> Answer:
        model = ReplacementModel.from_pretrained(given.checkpoint, given.transcoders, device=given.device)

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            if request.get("ask") == "tokenize":
                return {"token_ids": model.tokenize(request["text"]).tolist()}
            request.setdefault("precision", given.precision)
            if request.get("ask") == "rate":
                return {"rate": matrix_rate(Shape(**request["shape"]), given.device, request["precision"])}
            return _attributed(model, given.device, request)

        return answer

    serve(load)


if __name__ == "__main__":
    main()
