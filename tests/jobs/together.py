"""Workers of the product that begin together, so that all of them get work."""

import os
import time
from pathlib import Path

from tracer.config import RunConfig
from tracer.run.worker import TraceWorker

DEADLINE_S = 150


class Together(TraceWorker):
    """Is ready once `n_actors` processes are, which leave a file each in `folder`."""

    def __init__(self, config: RunConfig, *, folder: Path, n_actors: int) -> None:
        super().__init__(config)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + DEADLINE_S
        while len(list(folder.iterdir())) < n_actors:
            assert time.monotonic() < deadline, "the others never came"
            time.sleep(0.1)
