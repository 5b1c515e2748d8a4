"""`python -m tracer.cli` is the `tracer` command too."""

from tracer.cli import main

if __name__ == "__main__":
    main()
