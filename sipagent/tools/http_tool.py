"""A tool that is one HTTP request: templates filled, the address checked, the answer bounded and picked from.

Redirects are followed here and not by the HTTP library, since each of them must lead to an allowed host, over an
address that `doors` lets through. Whatever goes wrong becomes a `ToolFailed` in words that name neither secrets nor
addresses inside our network.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, urljoin, urlsplit

import aiohttp
import jmespath
import stamina
from jmespath.exceptions import JMESPathError
from yarl import URL

from sipagent.config.tools import SAFE_METHODS, SECRET, HttpTool, schema_of
from sipagent.errors import ConfigError
from sipagent.tools import CallFacts, ToolFailed, doors, templates

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAY_PASS = frozenset({429, 502, 503, 504})
"""Answers of a server that is busy or away for a moment."""
_TOLD_CHARS = 400
"""Of an error's body: enough for "no such order"."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


class _Passing(Exception):
    """Worth another try."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool gave back."""

    output: str
    bytes: int


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None


class HttpRunner:
    """One HTTP tool, ready to be used; `close` at the end."""

    def __init__(self, name: str, tool: HttpTool, lookup: doors.Lookup | None = None) -> None:
        """`lookup` resolves names, for tests. ConfigError when the tool cannot work."""
        self.name, self._tool = name, tool
        self.description, self.parameters = tool.description, schema_of(tool.parameters)
        try:
            self._pick = jmespath.compile(tool.pick) if tool.pick else None
        except JMESPathError as error:
            raise ConfigError(f"pick: no JMESPath: {' '.join(str(error).split())}") from None
        # No way leads from https to http, so the scheme that a tool begins with tells.
        in_clear = bool(tool.secret.get_secret_value()) and urlsplit(tool.url).scheme == "http"
        self._doorman = doors.Doorman(doors.networks(tool.private_networks), lookup, in_clear=in_clear)
        self._hosts = {_host(tool.url), *(host.lower() for host in tool.allowed_hosts)}
        self._http: aiohttp.ClientSession | None = None

    async def run(self, arguments: Mapping[str, Any], facts: CallFacts) -> Answer:
        """One use. ToolFailed in words for the model; the time-out is the caller's business."""
        secret = self._tool.secret.get_secret_value()
        request = self._request({**facts.variables, **arguments, SECRET: secret}, arguments, facts.traceparent)
        attempts = self._tool.retries + 1 if self._tool.method in SAFE_METHODS else 1
        try:
            async for attempt in stamina.retry_context(
                on=_Passing, attempts=attempts, timeout=self._tool.timeout_s, wait_initial=0.2, wait_max=2.0
            ):
                with attempt:
                    return self._bounded(*await self._fetch(request))
        except _Passing as error:
            raise ToolFailed(self._without_secret(error.text)) from None
        except ToolFailed as error:
            raise ToolFailed(self._without_secret(str(error))) from None
        raise AssertionError("stamina gave no attempt")

    async def close(self) -> None:
        """Twice is fine."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    # --- there

    def _request(self, values: Mapping[str, Any], arguments: Mapping[str, Any], traceparent: str) -> _Request:
        tool = self._tool
        headers = {name: templates.fill_header(text, values) for name, text in tool.headers.items()}
        body: bytes | None = None
        kind = ""
        if tool.form is not None:
            fields = ((name, templates.fill(text, values)) for name, text in tool.form.items())
            body = "&".join(f"{quote_plus(name)}={quote_plus(text)}" for name, text in fields).encode()
            kind = "application/x-www-form-urlencoded"
        elif tool.method not in SAFE_METHODS and (tool.body is not None or tool.method != "DELETE"):
            whole = dict(arguments) if tool.body is None else templates.fill_json(tool.body, values)
            body, kind = json.dumps(whole, ensure_ascii=False).encode(), "application/json"
        given = {name.lower() for name in headers}
        if body is not None and "content-type" not in given:
            headers["Content-Type"] = kind
        if "accept" not in given:
            headers["Accept"] = "application/json, text/*;q=0.8"
        if traceparent and "traceparent" not in given:
            headers["traceparent"] = traceparent
        return _Request(tool.method, templates.fill_url(tool.url, values), headers, body)

    async def _fetch(self, request: _Request) -> tuple[aiohttp.ClientResponse, bytes]:
        for _ in range(MAX_REDIRECTS + 1):
            self._doorman.check_literal(urlsplit(request.url).hostname or "")
            try:
                async with self._session().request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=request.headers,
                    data=request.body,
                    allow_redirects=False,
                ) as response:
                    if response.status not in _REDIRECTS or "Location" not in response.headers:
                        return response, await self._read(response)
                    request = self._redirected(request, response)
            except (aiohttp.InvalidURL, ValueError):
                raise ToolFailed("the server sent us to an address that is none") from None
            except (aiohttp.ClientError, OSError) as error:
                # Not its text: that names addresses and certificates of ours.
                raise _Passing(f"the server cannot be reached ({_why(error)})") from None
        raise ToolFailed("the server sends us round and round")

    def _redirected(self, request: _Request, response: aiohttp.ClientResponse) -> _Request:
        url = urljoin(request.url, response.headers["Location"])
        place = urlsplit(url)
        if place.scheme not in _DEFAULT_PORTS or _host(url) not in self._hosts or place.username or place.password:
            raise ToolFailed("the server sent us to a host that this tool may not reach")
        if place.scheme == "http" and urlsplit(request.url).scheme == "https":
            raise ToolFailed("the server sent us from https to http")
        method, body, headers = request.method, request.body, dict(request.headers)
        if response.status == 303 or (response.status in {301, 302} and method == "POST"):
            method, body = ("HEAD" if method == "HEAD" else "GET"), None
            headers.pop("Content-Type", None)
        if _host(url) != _host(request.url):
            # What the operator wrote for one server is not for another: it may hold the secret.
            headers = {name: text for name, text in headers.items() if name in {"Accept", "Content-Type"}}
        return _Request(method, url, headers, body)

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            # No cookies: what one caller's answer sets must not go with another's request.
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=self._doorman, use_dns_cache=False, limit=50),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._tool.timeout_s),
                trust_env=False,
            )
        return self._http

    # --- and back

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._tool.max_bytes
        data = bytearray()
        async for chunk in response.content.iter_chunked(16_384):
            data += chunk
            if len(data) > limit:
                raise ToolFailed(f"the answer is longer than {limit} bytes")
        return bytes(data)

    def _bounded(self, response: aiohttp.ClientResponse, data: bytes) -> Answer:
        text = _decoded(data, response.charset)
        if response.status in _MAY_PASS:
            raise _Passing(f"the server answered {response.status} {response.reason}")
        if not 200 <= response.status < 300:
            told = f": {text[:_TOLD_CHARS]}" if text.strip() else ""
            raise ToolFailed(f"the server answered {response.status} {response.reason}{told}")
        if not text.strip() and self._pick is None:
            return Answer('{"ok": true}', len(data))
        try:
            whole = json.loads(text)
        except ValueError:
            if self._pick is not None:
                raise ToolFailed("the server's answer is no JSON") from None
            return Answer(self._without_secret(text), len(data))
        try:
            picked = whole if self._pick is None else self._pick.search(whole)
        except JMESPathError:
            raise ToolFailed("the server's answer is not of the form that was expected") from None
        if picked is None and self._pick is not None:
            raise ToolFailed("nothing of what was asked for is in the server's answer")
        return Answer(self._without_secret(json.dumps(picked, ensure_ascii=False)), len(data))

    def _without_secret(self, text: str) -> str:
        """Servers echo what they were sent."""
        secret = self._tool.secret.get_secret_value()
        if secret:
            for form in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]):
                text = text.replace(form, "***")
        return text


def _decoded(data: bytes, charset: str | None) -> str:
    try:
        return data.decode(charset or "utf-8", "replace")
    except LookupError:  # a server may name what it likes
        return data.decode("utf-8", "replace")


def _host(url: str) -> str:
    """As `allowed_hosts` has it: the port only where it is not the scheme's own."""
    place = urlsplit(url)
    host, port = (place.hostname or "").lower(), place.port
    return host if port in {None, _DEFAULT_PORTS.get(place.scheme)} else f"{host}:{port}"


def _why(error: Exception) -> str:
    match error:
        case asyncio.TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorDNSError():
            return "its name is unknown"
        case aiohttp.ClientSSLError():
            return "its certificate is not trusted"
        case aiohttp.ClientConnectorError() | ConnectionRefusedError():
            return "no connection"
        case _:
            return "the connection broke"
