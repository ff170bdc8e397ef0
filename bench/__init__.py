"""What an issuance costs, as a ratio to what nobody could do without.

Four floors are taken in the same run as the broker, between its own measurements: an aiohttp handler that answers a
constant, one bare RS256 check, one bare ES256 signature, and two rows in a durable group commit of fifty. Times of a
shared machine mean little; the ratio to the floors' sum means the same on any.

* CPU time is the server process's own, read from its CPU clock (`man 2 clock_getcpuclockid`): the load generator and the
  neighbours do not count.
* The broker is the real one, `jobkey-broker serve`, on a durable SQLite ledger on disk; every token is genuine and used once.
* Every answer is checked: a bench of refusals would be fast.

`python -m bench` prints a table and writes `build/bench.json`; `--quick`, `--million` and `--strict` are explained by `--help`.
"""
