"""Fetch a study's models ahead, or list them: ``python -m siglip_study.models fetch CONFIG``."""

import sys

from siglip_study.models.fetch import main

if __name__ == "__main__":
    sys.exit(main())
