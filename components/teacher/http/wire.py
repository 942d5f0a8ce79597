"""HTTP requests to one origin: aiohttp's connections, TLS, proxies and parser, without its client session.

What a session does for each request (merging headers and cookies, timers, a task that writes the body) is most of its cost, and the
same every time here. So a request's head is made once, and goes out with the body in one write.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
import urllib.request
import warnings
import weakref
from collections.abc import Mapping
from functools import cache

import aiohttp
import certifi
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from yarl import URL

from components.core.errors import TeacherError
from components.core.redaction import redact
from components.teacher.http.failures import KEY_HINT, HttpReply

STALE_S = 0.5
"""A kept connection that is closed within this time of a request was closed before it: later, the server was at work on it."""

PROBES = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A connection on which nothing comes for so many seconds is probed, every so many seconds, so many times."""

IDLE_S = 30.0
"""A connection that has been idle for longer is not used again: what lies between may have forgotten it."""


class StaleConnection(Exception):
    """The server had closed a kept connection, most likely before it saw the request: to be sent again, on another one."""


class Wire:
    """A pool of connections to one origin. To be made where an event loop runs.

    Args:
        origin: Any address at it.
        headers: Headers of every request.
        connections: Most at once.
        connect_s: Longest time for a connection to come about.

    Raises:
        TeacherError: A header that would break the request: a key with a line break.
    """

    def __init__(self, origin: URL, headers: Mapping[str, str], connections: int, connect_s: float) -> None:
        proxy, proxy_auth = _proxy(origin)
        self._through_proxy = proxy is not None and origin.scheme == "http"
        headers = {"Host": origin.host_port_subcomponent or "", "Accept-Encoding": "gzip, deflate", **headers}
        if self._through_proxy and proxy_auth is not None:
            headers["Proxy-Authorization"] = proxy_auth.encode()
        for name, value in headers.items():
            if not value.isprintable():
                raise TeacherError(f"the header {name} would hold a line break or another control character", KEY_HINT)
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        self._pool = aiohttp.TCPConnector(
            limit=connections, keepalive_timeout=IDLE_S, ssl=_certificates() if origin.scheme == "https" else True
        )
        # What the pool takes from a request (host, port, proxy) is the same for all of them.
        self._any_request = ClientRequest(
            "POST", origin, loop=asyncio.get_running_loop(), proxy=proxy, proxy_auth=proxy_auth, headers={"Host": headers["Host"]}
        )
        self._used: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    def head(self, method: str, url: URL) -> str:
        """First lines of a request, to be made once for each address.

        Args:
            method: ``GET`` or ``POST``.
            url: At the origin.
        """
        target = str(url) if self._through_proxy else url.raw_path_qs
        return f"{method} {target} HTTP/1.1\r\n{self._headers}"

    async def send(self, head: str, body: bytes) -> HttpReply:
        """Send a request and read the whole response. Redirects are not followed: a key is for the host that it was given for.

        Args:
            head: From :meth:`head`.
            body: The body.

        Returns:
            The response.

        Raises:
            StaleConnection: Nothing was wrong but that the connection was an old one.
            aiohttp.ClientError: There is no connection, or it broke off.
            aiohttp.http_exceptions.HttpProcessingError: The response is no HTTP.
        """
        connection = await self._pool.connect(self._any_request, [], self._timeout)
        try:
            reply = await self._exchange(connection, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        except BaseException:
            connection.close()
            raise
        connection.release()
        return reply

    async def _exchange(self, connection: Connection, message: bytes) -> HttpReply:
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        kept, started = protocol in self._used, time.monotonic()
        try:
            if transport is None:
                raise aiohttp.ServerDisconnectedError
            if not kept:
                _watch(transport)
                self._used.add(protocol)
            protocol.set_response_params(read_until_eof=True)
            transport.write(message)
            start, content = await protocol.read()
            while start.code < 200:
                start, content = await protocol.read()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if kept and time.monotonic() - started < STALE_S:
                raise StaleConnection from error
            raise
        return HttpReply(start.code, start.reason, start.headers, await content.read())


def _watch(transport: asyncio.Transport) -> None:
    """Let the system find out when the other end is gone without a word: else that is a slow reply until the attempt's time is over."""
    socket_ = transport.get_extra_info("socket")
    if socket_ is not None:
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in PROBES.items():
            if hasattr(socket, name):
                socket_.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: it takes a few tenths of a second."""
    folder = os.environ.get("SSL_CERT_DIR")
    file = os.environ.get("SSL_CERT_FILE") or (None if folder else certifi.where())
    return ssl.create_default_context(cafile=file, capath=folder)


def _proxy(url: URL) -> tuple[URL | None, aiohttp.BasicAuth | None]:
    """The proxy that the environment names for an address, and its credentials."""
    proxies = urllib.request.getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None, None
    proxy = URL(address if "://" in address else f"http://{address}")
    if proxy.scheme not in ("http", "https"):
        raise TeacherError(
            f"the proxy of the environment ({redact(str(proxy))}) is no HTTP proxy",
            "name an HTTP proxy in HTTPS_PROXY, or unset ALL_PROXY, or name the endpoint's host in NO_PROXY",
        )
    with warnings.catch_warnings():
        # The form that replaces it does not reach the pool.
        warnings.simplefilter("ignore", DeprecationWarning)
        auth = aiohttp.BasicAuth(proxy.user, proxy.password or "") if proxy.user else None
    return proxy.with_user(None), auth
