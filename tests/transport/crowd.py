"""Many well-behaved clients in one process, because the test process may not open enough files for them.

In: ``host port path count says``. Out: each connection sends ``says``, unless it is empty; ``open COUNT`` on
stdout; then all that comes is read until stdin ends.
Does not know: what is said.
"""

import asyncio
import sys

from tests.transport.wire import Opcode, frame, upgrade_request


async def join(
    host: str, port: int, path: str, says: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(upgrade_request(path))
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    if says:
        writer.write(frame(Opcode.TEXT, says.encode()))
    return reader, writer


async def read_on(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


async def main(host: str, port: int, path: str, count: int, says: str) -> None:
    joined = [await join(host, port, path, says) for _ in range(count)]
    print(f"open {count}", flush=True)
    reading = [asyncio.ensure_future(read_on(reader)) for reader, _ in joined]
    await asyncio.to_thread(sys.stdin.read)
    for task in reading:
        task.cancel()
    for _, writer in joined:
        writer.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]))
