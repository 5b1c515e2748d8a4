"""Job: labels by a language model, with scores. `ray job submit -- python jobs/autointerp.py RUN --config CONFIG`.

Takes the arguments of `tracer label`, RUN an absolute path or a URI; keys come from the environment of the job.
"""

import sys

from tracer.cli.jobs import run_job

if __name__ == "__main__":
    run_job("label", sys.argv[1:], takes_config=False)
