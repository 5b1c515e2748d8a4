"""Job: attribution graphs of a corpus, the first stage. `ray job submit -- python jobs/trace.py CONFIG --out /abs/run`.

Takes the arguments of `tracer trace`; `--out` must be absolute, since a job's working folder is deleted with it.
"""

import sys

from tracer.cli import main

if __name__ == "__main__":
    main(["trace", *sys.argv[1:]])
