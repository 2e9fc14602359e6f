"""``python -m edgeq`` is ``edgeq``."""

from edgeq.cli.main import main

if __name__ == "__main__":
    main()
