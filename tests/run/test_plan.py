"""What is looked at before a run begins."""

import pytest
import torch

from tracer.config import RunConfig, parse_config
from tracer.errors import ModelError
from tracer.run.plan import check_device


def config(gpus_per_actor: float) -> RunConfig:
    return parse_config({
        "model": {"checkpoint": "a", "transcoders": "b", "device": "cuda"},
        "corpus": {"source": "tasks:atlas"},
        "runner": {"gpus_per_actor": gpus_per_actor},
    })


def test_the_device_is_looked_for_here_unless_actors_reserve_it_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for gpus_per_actor, inline in ((0, False), (0, True), (1, True)):
        with pytest.raises(ModelError, match="no CUDA device"):
            check_device(config(gpus_per_actor), inline=inline)
    check_device(config(1), inline=False)
