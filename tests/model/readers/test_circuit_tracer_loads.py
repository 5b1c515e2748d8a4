"""circuit-tracer itself reads the folders that we write, and means the same by them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import random_transcoders
from tests.graph.formats.circuit_tracer import in_circuit_tracer, needs_circuit_tracer
from tracer.model.readers import circuit_tracer

N_LAYERS, D_MODEL, N_POS = 3, 8, 6

READ = """
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from circuit_tracer.transcoder.cross_layer_transcoder import load_clt
from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set

folder, kind = Path(sys.argv[1]), sys.argv[2]
reads = load_file(folder / "reads.safetensors")["reads"]
about = dict(scan="ours", feature_input_hook="mlp.hook_in", feature_output_hook="mlp.hook_out", lazy_encoder=False,
             lazy_decoder=False, device=torch.device("cpu"), dtype=torch.float32)
with torch.no_grad():
    if kind == "cross_layer":
        transcoders = load_clt(str(folder), **about)
        features = transcoders.encode(reads)
        outputs = transcoders.decode(features)
    else:
        paths = {layer: str(folder / f"layer_{layer}.safetensors") for layer in range(len(reads))}
        transcoders = load_transcoder_set(paths, **about)
        features = transcoders.encode(reads)
        outputs = torch.stack([transcoders.transcoders[layer](read) for layer, read in enumerate(reads)])
save_file({"features": features.to_dense().contiguous() if features.is_sparse else features.contiguous(),
           "outputs": outputs.contiguous()}, folder / "theirs.safetensors")
print(json.dumps("done"))
"""


@pytest.mark.slow
@needs_circuit_tracer
@pytest.mark.parametrize("kind", ["per_layer", "cross_layer"])
@pytest.mark.parametrize("nonlinearity", ["relu", "jumprelu"])
def test_circuit_tracer_reads_what_is_written_as_it_is_meant(tmp_path: Path, kind: str, nonlinearity: str) -> None:
    cross_layer = kind == "cross_layer"
    # Its own reader of cross-layer sets does not know skip connections.
    ours = random_transcoders(
        N_LAYERS, D_MODEL, cross_layer=cross_layer, skip=not cross_layer, nonlinearity=nonlinearity
    )
    circuit_tracer.write(tmp_path, ours, model_name="random", dtype=torch.float32)
    reads = torch.randn(N_LAYERS, N_POS, D_MODEL, generator=torch.Generator().manual_seed(1))
    save_file({"reads": reads}, tmp_path / "reads.safetensors")
    assert in_circuit_tracer(READ, tmp_path, kind) == "done"
    theirs = load_file(tmp_path / "theirs.safetensors")
    active = [layer.active(read, n_ignored=0) for layer, read in zip(ours.layers, reads, strict=True)]
    for layer, transcoder in enumerate(ours.layers):
        torch.testing.assert_close(theirs["features"][layer], transcoder.encode(reads[layer]), atol=1e-5, rtol=1e-5)
        output = ours.reconstruction(active, reads, layer)
        torch.testing.assert_close(theirs["outputs"][layer], output, atol=1e-5, rtol=1e-5)
