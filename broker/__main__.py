"""`python -m broker` is `jobkey-broker`."""

from broker.cli import main

main()
