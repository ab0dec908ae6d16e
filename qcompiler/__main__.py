"""``python -m qcompiler`` is the command ``qcompiler``."""

from qcompiler.cli import main

if __name__ == "__main__":
    main()
