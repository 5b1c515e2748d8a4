"""Builds a checkpoint and transcoders of a stated shape whose features really carry the attribution graph.

With random transcoders features hold under one per cent of the influence, and a comparison would time a graph of
errors. Two ways out: a ReLU GPT-2 whose MLP is its own transcoder, decoder perturbed by a fifth; or random encoders
with decoders fitted to the MLP's outputs by ridge regression, on prompts among which are the measured ones. Scales and
biases are set during one forward pass over random prompts, layer by layer, so that every layer matters and a stated
number of features is active.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)  # fmt: skip

from tests.benchmarks.shapes import FOLDER, SHAPES, SPECIAL_TOKEN_ID, Shape, prompt_ids

ATTENTION_RMS, MLP_RMS, LOGIT_STD = 0.5, 1.0, 3.0
"""Sizes beside token embeddings of unit size: what a layer adds, and how far logits spread."""
DECODER_NOISE = 0.2
"""Norm of what is added to a decoder vector, over its own."""
RIDGE = 0.05
"""Ridge penalty over the mean squared norm of a position's activations."""
N_CALIBRATION_TOKENS = 1024


def built(shape: Shape, device: str = "cpu") -> tuple[Path, Path]:
    """Folders of the checkpoint and the transcoders, built when they are not there yet."""
    folder = FOLDER / "models" / shape.name
    checkpoint, transcoders, done = folder / "checkpoint", folder / "transcoders", folder / "shape.json"
    description = json.dumps(asdict(shape), indent=1)
    if not done.is_file() or done.read_text(encoding="utf-8") != description:
        shutil.rmtree(folder, ignore_errors=True)
        _build(shape, checkpoint, transcoders, torch.device(device))
        done.write_text(description, encoding="utf-8")
    return checkpoint, transcoders


@torch.no_grad()
def _build(shape: Shape, checkpoint: Path, transcoders: Path, device: torch.device) -> None:
    torch.manual_seed(0)
    with device:
        model = _language_model(shape)
    _randomise(model, shape)
    batches = _calibration_batches(shape, device)
    longest = max(batches, key=lambda batch: batch.shape[1])
    with _hooks(_calibrating_hooks(model, shape)):
        model(longest)
    reads, outputs = _captured(model, shape, batches)
    checkpoint.mkdir(parents=True)
    # Half the disk and loading time where it matters; the values were rounded to it above.
    model.to(torch.bfloat16 if shape.architecture == "gemma2" else torch.float32).save_pretrained(checkpoint)
    _write_tokenizer(checkpoint, shape)
    transcoders.mkdir(parents=True)
    if shape.decoders == "perturbed":
        _write_perturbed(model, shape, transcoders)
    else:
        _write_fitted(shape, reads, outputs, transcoders)
    kind = "cross_layer_transcoder" if shape.cross_layer else "transcoder_set"
    write_hook = "hook_mlp_out" if shape.architecture == "gemma2" else "mlp.hook_out"
    settings = {"model_name": shape.name, "model_kind": kind, "feature_input_hook": "mlp.hook_in"}
    (transcoders / "config.yaml").write_text(yaml.safe_dump(settings | {"feature_output_hook": write_hook}))


def _language_model(shape: Shape) -> nn.Module:
    ids = {"bos_token_id": SPECIAL_TOKEN_ID, "eos_token_id": SPECIAL_TOKEN_ID, "pad_token_id": SPECIAL_TOKEN_ID}
    shared: dict[str, Any] = {"vocab_size": shape.d_vocab, "tie_word_embeddings": False, **ids}
    n_ctx = max(shape.lengths)
    if shape.architecture == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                n_positions=n_ctx, n_embd=shape.d_model, n_layer=shape.n_layers, n_head=shape.n_heads,
                n_inner=shape.d_mlp, activation_function="relu" if shape.decoders == "perturbed" else "gelu_new",
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **shared,
            )
        ).eval()  # fmt: skip
    shared |= {
        "hidden_size": shape.d_model, "intermediate_size": shape.d_mlp, "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads, "num_key_value_heads": shape.n_kv_heads, "head_dim": shape.d_head,
        "max_position_embeddings": n_ctx,
    }  # fmt: skip
    if shape.architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**shared)).eval()
    scale = {"query_pre_attn_scalar": shape.d_head, "attn_implementation": "eager"}
    return Gemma2ForCausalLM(Gemma2Config(**shared, **scale)).eval()


def _randomise(model: nn.Module, shape: Shape) -> None:
    """Every parameter random: embeddings of unit size in the stream, matrices that keep a vector's size."""
    is_gemma = shape.architecture == "gemma2"
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            # Gemma stores norm weights minus one, and its post-norms decide how much a layer adds.
            base = (0.0 if is_gemma else 1.0) if name.endswith("weight") else 0.0
            base = ATTENTION_RMS - 1 if is_gemma and name.endswith("post_attention_layernorm.weight") else base
            parameter.normal_(base, 0.1)
        elif name.endswith(("wte.weight", "embed_tokens.weight")):
            parameter.normal_(0.0, shape.d_model**-0.5 if is_gemma else 1.0)
        elif name.endswith("wpe.weight"):
            parameter.normal_(0.0, 0.3)
        else:
            is_in_by_out = shape.architecture == "gpt2" and "lm_head" not in name
            d_in = parameter.shape[0] if is_in_by_out else parameter.shape[1]
            parameter.normal_(0.0, (LOGIT_STD if "lm_head" in name else 1.0) * d_in**-0.5)
        if is_gemma:
            parameter.copy_(parameter.bfloat16())


def _calibration_batches(shape: Shape, device: torch.device) -> list[Tensor]:
    """Prompts of each length; the measured ones are the first of them."""
    batches = []
    for n_tokens in shape.lengths:
        n_prompts = max(4, -(-N_CALIBRATION_TOKENS // n_tokens))
        rows = [prompt_ids(shape, n_tokens, idx) for idx in range(n_prompts)]
        batches.append(torch.tensor(rows, device=device))
    return batches


def _blocks(model: nn.Module) -> Any:
    return model.transformer.h if hasattr(model, "transformer") else model.model.layers


@contextmanager
def _hooks(hooks: list[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _calibrating_hooks(model: nn.Module, shape: Shape) -> list[tuple[nn.Module, Callable[..., Any]]]:
    """Hooks that mend each layer's scales and biases as the pass reaches it; Gemma's post-norms need none."""

    def scaled_to(rms: float) -> Callable[..., Tensor]:
        def hook(module: nn.Module, _: Any, output: Tensor) -> Tensor:
            factor = rms / output[:, 1:].square().mean().sqrt()
            for parameter in module.parameters():
                parameter.mul_(factor)
            return output * factor

        return hook

    def sparse(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        shift = _sparsifying_shift(output[:, 1:].flatten(0, 1), shape)
        module.bias.add_(shift)
        return output + shift

    hooks: list[tuple[nn.Module, Callable[..., Any]]] = []
    for block in _blocks(model):
        if shape.architecture == "gpt2":
            hooks += [(block.attn.c_proj, scaled_to(ATTENTION_RMS)), (block.mlp.c_proj, scaled_to(MLP_RMS))]
            hooks += [(block.mlp.c_fc, sparse)] if shape.decoders == "perturbed" else []
        elif shape.architecture == "llama":
            hooks += [(block.self_attn.o_proj, scaled_to(ATTENTION_RMS)), (block.mlp.down_proj, scaled_to(MLP_RMS))]
    return hooks


def _sparsifying_shift(pre_activations: Tensor, shape: Shape) -> Tensor:
    """What to add to encoder biases so that `n_active` features are active on average, none of them always."""
    mean, std = pre_activations.mean(0), pre_activations.std(0)
    standardised = ((pre_activations - mean) / std).flatten()
    n_wanted = round(shape.n_active / shape.n_features * len(standardised))
    return -(mean + standardised.topk(n_wanted).values[-1] * std)


def _captured(model: nn.Module, shape: Shape, batches: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """MLP inputs, and outputs as they are added to the stream, of each layer at all positions but the first."""
    reads: list[list[Tensor]] = [[] for _ in range(shape.n_layers)]
    outputs: list[list[Tensor]] = [[] for _ in range(shape.n_layers)]
    if shape.decoders == "perturbed":
        return [], []

    def keep(found: list[Tensor], *, is_input: bool) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found.append((inputs[0] if is_input else output)[:, 1:].flatten(0, 1))

        return hook

    hooks: list[tuple[nn.Module, Callable[..., Any]]] = []
    for layer, block in enumerate(_blocks(model)):
        hooks.append((block.mlp, keep(reads[layer], is_input=True)))
        last = block.post_feedforward_layernorm if shape.architecture == "gemma2" else block.mlp
        hooks.append((last, keep(outputs[layer], is_input=False)))
    with _hooks(hooks):
        for batch in batches:
            model(batch)
    return [torch.cat(found) for found in reads], [torch.cat(found) for found in outputs]


def _write_perturbed(model: nn.Module, shape: Shape, folder: Path) -> None:
    for layer, block in enumerate(_blocks(model)):
        W_dec = block.mlp.c_proj.weight
        noise = torch.randn_like(W_dec) * shape.d_model**-0.5 * W_dec.norm(dim=1, keepdim=True) * DECODER_NOISE
        encoder = {"W_enc": block.mlp.c_fc.weight.T, "b_enc": block.mlp.c_fc.bias, "b_dec": block.mlp.c_proj.bias}
        _save(encoder | {"W_dec": W_dec + noise}, folder / f"layer_{layer}.safetensors")


def _write_fitted(shape: Shape, reads: list[Tensor], outputs: list[Tensor], folder: Path) -> None:
    """Random encoders, and decoders by ridge regression in its dual form: there are fewer positions than features."""
    kernels, unexplained = [], []
    activations: list[Tensor] = []
    decoders: list[list[Tensor]] = [[] for _ in reads]
    for layer, (read, output) in enumerate(zip(reads, outputs, strict=True)):
        W_enc = torch.randn(shape.n_features, shape.d_model, device=read.device) * shape.d_model**-0.5
        b_enc = _sparsifying_shift(read @ W_enc.T, shape)
        active = (read @ W_enc.T + b_enc).relu()
        activations, kernels = [*activations, active], [*kernels, active @ active.T]
        if not shape.cross_layer:
            activations, kernels = [active], [kernels[-1]]
        kernel = torch.stack(kernels).sum(0)
        b_dec = output.mean(0)
        ridge = RIDGE * kernel.diagonal().mean() * torch.eye(len(kernel), device=read.device)
        coefficients = torch.linalg.solve(kernel + ridge, output - b_dec)
        first = 0 if shape.cross_layer else layer
        for source, source_active in enumerate(activations, start=first):
            decoders[source].append(source_active.T @ coefficients)
        unexplained.append(float((output - b_dec - kernel @ coefficients).var() / (output - b_dec).var()))
        encoder = {"W_enc": W_enc, "b_enc": b_enc, "b_dec": b_dec}
        if shape.cross_layer:
            named = {f"{name}_{layer}": tensor for name, tensor in encoder.items()}
            _save(named, folder / f"W_enc_{layer}.safetensors")
        else:
            _save(encoder | {"W_dec": decoders[layer][0]}, folder / f"layer_{layer}.safetensors")
            decoders[layer] = []
    if shape.cross_layer:
        for layer, written in enumerate(decoders):
            _save({f"W_dec_{layer}": torch.stack(written, dim=1)}, folder / f"W_dec_{layer}.safetensors")
    print("variance unexplained, by layer:", " ".join(f"{share:.2f}" for share in unexplained))


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _write_tokenizer(folder: Path, shape: Shape) -> None:
    vocabulary = {"<bos>": SPECIAL_TOKEN_ID} | {f"w{idx}": idx for idx in range(1, shape.d_vocab)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="w1"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<bos>")
    tokenizer.save_pretrained(folder)


def main(
    shapes: Annotated[list[str], typer.Argument(help=f"some of {', '.join(SHAPES)}")], device: str = "cpu"
) -> None:
    """Build the named shapes, which the other scripts do on their own when they need them."""
    for name in shapes:
        print(*built(SHAPES[name], device))


if __name__ == "__main__":
    typer.run(main)
