"""`python -m graphslim`."""

from __future__ import annotations

from graphslim.cli import main

if __name__ == "__main__":
    main()
