"""A robot that drives through a room drawn in the terminal, by what you say to it; it knows MQTT and nothing of the agent.

Start a broker, the agent (textpro-agent mqtt --broker mqtt://localhost), and then one of:
    python examples/robot_mqtt.py turn_left.wav go_forward.wav
    python examples/robot_mqtt.py --text "turn left" --text "go forward three meters"
"""

import argparse
import asyncio
import json
import struct
import sys
import uuid
from dataclasses import dataclass, field

import aiomqtt
import soundfile

WIDTH, HEIGHT = 21, 9
HEADER = struct.Struct("!IIIQ")
WAYS = {"north": (0, -1), "east": (1, 0), "south": (0, 1), "west": (-1, 0)}
ARROWS = dict(zip(WAYS, "^>v<", strict=True))


def tool(name: str, description: str, **parameters: dict) -> dict:
    """A tool as the robot offers it to the agent."""
    required = [key for key, schema in parameters.items() if not schema.pop("optional", False)]
    schema = {"type": "object", "properties": parameters, "required": required}
    return {"name": name, "description": description, "parameters": schema}


TOOLS = [
    tool(
        "robot_move",
        "Drive the robot straight, by some meters or until told to stop.",
        direction={"type": "string", "enum": ["forward", "backward"]},
        meters={"type": "integer", "optional": True},
    ),
    tool("robot_turn", "Turn the robot on the spot.", direction={"type": "string", "enum": ["left", "right", "around"]}),
    tool("robot_stop", "Stop the robot at once."),
]


@dataclass
class Robot:
    """Where it stands; one meter is one cell, and walls stop it."""

    x: int = WIDTH // 2
    y: int = HEIGHT // 2
    heading: str = "north"
    trail: set[tuple[int, int]] = field(default_factory=set)

    def call(self, name: str, arguments: dict) -> dict:
        """Do what the agent asks for; what came of it."""
        match name, arguments.get("direction"):
            case "robot_move", "forward" | "backward" as way:
                wanted = int(arguments.get("meters", WIDTH))
                return {"ok": True, "meters": self.drive(wanted, 1 if way == "forward" else -1)}
            case "robot_turn", "left" | "right" | "around" as side:
                ways = list(WAYS)
                self.heading = ways[(ways.index(self.heading) + {"left": -1, "right": 1, "around": 2}[side]) % 4]
                return {"ok": True, "heading": self.heading}
            case "robot_stop", _:
                return {"ok": True}
        return {"ok": False, "error": f"this robot does not know {name} {arguments}"}

    def drive(self, meters: int, sign: int) -> int:
        """As far as there is room; gives the meters driven."""
        step_x, step_y = WAYS[self.heading]
        for driven in range(meters):
            x, y = self.x + sign * step_x, self.y + sign * step_y
            if not (0 <= x < WIDTH and 0 <= y < HEIGHT):
                return driven
            self.trail.add((self.x, self.y))
            self.x, self.y = x, y
        return meters

    def picture(self) -> str:
        """The room from above."""
        wall = "+" + "-" * WIDTH + "+"
        cells = {**dict.fromkeys(self.trail, "."), (self.x, self.y): ARROWS[self.heading]}
        rows = ("|" + "".join(cells.get((x, y), " ") for x in range(WIDTH)) + "|" for y in range(HEIGHT))
        return "\n".join((wall, *rows, wall, f"at {self.x},{self.y} heading {self.heading}"))


class Screen:
    """Draws over the last picture on a terminal, and one below the other elsewhere."""

    def __init__(self) -> None:
        self.lines = 0

    def draw(self, robot: Robot, said: str) -> None:
        """The robot, and what was said last."""
        text = f"{robot.picture()}\n{said[:100]}"
        back = f"\x1b[{self.lines}F\x1b[J" if self.lines and sys.stdout.isatty() else ""
        print(back + text, flush=True)
        self.lines = text.count("\n") + 1


class Device:
    """The robot on the broker: says who it is, listens to the agent in order, answers calls, comes back when cut off."""

    def __init__(self, name: str, prefix: str, robot: Robot) -> None:
        self.robot, self.screen, self.base = robot, Screen(), f"{prefix}/{name}"
        self.hello = json.dumps({"boot": uuid.uuid4().hex, "tools": TOOLS})
        self.session: str | None = None
        self.last_seq = self.packets = self.samples = 0
        self.ready, self.turn_over = asyncio.Event(), asyncio.Event()
        self.client: aiomqtt.Client | None = None

    async def live(self, host: str, port: int) -> None:
        """Stay connected."""
        gone = aiomqtt.Will(f"{self.base}/hello", b"", qos=1, retain=True)
        while True:
            try:
                async with aiomqtt.Client(host, port, will=gone) as client:
                    self.client = client
                    await client.subscribe(
                        [(f"{self.base}/event", 1), (f"{self.base}/tool/call", 1), (f"{self.base}/audio/out", 1)]
                    )
                    await client.publish(f"{self.base}/hello", self.hello, qos=1, retain=True)
                    await self.ask_again()
                    async for message in client.messages:
                        await self.take(message.topic.value.removeprefix(f"{self.base}/"), bytes(message.payload))
            except aiomqtt.MqttError as error:
                print(f"no connection: {error}", file=sys.stderr)
                await asyncio.sleep(0.5)

    async def take(self, channel: str, payload: bytes) -> None:
        """A message of the agent: once, and only in the order of its number."""
        body = {"seq": HEADER.unpack_from(payload)[0]} if channel == "audio/out" else json.loads(payload)
        if body.get("type") == "session_started":
            self.session, self.last_seq = body["session"], body["seq"] - 1
        if self.session is None or body.get("seq", 0) <= self.last_seq:
            return
        if body["seq"] > self.last_seq + 1:
            return await self.ask_again()
        self.last_seq += 1
        if channel == "tool/call" and not body.get("cancelled"):
            result = self.robot.call(body["name"], body["arguments"])
            await self.publish("tool/result", {"id": body["id"], "result": result})
        elif channel == "event":
            self.show(body)

    def show(self, event: dict) -> None:
        """Draw what changed."""
        match event["type"]:
            case "session_started":
                self.ready.set()
                self.screen.draw(self.robot, "say something")
            case "turn_end":
                self.screen.draw(self.robot, f"you: {event['text']}")
            case "reply_done":
                self.screen.draw(self.robot, f"robot: {event['text']}")
                self.turn_over.set()
            case "turn_dropped" | "error" | "session_ended":
                self.screen.draw(self.robot, f"{event['type']}: {event.get('reason', event.get('message'))}")
                self.turn_over.set()

    async def ask_again(self) -> None:
        """Have everything repeated that was missed."""
        if self.session is not None:
            await self.publish("control", {"type": "resume", "session": self.session, "after_seq": self.last_seq})

    async def publish(self, channel: str, body: dict | bytes, qos: int = 1) -> None:
        """Say something to the agent."""
        assert self.client is not None
        await self.client.publish(f"{self.base}/{channel}", body if isinstance(body, bytes) else json.dumps(body), qos=qos)

    async def leave(self) -> None:
        """Say good-bye: the conversation is over, and nothing stays on the broker."""
        assert self.client is not None
        await self.client.publish(f"{self.base}/hello", b"", qos=1, retain=True)

    async def type(self, text: str) -> None:
        """A typed turn, to the end of its reply."""
        self.turn_over.clear()
        await self.publish("text", {"text": text})
        await self.turn_over.wait()

    async def speak(self, file: str, pace: float) -> None:
        """A sound file as the microphone would give it, and silence until the reply is over."""
        self.turn_over.clear()
        sound, rate = soundfile.read(file, dtype="int16", always_2d=True)
        step = rate // 50
        at = 0
        while not self.turn_over.is_set():
            piece = sound[at : at + step, 0].astype("<i2").tobytes().ljust(2 * step, b"\0")
            header = HEADER.pack(self.packets, 0, rate, self.samples)
            self.packets, self.samples, at = self.packets + 1, self.samples + step, at + step
            await self.publish("audio/in", header + piece, qos=0)
            await asyncio.sleep(0.02 / pace)


async def main(options: argparse.Namespace) -> None:
    """Drive until all was said."""
    device = Device(options.device, options.prefix, Robot())
    living = asyncio.create_task(device.live(options.host, options.port))
    await device.ready.wait()
    for text in options.text or []:
        await device.type(text)
    for file in options.wav:
        await device.speak(file, options.pace)
    await device.leave()
    living.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wav", nargs="*", help="what you say, as sound files")
    parser.add_argument("--text", action="append", help="what you type")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--prefix", default="textpro")
    parser.add_argument("--device", default="robot")
    parser.add_argument("--pace", type=float, default=1.0, help="how much faster than real time files are spoken")
    asyncio.run(main(parser.parse_args()))
