"""The tools of an MCP server as tools of a session: `tools=await mcp_tools(client)`.

The client is one of the `mcp` package (extra `mcp`), connected by its owner and open for as long as the session; the server
describes its tools and checks their arguments, so nothing of them is known here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..models.errors import InputError
from .tools import TIME_LIMIT_S, Tool, ToolFunction, unchecked

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult


async def mcp_tools(client: Client, *, confirm: Collection[str] = (), time_limit_s: float = TIME_LIMIT_S) -> list[Tool]:
    """All tools of the server behind an entered `mcp.Client`; the user is asked before those named in `confirm`.

    InputError for names in `confirm` that the server does not have; the client's own errors where it is not connected.
    """
    found: list[Tool] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for known in page.tools:
            found.append(
                Tool(
                    name=known.name,
                    description=" ".join((known.description or "").split()),
                    parameters=known.input_schema,
                    function=_caller(client, known.name),
                    check=unchecked,
                    time_limit_s=time_limit_s,
                    confirm=known.name in confirm,
                )
            )
        cursor = page.next_cursor
        if not cursor:
            break
    if unknown := set(confirm) - {tool.name for tool in found}:
        raise InputError(f"the server has no tools {sorted(unknown)}: it has {sorted(tool.name for tool in found)}")
    return found


def _caller(client: Client, name: str) -> ToolFunction:
    async def call(**arguments: Any) -> Mapping[str, Any]:
        return _result(await client.call_tool(name, arguments))

    return call


def _result(answer: CallToolResult) -> Mapping[str, Any]:
    text = "\n".join(str(block.text) for block in answer.content if block.type == "text")
    if answer.is_error:
        return {"ok": False, "error": text or "the server gave no reason"}
    structured = answer.structured_content
    return structured if isinstance(structured, dict) else {"result": text}
