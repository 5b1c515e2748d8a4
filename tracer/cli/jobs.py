"""The commands of a run as entry points of Ray jobs."""

import signal
import sys
from types import FrameType

from tracer.cli import STOPPED, main

CONFIG_OPTION = "--config"


def run_job(command: str, arguments: list[str], *, takes_config: bool = True) -> None:
    """Run a command as `main` does; SIGTERM, which `ray job stop` sends, ends it as Ctrl-C does.

    Args:
        command: its name on the command line.
        arguments: its arguments.
        takes_config: whether `--config PATH` or `--config=PATH` may stand for the path alone.
    """
    signal.signal(signal.SIGTERM, _stop)
    split = [part for argument in arguments for part in _split(argument)]
    main([command, *(argument for argument in split if not takes_config or argument != CONFIG_OPTION)])


def _split(argument: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith(f"{CONFIG_OPTION}=") else [argument]


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(STOPPED)
