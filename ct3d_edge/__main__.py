"""``python -m ct3d_edge`` is the command ``ct3d-edge``."""

from ct3d_edge.cli.app import main

if __name__ == "__main__":
    main()
