"""Floor: an aiohttp handler that answers a constant, in one process on uvloop, driven by the same load as the broker.

`python -m bench.floors.constant SIZE` listens on a free port of loopback and prints that port as its only line.
"""

import asyncio
import sys

import uvloop
from aiohttp import web


async def serve(size: int) -> None:
    """Answer every POST with the same `size` bytes until the process is ended."""
    body = b'{"issuance":"' + b"x" * max(0, size - 15) + b'"}'

    async def constant(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/credentials", constant)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
