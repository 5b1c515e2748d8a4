"""Job: attribution graphs of a corpus, the first stage.

    ray job submit -- python jobs/trace.py --config CONFIG --out /abs/run

Takes the arguments of `tracer trace`, the configuration with or without `--config` before it; `--out` must be absolute,
since a job's working folder is deleted with it.
"""

import sys

from tracer.cli.jobs import run_job

if __name__ == "__main__":
    run_job("trace", sys.argv[1:])
