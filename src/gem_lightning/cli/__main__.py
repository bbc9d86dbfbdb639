"""``python -m gem_lightning.cli``."""

from gem_lightning.cli import main

if __name__ == "__main__":
    main()
