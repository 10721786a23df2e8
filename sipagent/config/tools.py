"""What an agent may do besides talk: HTTP requests, Python functions, MCP servers, and xAI's own tools.

A tool is data: its kind, what the model is told of it, and its bounds. Text in braces is filled in when the tool
is called, with the model's arguments, with what is known of the call ({caller}, {called} ...) and [variables], and
with {secret}. `sipagent/tools/` carries it out; nothing here does.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from sipagent.config.base import Section
from sipagent.config.trunks import Network

ToolName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=40)]
"""The function's name for the model. No double underscore: environment variables and secrets files nest by it."""
BUILT_IN = frozenset({"transfer_call", "hang_up", "send_dtmf", "collect_digits", "hold", "take_message",
                      "schedule_callback"})  # fmt: skip
"""Functions of the call itself; a tool of the configuration cannot have such a name."""
FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A place to be filled in, in a template."""
SECRET = "secret"  # noqa: S105 - the name of the field, not its value
HOLD_SOUND = "hold:"
"""As a filler: a soft sound of our own making, until the answer comes."""
SAFE_METHODS = frozenset({"GET", "HEAD"})
_TYPES = ("string", "integer", "number", "boolean")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NOT_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
_LOOPBACK = re.compile(r"127\.[0-9.]+|localhost|::1")


def schema_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a tool's `parameters`: as it stands, or made from the short form.

    Short: ``{ order = "The order number", "count?" = "integer: How many" }``, a question mark for what may be left
    out. ValueError for a type that is not one.
    """
    if not all(isinstance(value, str) for value in parameters.values()):
        return dict(parameters)
    properties, required = {}, []
    for name, text in parameters.items():
        kind, colon, description = text.partition(":")
        if not (colon and kind.strip() in _TYPES):
            kind, description = "string", text
        properties[name.removesuffix("?")] = {"type": kind.strip(), "description": description.strip()}
        if not name.endswith("?"):
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    schema = schema_of(value)
    properties = schema.get("properties", {})
    if schema.get("type") != "object" or not isinstance(properties, dict):
        raise ValueError('a JSON schema of type "object" with its properties, or the short form: { order = "..." }')
    for name in properties:
        if not FIELD.fullmatch(f"{{{name}}}"):
            raise ValueError(f"{name!r} is no name for a parameter: letters, digits and underscores")
    if SECRET in properties:
        raise ValueError("no parameter can be named secret: the model knows none")
    return value


Parameters = Annotated[dict[str, Any], AfterValidator(_parameters)]


class _Run(Section):
    """What holds for every tool that we carry out ourselves."""

    timeout_s: float = Field(10.0, ge=0.1, le=300)
    """After this long the model is told that it takes too long."""
    filler: str = "One moment, please."
    """What the caller hears when it takes longer than `filler_after_ms`: words, "file:tune.wav", or "hold:", a soft
    sound until the answer comes; empty: nothing."""
    filler_after_ms: int = Field(700, ge=0, le=30_000)
    """Of silence, while the tool runs."""
    hold_sound: bool = True
    """After the filler, the same soft sound until the answer comes."""


class HttpTool(_Run):
    """One request to a server of yours."""

    kind: Literal["http"]
    description: str = Field(min_length=1)
    """When the model is to use it, and what for."""
    parameters: Parameters = {}
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: str
    """The host stands as it is; {fields} may stand behind it, and are URL-encoded."""
    headers: dict[str, str] = {}
    body: dict[str, Any] | None = None
    """Sent as JSON. A text that is one {field} alone becomes its value, of whatever type."""
    form: dict[str, str] | None = None
    """Sent as a form. With neither, a method that has a body sends all arguments as JSON."""
    secret: SecretStr = SecretStr("")
    """{secret}. Better from SIPAGENT_TOOLS__NAME__SECRET or a secrets file tools__name__secret."""
    pick: str = ""
    """JMESPath: what of a JSON answer the model is told; empty: all of it."""
    max_bytes: int = Field(65_536, ge=1024, le=10_000_000)
    """Of an answer; what is longer is refused."""
    retries: int = Field(2, ge=0, le=5)
    """After a failure that may pass, within timeout_s; GET and HEAD only, since others may have been carried out."""
    allowed_hosts: tuple[str, ...] = ()
    """Where redirects may lead besides the host of `url`; as "host" or "host:port"."""
    private_networks: tuple[Network, ...] = ()
    """Addresses that are no public ones are refused, except these: ["10.0.0.0/8", "127.0.0.1"]. With http:// a secret
    goes to these alone."""

    @model_validator(mode="after")
    def _sound(self) -> HttpTool:
        place = urlsplit(self.url)
        if place.scheme not in {"http", "https"} or not place.hostname or place.username or place.password:
            raise ValueError("url: http:// or https://, a host, no user and no password in it")
        origin = f"{place.scheme}://{place.netloc}"
        if "{" in origin or "\\" in self.url or re.search(r"[\x00-\x20\x7f]", self.url):
            raise ValueError("url: the host stands as it is; no fields in it, no blanks or backslashes anywhere")
        try:
            _ = place.port
        except ValueError:
            raise ValueError("url: the port is no number") from None
        if not self.url.startswith(origin + "/") and self.url != origin:
            raise ValueError(f"url: behind the host comes a slash: {origin}/")
        if self.body is not None and self.form is not None:
            raise ValueError("form: give body (JSON) or form, not both")
        if self.method in SAFE_METHODS and (self.body is not None or self.form is not None):
            raise ValueError(f"method: a {self.method} has no body; POST has")
        if self.secret.get_secret_value() and place.scheme == "http" and not self.private_networks:
            raise ValueError("url: a secret must not cross the network in clear: use https:// (or private_networks)")
        return self

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _HEADER.fullmatch(name) or name.lower() in _NOT_OURS:
                raise ValueError(f"{name!r} cannot be set")
            if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
                raise ValueError(f"{name}: no line breaks or control characters in a header")
        return value


class PythonTool(_Run):
    """A function of yours; its type hints are the schema, its docstring the description."""

    kind: Literal["python"]
    function: str = Field("", pattern=r"^([\w.]+(:[\w.]+)?)?$")
    """``module:function`` (also of a module beside sipagent.toml), or an entry point of `sipagent.tools`; empty: the
    entry point of the tool's own name."""
    description: str = ""
    """Empty: the first paragraph of the docstring."""


class McpTool(_Run):
    """A server of the Model Context Protocol; each of its tools becomes NAME_TOOL."""

    kind: Literal["mcp"]
    command: tuple[str, ...] = ()
    """A program to start, which speaks on its stdin and stdout ..."""
    url: str = Field("", pattern=r"^(https?://[^\s{}]+)?$")
    """... or the address of one that speaks streamable HTTP."""
    env: dict[str, SecretStr] = {}
    """For the program; it gets nothing else of our environment but PATH, HOME and the like."""
    headers: dict[str, str] = {}
    """For the address; {secret} is filled in."""
    secret: SecretStr = SecretStr("")
    allowed_tools: tuple[str, ...] = ()
    """Only these of its tools, by the server's own names; empty: all."""
    connect_timeout_s: float = Field(5.0, ge=0.5, le=60)

    @model_validator(mode="after")
    def _one_way(self) -> McpTool:
        if bool(self.command) == bool(self.url):
            raise ValueError("url: give either command or url")
        place = urlsplit(self.url)
        if self.secret.get_secret_value() and place.scheme == "http" and not _LOOPBACK.fullmatch(place.hostname or ""):
            raise ValueError("url: a secret must not cross the network in clear: use https://")
        return self


# --- carried out by xAI, not by us


class _AtXai(Section):
    def wire(self, name: str) -> dict[str, Any]:
        """The entry of `session.tools`; what is empty is left out."""
        del name
        given = {key: value for key, value in self.model_dump(mode="json").items() if value not in (None, "", [], {})}
        kind = given.pop("kind")
        return {"type": kind, **given}


class WebSearchTool(_AtXai):
    """xAI searches the web."""

    kind: Literal["web_search"]
    allowed_domains: tuple[str, ...] = Field((), max_length=5)
    excluded_domains: tuple[str, ...] = Field((), max_length=5)
    user_location: dict[Literal["country", "region", "city", "timezone"], str] = {}
    enable_image_understanding: bool | None = None

    @model_validator(mode="after")
    def _either(self) -> WebSearchTool:
        if self.allowed_domains and self.excluded_domains:
            raise ValueError("excluded_domains: xAI takes allowed_domains or excluded_domains, not both")
        return self


class XSearchTool(_AtXai):
    """xAI searches X."""

    kind: Literal["x_search"]
    allowed_x_handles: tuple[str, ...] = Field((), max_length=20)
    excluded_x_handles: tuple[str, ...] = Field((), max_length=20)
    from_date: dt.date | None = None
    to_date: dt.date | None = None
    enable_image_understanding: bool | None = None
    enable_video_understanding: bool | None = None

    @model_validator(mode="after")
    def _either(self) -> XSearchTool:
        if self.allowed_x_handles and self.excluded_x_handles:
            raise ValueError("excluded_x_handles: xAI takes allowed_x_handles or excluded_x_handles, not both")
        if self.from_date and self.to_date and self.from_date > self.to_date:
            raise ValueError("to_date: it lies before from_date")
        return self


class FileSearchTool(_AtXai):
    """xAI searches collections of documents that you have uploaded there."""

    kind: Literal["file_search"]
    vector_store_ids: tuple[str, ...] = Field(min_length=1)
    """Collection ids."""
    max_num_results: int | None = Field(None, ge=1, le=50)


class RemoteMcpTool(_AtXai):
    """An MCP server that xAI calls, reachable from the Internet."""

    kind: Literal["remote_mcp"]
    server_url: str = Field(pattern=r"^https://\S+$")
    server_label: str = Field("", pattern=r"^[A-Za-z0-9_-]*$")
    """Empty: the tool's own name."""
    server_description: str = ""
    allowed_tools: tuple[str, ...] = ()
    authorization: SecretStr = SecretStr("")
    headers: dict[str, SecretStr] = {}

    def wire(self, name: str) -> dict[str, Any]:
        """With its secrets: xAI has to know them."""
        entry = super().wire(name) | {"type": "mcp", "server_label": self.server_label or name}
        if self.authorization.get_secret_value():
            entry["authorization"] = self.authorization.get_secret_value()
        if self.headers:
            entry["headers"] = {key: value.get_secret_value() for key, value in self.headers.items()}
        return entry


LocalTool = HttpTool | PythonTool | McpTool
XaiTool = WebSearchTool | XSearchTool | FileSearchTool | RemoteMcpTool
Tool = Annotated[
    HttpTool | PythonTool | McpTool | WebSearchTool | XSearchTool | FileSearchTool | RemoteMcpTool,
    Field(discriminator="kind"),
]
KINDS = frozenset({"http", "python", "mcp", "web_search", "x_search", "file_search", "remote_mcp"})


def fields_of(tool: HttpTool) -> set[str]:
    """Every {field} of a tool's templates."""
    return set(FIELD.findall(" ".join([tool.url, *tool.headers.values(), *_texts(tool.body), *_texts(tool.form)])))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for entry in value.values() for text in _texts(entry)]
    if isinstance(value, list | tuple):
        return [text for entry in value for text in _texts(entry)]
    return []
