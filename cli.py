"""Run the command line from a checkout: ``python cli.py audit plan.toml``."""

from robustbench_rad.cli import main

if __name__ == "__main__":
    main()
