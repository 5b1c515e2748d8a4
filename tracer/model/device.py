"""Where the arithmetic happens: the name of a device in, a device that is there out."""

import torch

from tracer.errors import ModelError


def resolve_device(name: str | torch.device | None) -> torch.device:
    """The device that `name` means on this machine.

    Args:
        name: cpu, cuda or cuda:NUMBER; auto or None takes CUDA if present.

    Raises:
        ModelError: it is none of these, or this machine does not have it.
    """
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name is None or str(name) == "auto":
        return torch.device("cuda" if n_cuda else "cpu")
    expected, to_do = "auto, cpu, cuda or cuda:NUMBER", "Name another device."
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError("device", found=repr(name), expected=expected, to_do=to_do) from error
    if device.type not in ("cpu", "cuda"):
        raise ModelError("device", found=repr(str(name)), expected=expected, to_do=to_do)
    if device.type == "cuda" and (device.index or 0) >= n_cuda:
        found = f"{str(name)!r}, and {n_cuda or 'no'} CUDA device(s) on this machine"
        raise ModelError("device", found=found, expected="a device of this machine", to_do=to_do)
    return device
