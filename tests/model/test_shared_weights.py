"""Weights that the processes of one machine hold once: mapped files, a cache of converted ones, what a kill leaves."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.benchmarks.shared_weights import memory_bytes
from tests.checkpoints import loaded, write_checkpoint, write_transcoders
from tests.hub.client import hub_client
from tests.hub.server import hub_server
from tracer.attribution.attribute import attribute
from tracer.intervene.edits import Edit
from tracer.intervene.intervene import intervene
from tracer.model.architectures import checkpoint_facts
from tracer.model.readers.registry import describe_transcoders, set_hash
from tracer.model.replacement import ReplacementModel
from tracer.model.shared_folder import N_KEPT, shared_folder
from tracer.model.shared_weights import shared_checkpoint, shared_set

PROMPT = "w3 w14 w15 w9 w26 w5"
WIDTHS = {"hidden_size": 256, "intermediate_size": 1536, "num_attention_heads": 8, "num_key_value_heads": 4}
N_FEATURES = 6144
MAX_OWN_SHARE = 0.3
"""Of the weights' size in float32, what a process may add to its own memory by loading them: folded value matrices, and
what loading and a pass leave in its heap, some 10 MB however large the weights are. It would be more than 1 unshared.
"""
Folders = tuple[Path, Path]


def rounded(folders: Folders, to: Path) -> Folders:
    """The same with their files in bfloat16."""
    for folder in folders:
        (to / folder.name).mkdir()
        for path in folder.iterdir():
            copy = to / folder.name / path.name
            if path.suffix == ".safetensors":
                tensors = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
                save_file(tensors, copy, metadata={"format": "pt"})
            else:
                copy.write_bytes(path.read_bytes())
    return to / folders[0].name, to / folders[1].name


@pytest.fixture(scope="module")
def in_float32(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A checkpoint and a set of 56 MB, their files in float32."""
    folder = tmp_path_factory.mktemp("float32")
    checkpoint = write_checkpoint("llama", folder / "checkpoint", **WIDTHS)
    transcoders = write_transcoders(checkpoint, folder / "set", cross_layer=False, skip=True, n_features=N_FEATURES)
    return checkpoint, transcoders


@pytest.fixture(scope="module")
def in_bfloat16(in_float32: Folders, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return rounded(in_float32, tmp_path_factory.mktemp("bfloat16"))


def load(folders: Folders, cache: Path | None = None) -> ReplacementModel:
    return ReplacementModel.from_pretrained(*folders, device="cpu", shared_cache=cache, check=False)


def n_weight_bytes(model: ReplacementModel) -> int:
    held = [tensor for layer in model.transcoders.layers for tensor in (layer.W_enc, layer.W_dec)]
    tensors = {*model.bridge.parameters(), *(tensor for tensor in held if isinstance(tensor, torch.Tensor))}
    return sum(tensor.numel() * 4 for tensor in tensors)


def use(model: ReplacementModel) -> None:
    assert model.weights.layers
    model.replaced_logits(model.tokenize(PROMPT))


def hold(folders: Folders, cache: Path | None, pipe: Connection) -> None:
    """In a process of its own: load and use a model, say what that took, and hold it until told to go."""
    torch.set_num_threads(1)
    use(loaded("llama")[1])  # what this takes once, it does not take again
    pipe.send("ready")
    pipe.recv()
    before = memory_bytes()["uss"]
    model = load(folders, cache)
    use(model)
    pipe.send((n_weight_bytes(model), before))
    pipe.recv()
    pipe.send(memory_bytes()["uss"])
    pipe.recv()


def own_share(folders: Folders, cache: Path | None) -> float:
    """What the second of two processes adds to its own memory, over the size of the weights."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.model.test_shared_weights"])
    pipes = []
    for _ in range(2):
        mine, theirs = context.Pipe()
        context.Process(target=hold, args=(folders, cache, theirs), daemon=True).start()
        mine.recv()
        pipes.append(mine)
    for pipe in pipes:
        pipe.send("load")
        n_bytes, before = pipe.recv()
    pipes[1].send("measure")
    share = (pipes[1].recv() - before) / n_bytes
    for pipe in pipes:
        pipe.send("go")
    assert n_bytes > 50e6
    return share


def test_a_second_process_adds_little_where_files_hold_float32(in_float32: Folders) -> None:
    assert own_share(in_float32, None) < MAX_OWN_SHARE


def test_with_a_cache_also_where_they_hold_bfloat16(in_bfloat16: Folders, tmp_path: Path) -> None:
    assert own_share(in_bfloat16, tmp_path) < MAX_OWN_SHARE
    assert own_share(in_bfloat16, None) > 1, "what the cache is for"


@pytest.mark.parametrize("cross_layer", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3_moe"])
def test_graphs_with_a_cache_are_bit_by_bit_those_without(kind: str, cross_layer: bool, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(kind, tmp_path / "checkpoint")
    folders = checkpoint, write_transcoders(checkpoint, tmp_path / "set", cross_layer=cross_layer, skip=True)
    (tmp_path / "rounded").mkdir()
    folders = rounded(folders, tmp_path / "rounded")
    expected = attribute(PROMPT, load(folders))
    for _ in range(2):  # written, then found
        model = load(folders, tmp_path / "cache")
        found = attribute(PROMPT, model)
        assert torch.equal(found.layout.features, expected.layout.features)
        assert torch.equal(found.adjacency(), expected.adjacency())
        assert torch.equal(found.influence, expected.influence)
    names = {path.name.split("-")[0] for path in (tmp_path / "cache").iterdir() if path.is_dir()}
    assert names == {"checkpoint", "set"}


def changed_bytes(folder: Path) -> int:
    """Pages of a folder's mapped files that this process has a copy of, because it wrote to them."""
    n_bytes, is_inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            is_inside = bool(rest) and rest[-1].startswith(str(folder))
        elif is_inside and name == "Anonymous:":
            n_bytes += 1024 * int(rest[0])
    return n_bytes


def test_nothing_is_written_to_mapped_weights(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("llama", tmp_path / "checkpoint")
    model = load((checkpoint, write_transcoders(checkpoint, tmp_path / "set", cross_layer=False, skip=True)))
    attribute(PROMPT, model)
    use(model)
    intervene(PROMPT, model, [Edit(layer=0, pos=2, feature=1, value=3.0)])
    assert changed_bytes(tmp_path) == 0
    model.transcoders.layers[0].W_dec[0] += 1  # type: ignore[operator]
    assert changed_bytes(tmp_path) > 0, "it would have been seen"


def test_files_in_float32_and_matrices_that_stay_on_disk_are_left_alone(
    in_float32: Folders, in_bfloat16: Folders, tmp_path: Path
) -> None:
    assert shared_checkpoint(in_float32[0], tmp_path) == in_float32[0]
    checkpoint, folder = in_bfloat16
    files = describe_transcoders(folder, checkpoint_facts(checkpoint))
    assert shared_set(files, set_hash(folder), tmp_path, []) is files
    assert not list(tmp_path.iterdir())
    moved = shared_set(files, set_hash(folder), tmp_path, ["W_enc"])
    assert (moved.layers[1].W_dec, moved.layers[1].b_enc) == (files.layers[1].W_dec, files.layers[1].b_enc)
    assert moved.layers[1].W_enc.is_used_as_stored
    assert torch.equal(moved.layers[1].W_enc.whole(), files.layers[1].W_enc.whole().float())


def written(text: str) -> Callable[[Path], None]:
    def write(into: Path) -> None:
        (into / "file").write_text(text)

    return write


def refused(into: Path) -> None:
    raise AssertionError(f"{into} is written twice")


def die_half_way(cache: Path) -> None:
    def write(into: Path) -> None:
        (into / "file").write_text("ha")
        os.kill(os.getpid(), signal.SIGKILL)

    shared_folder(cache, "key", write, n_bytes=4)


def test_a_writer_that_is_killed_leaves_what_the_next_one_clears_away(tmp_path: Path) -> None:
    process = multiprocessing.get_context("forkserver").Process(target=die_half_way, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "key").exists()
    assert len(list(tmp_path.glob("key*"))) == 1
    folder = shared_folder(tmp_path, "key", written("half"), n_bytes=4)
    assert folder == tmp_path / "key"
    assert (folder / "file").read_text() == "half"
    assert list(tmp_path.glob("key*")) == [folder]
    assert shared_folder(tmp_path, "key", refused, n_bytes=4) == folder


def test_the_folder_used_longest_ago_goes_first(tmp_path: Path) -> None:
    for idx in range(N_KEPT):
        folder = shared_folder(tmp_path, f"{idx}", written(""), n_bytes=0)
        assert folder is not None
        os.utime(folder, (idx, idx))
    shared_folder(tmp_path, "0", refused, n_bytes=0)
    shared_folder(tmp_path, "new", written(""), n_bytes=0)
    names = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert names == {"0", "new", *(f"{idx}" for idx in range(2, N_KEPT))}


def fail(into: Path) -> None:
    raise OSError(f"no space left for {into}")


def test_a_cache_without_room_is_done_without(
    in_bfloat16: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert shared_folder(tmp_path / "full", "key", refused, n_bytes=2**62) is None
    assert shared_folder(tmp_path / "broken", "key", fail, n_bytes=0) is None
    assert not list((tmp_path / "broken").glob("key*"))
    (tmp_path / "file").touch()
    model = load(in_bfloat16, tmp_path / "file")
    assert model.n_layers == load(in_bfloat16).n_layers
    assert caplog.text.count("each will hold its own") == 4


def test_processes_that_want_a_repository_at_once_fetch_it_once(in_bfloat16: Folders, tmp_path: Path) -> None:
    with hub_server() as hub, ExitStack() as stack:
        hub.add("org/repo", in_bfloat16[0])
        environment = hub.environment(tmp_path / "cache")
        clients = [stack.enter_context(hub_client(environment)) for _ in range(3)]
        for client in clients:
            client("pinned", "org/repo")
        for client in clients:
            client.start("resolve", "org/repo")
        assert all("value" in client.process.stdout.readline() for client in clients)
        files = [path.name for path in in_bfloat16[0].iterdir()]
        assert sorted(path.rpartition("/")[2] for path in hub.downloads()) == sorted(files)
