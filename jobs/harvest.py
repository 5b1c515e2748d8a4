"""Job: what every feature fires on, over a reference corpus.

    ray job submit -- python jobs/harvest.py --config CONFIG --out /abs/harvest

Takes the arguments of `tracer harvest`, the configuration with or without `--config` before it; `--out` must be
absolute, since a job's working folder is deleted with it.
"""

import sys

from tracer.cli.jobs import run_job

if __name__ == "__main__":
    run_job("harvest", sys.argv[1:])
