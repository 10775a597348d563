"""The tools of a real MCP server in a process of its own, over stdio, called by a session."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from requirements import require_module
from scripted_engine import ScriptedTalk
from textpro.agent.mcp_tools import mcp_tools
from textpro.models.errors import InputError

SERVER = '''
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("shop", log_level="CRITICAL")

@server.tool()
def stock(item: str, shelf: int = 1) -> str:
    """How much of an item
    is there."""
    return f"{item}: 7 on shelf {shelf}"

@server.tool()
def order(item: str) -> dict[str, int]:
    """Order more."""
    if item == "moon":
        raise ToolError("the moon is not for sale")
    return {"number": 12}

server.run()
'''


def test_the_tools_of_an_mcp_server_are_called_by_the_model(tmp_path: Path):
    mcp = require_module("mcp")
    path = tmp_path / "server.py"
    path.write_text(SERVER, encoding="utf-8")

    async def main() -> None:
        async with mcp.Client(mcp.StdioServerParameters(command=sys.executable, args=[str(path)])) as client:
            tools = await mcp_tools(client, confirm=["order"])
            assert [(tool.name, tool.description, tool.confirm) for tool in tools] == [
                ("stock", "How much of an item is there.", False),
                ("order", "Order more.", True),
            ]
            with pytest.raises(InputError, match="sell"):
                await mcp_tools(client, confirm=["sell"])
            assert tools[0].parameters["required"] == ["item"]
            script = (
                (("stock", {"item": "tea"}), ("stock", {"shelf": 2})), "Seven.",
                (("order", {"item": "moon"}),), "No.",
                (("order", {"item": "tea"}),), "Ordered.",
            )  # fmt: skip
            async with ScriptedTalk(tools, *script) as talk:
                for said in ("how much tea is there", "order the moon", "yes", "order tea", "yes"):
                    await talk.say(said)
            results = [event.result for event in talk.of("tool_result")]
        assert "tea: 7 on shelf 1" in str(results[0])
        assert results[1]["ok"] is False and "item" in results[1]["error"]
        assert results[2]["ok"] is False and "not for sale" in results[2]["error"]
        assert results[3] == {"number": 12}

    asyncio.run(main())
