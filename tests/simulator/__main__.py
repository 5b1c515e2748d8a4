"""`python -m tests.simulator SEED`: the history of one schedule, and what it breaks if it does."""

import sys

from tests.simulator.schedule import run_schedule

if __name__ == "__main__":
    run_schedule(int(sys.argv[1]), log=print)
