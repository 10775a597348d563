"""The agent loop in ten lines: a tool of your own, a typed turn, the events."""

import asyncio

from textpro import Runtime


def set_light(room: str, state: str) -> dict:
    """Turn the light in a room on or off."""
    print(f"[the {room} light goes {state}]")
    return {"ok": True}


async def main() -> None:
    async with Runtime() as runtime, runtime.session(tools=[set_light]) as session:
        await session.send_text("turn on the kitchen light")
        async for event in session:
            if event.type in ("tool_call", "reply_done"):
                print(event.to_json())
            if event.type == "reply_done":
                break


asyncio.run(main())
