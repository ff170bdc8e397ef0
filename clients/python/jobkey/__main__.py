"""`python -m jobkey`, and what the single-file `jobkey.pyz` starts with."""

from jobkey.cli import entry

if __name__ == "__main__":
    entry()
