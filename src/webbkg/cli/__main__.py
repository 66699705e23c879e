"""``python -m webbkg.cli`` is the command ``webbkg``."""

from __future__ import annotations

from webbkg.cli import main

if __name__ == "__main__":
    main()
