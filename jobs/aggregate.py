"""Job: tables, labels and page from committed shards. `ray job submit -- python jobs/aggregate.py /abs/run`.

Takes the arguments of `tracer aggregate`.
"""

import sys

from tracer.cli.jobs import run_job

if __name__ == "__main__":
    run_job("aggregate", sys.argv[1:])
