"""A shop's telephone desk: callers ask where their order is, and who gets angry is handed to a person.

    TWILIO_AUTH_TOKEN=... python examples/call_center.py --public-url wss://voice.example.com/twilio

behind a proxy that speaks TLS. docs/telephone.md says what Twilio is told; in examples/twiml.xml a person is dialled when the
agent leaves the call. A caller counts as angry where the model says so, or, as a telephone carries little of what it goes by,
where the voice is louder than at the beginning of the call."""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator

from websockets.asyncio.server import ServerConnection, serve

from textpro import Event, Prosody, ReplyDone, Runtime, TurnEnd, tool
from textpro.serving.telephone.twilio import TwilioCall, TwilioSettings, serve_twilio

ORDERS = {"4719": {"status": "shipped", "day": "tuesday"}, "2050": {"status": "packed"}}
RAISED_DB = 3.0


def order_status(order: str) -> dict[str, str]:
    """Look up where an order of four digits is."""
    return ORDERS.get(order, {"status": "unknown"})


@tool(confirm="Shall I cancel order {order}?")
def cancel_order(order: str) -> dict[str, bool]:
    """Cancel an order that was not shipped yet."""
    return {"ok": ORDERS.get(order, {}).get("status") == "packed" and bool(ORDERS.pop(order))}


class Desk:
    """The session of one call, with an ear for how the caller sounds."""

    def __init__(self, runtime: Runtime, call: TwilioCall) -> None:
        tools = [order_status, cancel_order, self.transfer_to_person]
        self.call, self.session = call, runtime.session(tools=tools, playback="acknowledged")
        self.calm_db: float | None = None
        self.prosody: Prosody | None = None

    def transfer_to_person(self, reason: str) -> None:
        """Hand the caller over to a person."""
        print(f"to a person: {reason}", flush=True)
        self.call.leave()  # once the reply was heard

    def listen(self, event: Event) -> None:
        match event:
            case Prosody():
                self.prosody = event
            case TurnEnd(text=text):
                print(f"caller: {text}", flush=True)
                if self.prosody is not None and self.is_angry(self.prosody):
                    self.transfer_to_person("the caller sounds angry")
            case ReplyDone(text=text):
                print(f"agent: {text}", flush=True)

    def is_angry(self, now: Prosody) -> bool:
        calm_db, self.calm_db = self.calm_db, now.energy_db if self.calm_db is None else self.calm_db
        raised = now.energy_db is not None and calm_db is not None and now.energy_db > calm_db + RAISED_DB
        return raised or now.label == "angry"

    def __getattr__(self, name: str) -> object:
        return getattr(self.session, name)

    async def __aenter__(self) -> "Desk":
        await self.session.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.session.__aexit__(*error)

    async def __aiter__(self) -> AsyncIterator[Event]:
        async for event in self.session:
            self.listen(event)
            yield event


async def main(host: str, port: int, public_url: str | None) -> None:
    settings = TwilioSettings(os.environ.get("TWILIO_AUTH_TOKEN"), public_url, open_session=Desk)
    async with Runtime() as runtime:

        async def answer(connection: ServerConnection) -> None:
            await serve_twilio(connection, runtime, settings)

        async with serve(answer, host, port):
            print(f"taking calls at ws://{host}:{port}", flush=True)
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="where the proxy finds it")
    parser.add_argument("--port", type=int, default=8766)
    parser.add_argument("--public-url", help="the <Stream>'s URL, which Twilio signs")
    asyncio.run(main(**vars(parser.parse_args())))
