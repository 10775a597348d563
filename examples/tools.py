"""Tools of your own: one that takes a while, one that asks first. Typed: python examples/tools.py
Spoken: python examples/tools.py --wav question.wav"""

import argparse
import asyncio
from pathlib import Path
from typing import Literal

import soundfile

from textpro import Runtime, Session
from textpro.agent.tools import tool

SAID = ("turn on the kitchen light", "cancel order four seven one nine", "yes")


def set_light(room: str, state: Literal["on", "off"]) -> str:
    """Turn the light in a room on or off."""
    return f"the {room} light is {state}"


@tool(time_limit_s=5, filler="Let me look that up.")
async def order_status(order: str) -> dict[str, str]:
    """Look up where an order of four digits is."""
    await asyncio.sleep(1.5)  # a slow web service
    return {"status": "shipped", "day": "tuesday"}


@tool(confirm="Shall I cancel order {order}? Say yes or no.")
def cancel_order(order: str) -> dict[str, bool]:
    """Cancel an order that was not shipped yet."""
    return {"ok": True}


async def show_reply(session: Session) -> None:
    """Print what happens until the reply is over."""
    async for event in session:
        match event.type:
            case "turn_end":
                print("you:  ", event.text)
            case "tool_call":
                print("call: ", event.name, event.arguments)
            case "tool_result":
                print("tool: ", event.result)
            case "reply_done":
                print("agent:", event.text)
                return
            case "turn_dropped" | "failed":
                print("no answer:", event.reason)
                return


async def main(wav: str | None, text: list[str]) -> None:
    tools = [set_light, order_status, cancel_order]
    async with Runtime(speak=False) as runtime, runtime.session(tools=tools) as session:
        if wav is not None:
            samples, sample_rate = soundfile.read(wav, dtype="float32")
            await session.send_audio(samples, sample_rate)
            await session.end_audio()
            await show_reply(session)
        for said in text if text or wav else SAID:
            await session.send_text(said)
            await show_reply(session)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wav", help="a question as an audio file")
    parser.add_argument("text", nargs="*", help="typed turns")
    chosen = parser.parse_args()
    if chosen.wav is not None and not Path(chosen.wav).is_file():
        parser.error(f"--wav {chosen.wav}: no such file")
    asyncio.run(main(chosen.wav, chosen.text))
