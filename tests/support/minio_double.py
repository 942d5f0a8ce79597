"""A double of MinIO's administration in front of a real S3 server: users and policies are its own, root's requests to S3 go through.

It checks every signature, and encrypts and decrypts as MinIO does (cmd/admin-handlers-users.go of RELEASE.2025-09-07), and refuses the
policies that MinIO refuses. What it leaves out: groups, service accounts, and asking a policy whether a user may do something.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import urllib3
from minio.credentials import Credentials
from minio.crypto import decrypt, encrypt
from minio.signer import sign_v4_s3

from tests.support.minio_policies import refusal

ADMINISTRATION = "/minio/admin/v3/"
BUILT_IN = {"readonly": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["*"]}]}}


class MinioDouble:
    """The server's state.

    Args:
        s3: Address of the real S3 server, ``host:port``.
        root: Access and secret key, known to the S3 server as well.
        starting: Whether it is not ready yet.

    Attributes:
        endpoint: Where it listens, ``http://host:port``.
        users: Access key to ``secretKey``, ``status`` and ``policyName``.
        policies: Name to document.
        changes: Every command that changed something.
        starting: Whether it answers as a server does that is not ready yet.
        refused: Set once it has given such an answer.
    """

    def __init__(self, s3: str, root: tuple[str, str], starting: bool = False) -> None:
        self.s3 = s3
        self.root = root
        self.endpoint = ""
        self.users: dict[str, dict[str, str]] = {}
        self.policies: dict[str, Any] = dict(BUILT_IN)
        self.changes: list[str] = []
        self.starting = starting
        self.refused = threading.Event()

    def secret_of(self, access_key: str) -> str | None:
        """Of root, or of a user who is enabled."""
        if access_key == self.root[0]:
            return self.root[1]
        user = self.users.get(access_key)
        return user["secretKey"] if user and user["status"] == "enabled" else None

    def administer(self, command: str, query: dict[str, str], body: bytes) -> bytes | tuple[int, str, str]:
        """Do a command of root's; gives an answer, or a status with the code and the message of an error."""
        if command == "list-canned-policies":
            return json.dumps(self.policies).encode()
        if command == "list-users":
            facts = {key: {name: value for name, value in user.items() if name != "secretKey"} for key, user in self.users.items()}
            return bytes(encrypt(json.dumps(facts).encode(), self.root[1]))
        if command == "add-canned-policy" and (reason := refusal(json.loads(body))):
            return 400, "XMinioMalformedIAMPolicy", reason
        self.changes.append(command)
        if command == "add-canned-policy":
            self.policies[query["name"]] = _in_an_order_of_its_own(json.loads(body))
            return b""
        access_key = query.get("accessKey") or query["userOrGroup"]
        if command == "add-user":
            if access_key == self.root[0]:
                return 400, "XMinioAdminAddUserInvalidArgument", ""
            request = json.loads(decrypt(urllib3.HTTPResponse(body=io.BytesIO(body), preload_content=False), self.root[1]))
            self.users[access_key] = {"policyName": "", **self.users.get(access_key, {}), **request}
            return b""
        if access_key not in self.users:
            return 404, "XMinioAdminNoSuchUser", ""
        if command == "remove-user":
            del self.users[access_key]
            return b""
        assert command == "set-user-or-group-policy", command
        if query["policyName"] not in self.policies:
            return 404, "XMinioAdminNoSuchPolicy", ""
        self.users[access_key]["policyName"] = query["policyName"]
        return b""


def _in_an_order_of_its_own(document: Any) -> Any:
    """Actions and resources are sets to MinIO."""
    for statement in document["Statement"]:
        for key in ("Action", "Resource"):
            statement[key] = sorted(statement[key], reverse=True)
    return document


class _Handler(BaseHTTPRequestHandler):
    double: MinioDouble
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        if self.double.starting:
            self._answer(503, _error("XMinioServerNotInitialized"))
            self.double.refused.set()
            return
        refused, access_key = self._refused()
        if refused:
            self._answer(403, _error(refused))
        elif address.path.startswith(ADMINISTRATION):
            if access_key != self.double.root[0]:
                self._answer(403, json.dumps({"Code": "AccessDenied"}).encode())
                return
            query = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
            result = self.double.administer(address.path.removeprefix(ADMINISTRATION), query, body)
            if isinstance(result, bytes):
                self._answer(200, result)
            else:
                self._answer(result[0], json.dumps({"Code": result[1], "Message": result[2]}).encode())
        elif access_key == self.double.root[0]:
            self._pass_on(body)
        else:
            self._answer(403, _error("AccessDenied"))

    def _refused(self) -> tuple[str, str]:
        authorization = self.headers.get("Authorization", "")
        if not authorization.startswith("AWS4-HMAC-SHA256"):
            return "AccessDenied", ""
        parts = dict(part.strip().split("=", 1) for part in authorization.removeprefix("AWS4-HMAC-SHA256").split(","))
        access_key, _, region, *_ = parts["Credential"].split("/")
        secret = self.double.secret_of(access_key)
        if secret is None:
            return "InvalidAccessKeyId", access_key
        signed = {name: self.headers[name] for name in parts["SignedHeaders"].split(";")}
        again = sign_v4_s3(
            method=self.command,
            url=urlsplit(f"http://{self.headers['Host']}{self.path}"),
            region=region,
            headers={name.title(): value for name, value in signed.items()},
            credentials=Credentials(access_key, secret),
            content_sha256=self.headers["x-amz-content-sha256"],
            date=datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        )["Authorization"]
        return ("" if again == authorization else "SignatureDoesNotMatch"), access_key

    def _pass_on(self, body: bytes) -> None:
        connection = HTTPConnection(self.double.s3, timeout=60)
        connection.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
        response = connection.getresponse()
        self._answer(response.status, response.read())
        connection.close()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle


def _error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message><RequestId>1</RequestId></Error>".encode()


@contextmanager
def running(s3: str, root: tuple[str, str], port: int = 0, starting: bool = False) -> Iterator[MinioDouble]:
    """A double for the time of the block."""
    double = MinioDouble(s3, root, starting)
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"double": double}))
    double.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
