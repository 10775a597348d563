"""The agent inside a program that has work of its own: a house that measures its power all the time, and can be talked to.

    python examples/embed.py "turn on the kitchen light" "turn on the bedroom light"
    python examples/embed.py --wav question.wav

Everything runs in one event loop; the model has a thread of its own, so the house never waits for it."""

import argparse
import asyncio
from pathlib import Path
from typing import Literal

import soundfile

from textpro import Audio, Failed, ReplyDone, Runtime, Session, TurnDropped, TurnEnd


class House:
    """The program: lights, and a meter that reads every 50 ms."""

    def __init__(self) -> None:
        self.lights: set[str] = set()
        self.readings: list[int] = []

    async def measure(self) -> None:
        while True:
            self.readings.append(60 * len(self.lights))
            await asyncio.sleep(0.05)

    def set_light(self, room: str, state: Literal["on", "off"]) -> None:
        """Turn the light in a room on or off."""
        (self.lights.add if state == "on" else self.lights.discard)(room)


class Intercom:
    """The agent's ears and mouth in the program."""

    def __init__(self, session: Session) -> None:
        self.session, self.played_s = session, 0.0
        self.answered = asyncio.Event()

    async def hear(self, file: str) -> None:
        """A microphone would do the same, piece by piece as it comes."""
        samples, rate = soundfile.read(file, dtype="float32")
        for at in range(0, len(samples), rate // 50):
            await self.session.send_audio(samples[at : at + rate // 50], rate)
        await self.session.end_audio()

    async def follow(self) -> None:
        """Everything that the agent does is an event."""
        async for event in self.session:
            match event:
                case TurnEnd(text=text):
                    print("you:  ", text)
                case Audio(pcm=pcm, sample_rate=rate):
                    self.played_s += len(pcm) / rate  # a loudspeaker would get pcm
                case ReplyDone(text=text):
                    print("agent:", text)
                    self.answered.set()
                case TurnDropped(reason=reason) | Failed(reason=reason):
                    print("no answer:", reason)
                    self.answered.set()

    async def reply(self) -> None:
        await self.answered.wait()
        self.answered.clear()


async def main(texts: list[str], wav: str | None) -> House:
    house = House()
    measuring = asyncio.create_task(house.measure())
    async with Runtime() as runtime, runtime.session(tools=[house.set_light]) as session:
        intercom = Intercom(session)
        following = asyncio.create_task(intercom.follow())
        if wav is not None:
            await intercom.hear(wav)
            await intercom.reply()
        for text in texts:
            await session.send_text(text)
            await intercom.reply()
        following.cancel()
    measuring.cancel()
    print(f"{len(house.readings)} readings meanwhile, now {house.readings[-1]} W; {intercom.played_s:.1f} s of speech")
    return house


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wav", help="a spoken turn")
    parser.add_argument("texts", nargs="*", help="typed turns")
    chosen = parser.parse_args()
    if chosen.wav is not None and not Path(chosen.wav).is_file():
        parser.error(f"--wav {chosen.wav}: no such file")
    asyncio.run(main(chosen.texts, chosen.wav))
