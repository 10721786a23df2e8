"""An MCP server: over stdio, or over HTTP on a port of its own choosing, which it writes to the file named."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("shop")


@server.tool()
def stock(article: str) -> dict[str, int]:
    """How many there are."""
    return {"stock": len(article)}


@server.tool()
def environment(name: str) -> str:
    """A variable of the server's own."""
    return os.environ.get(name, "none")


@server.tool()
def fails() -> str:
    """Fails."""
    raise ValueError(f"no good: {os.environ.get('SHOP_KEY', '')}")


@server.tool()
def dies() -> str:
    """Ends the server."""
    os._exit(1)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        server.run()
    else:
        listening = socket.create_server(("127.0.0.1", 0))
        Path(sys.argv[1]).write_text(str(listening.getsockname()[1]))
        config = uvicorn.Config(server.streamable_http_app(), log_level="error")
        uvicorn.Server(config).run(sockets=[listening])
