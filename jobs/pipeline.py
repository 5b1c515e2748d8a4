"""Job: everything from prompts to page. `ray job submit -- python jobs/pipeline.py --config CONFIG --out /abs/run`.

Takes the arguments of `tracer run`, the configuration with or without `--config` before it; `--out` must be absolute,
since a job's working folder is deleted with it.
"""

import sys

from tracer.cli.jobs import run_job

if __name__ == "__main__":
    run_job("run", sys.argv[1:])
