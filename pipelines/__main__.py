"""``python3 -m pipelines`` is the ``tutorloop`` command where the project is on the path but not installed."""

from pipelines.cli.main import main

if __name__ == "__main__":
    main()
