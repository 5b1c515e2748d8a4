"""What a run will need, from headers and the first prompts alone: memory of an actor, time of 1,000 prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracer.attribution.cost import Item, Shape, Work, memory, seconds
from tracer.config import RunConfig
from tracer.model.checks import check_repositories
from tracer.model.references import resolve
from tracer.run.attributing import MAX_PASS_TOKENS
from tracer.run.machine import Machine, machine_for, matrix_rate
from tracer.run.sizes import sampled_lengths, shape_of, topk_of

USUAL_ACTIVE = 40.0
"""Active features per layer and position where nobody knows: published sets fire 10 to 100."""
USABLE_SHARE = 0.9
"""Of a machine's memory; the rest is for the driver, Ray and the system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will need, and what that rests on."""

    shape: Shape
    works: tuple[Work, ...]
    """One for every sampled length, shortest first."""
    machine: Machine
    rate: float
    """Floating-point operations per second of an actor's matrix products."""
    host: list[Item]
    gpu: list[Item]
    """Memory of an actor at the longest prompt."""
    seconds: list[Item]
    """Of one prompt, the mean of the lengths."""
    warnings: list[str]


def estimate_run(
    config: RunConfig, *, n_tokens: int | None = None, n_active: float | None = None, rate: float | None = None
) -> Estimate:
    """Estimate a run without loading model or transcoders.

    Args:
        config: the settings of the run.
        n_tokens: length of every prompt, special token included; else that of the corpus' first prompts.
        n_active: active features per layer and position; else `k` of a TopK set, or a usual number.
        rate: floating-point operations per second of an actor's matrix products; else measured for a moment.

    Raises:
        ModelError: checkpoint or transcoders are absent, foreign or do not fit each other.
        DataError: the corpus cannot be read.
        ConfigError: something is to be measured that is not here.
    """
    check_repositories(config.model.checkpoint, config.model.transcoders)
    checkpoint, transcoders = resolve(config.model.checkpoint), resolve(config.model.transcoders)
    settings = config.model
    shape = shape_of(
        checkpoint, transcoders, lazy_encoder=settings.lazy_encoder, lazy_decoder=settings.lazy_decoder
    )  # fmt: skip
    if settings.shared_cache is not None:
        shape = replace(shape, model_is_mapped=True, transcoders_are_mapped=True)
    machine, attribution = machine_for(config), config.attribution
    lengths = [n_tokens] if n_tokens is not None else sampled_lengths(config, checkpoint)
    n_active = float(n_active if n_active is not None else topk_of(checkpoint, transcoders) or USUAL_ACTIVE)
    found_rate = rate or matrix_rate(
        shape.d_model, shape.n_heads * shape.d_head, machine.device, config.runner.n_threads
    )  # fmt: skip
    works = tuple(
        Work(
            n_tokens=length,
            n_together=_n_together(config, length),
            n_active=n_active,
            coverage=attribution.coverage,
            max_feature_nodes=attribution.max_feature_nodes,
            memory_budget_bytes=attribution.memory_budget_bytes,
        )
        for length in sorted(lengths)
    )
    host, gpu = memory(shape, works[-1], machine.device)
    by_length = zip(*(seconds(shape, work, found_rate, machine.device) for work in works), strict=True)
    return Estimate(
        shape=shape,
        works=works,
        machine=machine,
        rate=found_rate,
        host=host,
        gpu=gpu,
        seconds=[replace(items[0], amount=fmean(item.amount for item in items)) for items in by_length],
        warnings=_warnings(host, gpu, machine, config),
    )


def _warnings(host: Sequence[Item], gpu: Sequence[Item], machine: Machine, config: RunConfig) -> list[str]:
    found = []
    n_actors = config.runner.n_actors
    shared = sum(item.amount for item in host if item.is_shared)
    own = sum(item.amount for item in host) - shared
    usable = USABLE_SHARE * machine.host_bytes
    if shared + n_actors * own > usable:
        n_fitting = int((usable - shared) / own)
        advice = f"set runner.n_actors to {n_fitting}" if n_fitting > 0 else f"not one fits: {_advice(host)}"
        found.append(f"{n_actors} actors need {_gb(shared + n_actors * own)}, this machine has "
                     f"{_gb(machine.host_bytes)}: {advice}")  # fmt: skip
    if machine.gpu_bytes is not None:
        needed = sum(item.amount for item in gpu)
        available = USABLE_SHARE * machine.gpu_bytes * min(1.0, config.runner.gpus_per_actor or 1.0)
        if needed > available:
            found.append(f"an actor needs {_gb(needed)} of a GPU, its share is {_gb(available)}: {_advice(gpu)}, "
                         "or raise runner.gpus_per_actor")  # fmt: skip
    return found


def _n_together(config: RunConfig, n_tokens: int) -> int:
    return min(config.attribution.prompts_per_pass, max(1, MAX_PASS_TOKENS // n_tokens))


def _advice(items: Sequence[Item]) -> str:
    largest = max(items, key=lambda item: item.amount).name
    if "rows" in largest:
        return "lower attribution.memory_budget_bytes, or set attribution.max_feature_nodes"
    if "prompts" in largest or "sources" in largest:
        return "lower attribution.prompts_per_pass"
    if "activations" in largest:
        return "shorten prompts with corpus.max_tokens and corpus.truncate"
    return f"most of it is the {largest}; use a smaller one"


def _gb(amount: int | float) -> str:
    return f"{amount / 1e9:.1f} GB"


def print_estimate(estimate: Estimate, config: RunConfig, console: Console) -> None:
    """The facts it rests on, memory and time by what takes them, and what will not fit."""
    for name, text in _facts(estimate, config).items():
        console.print(Text.assemble((f"{name:<12}", "dim"), text), soft_wrap=True)
    for title, items in (("memory of an actor", estimate.host), ("memory of an actor on its GPU", estimate.gpu)):
        if items:
            console.print("", _table(title, "MB", [(_name(item), item.amount / 1e6) for item in items]))
    thousand = [(item.name, 1000 * item.amount) for item in estimate.seconds]
    console.print("", _table("1,000 prompts, one actor", "s", thousand), "")
    n_actors = config.runner.n_actors
    minutes = sum(amount for _, amount in thousand) / n_actors / 60
    console.print(f"1,000 prompts, {n_actors} actors with cores of their own: {minutes:.1f} minutes", highlight=False)
    for warning in estimate.warnings:
        console.print(Text(f"will not fit: {warning}", style="yellow"), soft_wrap=True)


def _facts(estimate: Estimate, config: RunConfig) -> dict[str, str]:
    shape, works, machine = estimate.shape, estimate.works, estimate.machine
    lengths = f"{fmean(work.n_tokens for work in works):.0f} tokens"
    if len(works) > 1:
        lengths += f" on average, at most {works[-1].n_tokens} (the first {len(works)} prompts)"
    kind = "cross-layer" if shape.cross_layer else "per-layer"
    n_threads = config.runner.n_threads
    threads = f", {n_threads} thread{'s' * (n_threads > 1)} an actor" if machine.device == "cpu" else ""
    share = fmean(work.share_of_rows(shape) for work in works)
    return {
        "model": f"{shape.n_layers} layers, width {shape.d_model}, {shape.n_heads} heads of {shape.d_head}, "
        f"{shape.n_parameters / 1e6:,.0f} M parameters",
        "transcoders": f"{kind}, {shape.n_features // shape.n_layers:,} features a layer"
        + (", encoders left on disk" if shape.lazy_encoder else "")
        + (", decoders left on disk" if shape.lazy_decoder else ""),
        "prompts": lengths,
        "features": f"{works[0].n_active:g} active per layer and position; unless given (--active-per-position) or "
        "fixed by TopK a guess, on which time depends with its square",
        "rows": f"coverage {works[0].coverage:g}: about {share:.0%} of the features' rows",
        "machine": f"{machine.device}{threads}, matrix products at {estimate.rate / 1e9:,.0f} GFLOP/s",
    }


def _name(item: Item) -> str:
    return f"{item.name} (held once for all actors of a machine)" if item.is_shared else item.name


def _table(title: str, unit: str, lines: Sequence[tuple[str, int | float]]) -> Table:
    table = Table(title, unit, box=None, header_style="bold", pad_edge=False)
    table.columns[1].justify = "right"
    for name, amount in lines:
        table.add_row(name, f"{amount:,.0f}")
    table.add_row("in all", f"{sum(amount for _, amount in lines):,.0f}", style="bold")
    return table
