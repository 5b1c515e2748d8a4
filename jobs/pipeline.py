"""Job: everything from prompts to page. `ray job submit -- python jobs/pipeline.py CONFIG --out /abs/run`.

Takes the arguments of `tracer run`; `--out` must be absolute, since a job's working folder is deleted with it.
"""

import sys

from tracer.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
