"""A process that sends a server mutated messages: python tests/fuzz_attack.py ws://127.0.0.1:PORT. It says how many messages came
back. A process of its own, as attackers are: in that of the server its work would stand in the way of everybody's sound."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from realtime_fuzz import messages
from twilio_fuzz import twilio_frames


async def attack(url: str, frames: Sequence[str | bytes]) -> int:
    """All of them, over another connection when one was ended."""
    sent = answers = 0
    while sent < len(frames):
        async with connect(url, compression=None, max_size=None, close_timeout=600) as client:  # all is read
            drain = asyncio.create_task(_drained(client))
            with contextlib.suppress(ConnectionClosed):
                while sent < len(frames):
                    sent += 1
                    await client.send(frames[sent - 1])
                    await asyncio.sleep(0)
            await client.close()
            answers += await drain
    return answers


async def calls(url: str, seeds: range) -> int:
    """A call of some 50 frames for each seed."""
    return sum([await attack(f"{url}/twilio", twilio_frames(random.Random(seed), 50)) for seed in seeds])


def noise(seed: int) -> list[str | bytes]:
    """Random bytes, one in three of them as text."""
    data = random.Random(seed)
    frames = [data.randbytes(data.randrange(400)) for _ in range(1_000)]
    return [frame if number % 3 else frame.decode("latin-1") for number, frame in enumerate(frames)]


async def main(url: str) -> int:
    """15,000 messages of the Realtime protocol, 100 calls and 2,000 frames of noise at once; how many messages came back."""
    realtime = [attack(f"{url}/v1/realtime", list(messages(seed, 5_000, []))) for seed in range(3)]
    random_ones = [attack(f"{url}{path}", noise(seed)) for seed, path in enumerate(("/v1/realtime", "/twilio"))]
    return sum(await asyncio.gather(*realtime, *random_ones, *(calls(url, range(start, 100, 3)) for start in range(3))))


async def _drained(client: ClientConnection) -> int:
    """How many messages came, up to the end of the connection."""
    came = 0
    with contextlib.suppress(ConnectionClosed):
        while True:
            await client.recv()
            came += 1
    return came


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(main(sys.argv[1]))}\n")
