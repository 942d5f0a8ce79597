"""The S3/MinIO backend of the store."""

from __future__ import annotations

import base64
import datetime
import email.utils
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from components.core.errors import StoreError
from components.core.store.base import S3_SCHEMES, Item, KeysRefusedError, MissingKeyError, Store, check_key, sha256_of
from components.core.store.http import Connections

T = TypeVar("T")

MISSING = ("NoSuchKey", "NoSuchObject", "ResourceNotFound")
NOT_ALLOWED = ("AccessDenied", "Forbidden")
WRONG_KEYS = (
    *NOT_ALLOWED,
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidTokenId",
    "ExpiredToken",
    "AuthorizationHeaderMalformed",
)
WRONG_CLOCK = ("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture")
SIGNED_FOR = datetime.timedelta(minutes=15)
"""As long as other requests are good for."""
LARGEST_SKEW_S = 900.0
"""What S3 allows between the clocks of client and server."""
FULL = ("XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "XMinioAdminBucketQuotaExceeded")
BROKEN_OFF = ("NoSuchUpload", "InvalidPart", "IncompleteBody", "RequestTimeout")
"""An upload of which the server lost a part, in a restart for example."""
TRANSFERS = 5
"""Times that a transfer is begun before it is given up."""
CONFLICTS = 20
"""Times that a conditional write is begun while another one of its key is under way."""
CONFLICT_S = 0.25
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
CHECKSUM = "sha256"
PART_BYTES = 16 << 20
MOST_PARTS = 10_000


class BeyondEndError(StoreError):
    """A part was asked for that begins where the value has ended."""


class S3Store(Store):
    """Objects of one bucket below one prefix. Each carries its SHA-256 in its metadata, which readers compare.

    Args:
        uri: ``s3://bucket`` or ``s3://bucket/prefix``.

    Raises:
        StoreError: The URI is malformed, the keys are not in the environment, there is no such bucket, or no server answers.
    """

    def __init__(self, uri: str) -> None:
        rest = uri[len(next(scheme for scheme in S3_SCHEMES if uri.startswith(scheme))) :]
        self.bucket, _, prefix = rest.partition("/")
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = uri
        if not self.bucket:
            raise StoreError(f"{uri!r} names no bucket", "give an address of the form s3://bucket/prefix")
        if not BUCKET.fullmatch(self.bucket):
            raise StoreError(
                f"{uri!r}: {self.bucket!r} cannot be the name of a bucket",
                "correct the address: 3 to 63 small letters, digits, dots, hyphens",
            )
        self.endpoint = os.environ.get("AWS_ENDPOINT_URL") or "https://s3.amazonaws.com"
        address = urlsplit(self.endpoint if "://" in self.endpoint else f"https://{self.endpoint}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if not os.environ.get(name):
                raise StoreError(
                    f"{uri}: the environment variable {name} is not set", "set the store's keys (in a cluster: the secret of the namespace)"
                )
        self._connections = Connections(self.endpoint)
        try:
            self._client = Minio(
                address.netloc,
                access_key=os.environ["AWS_ACCESS_KEY_ID"],
                secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
                session_token=os.environ.get("AWS_SESSION_TOKEN") or None,
                secure=address.scheme == "https",
                region=os.environ.get("AWS_REGION") or "us-east-1",
                http_client=self._connections,
            )
        except ValueError as error:
            raise StoreError(
                f"AWS_ENDPOINT_URL = {self.endpoint!r} is not the address of a server: {error}", "write it as https://host:port"
            ) from error
        self._require_bucket()

    def read(self, key: str) -> bytes:
        value = io.BytesIO()
        self._receive(key, value)
        return value.getvalue()

    def read_range(self, key: str, offset: int, length: int | None = None) -> bytes:
        """As :meth:`Store.read_range`. The checksum is that of the whole object, and cannot be compared."""
        name = self._name(key)

        def receive() -> bytes:
            response = self._client.get_object(bucket_name=self.bucket, object_name=name, offset=offset, length=length or 0)
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        try:
            return self._do(key, receive) if length != 0 else b""
        except BeyondEndError:
            return b""

    def write(self, key: str, data: bytes) -> None:
        name, metadata = self._name(key), {CHECKSUM: hashlib.sha256(data).hexdigest()}
        self._do(
            key,
            lambda: self._client.put_object(
                bucket_name=self.bucket, object_name=name, data=io.BytesIO(data), length=len(data), metadata=metadata
            ),
            writing=True,
        )

    def create(self, key: str, data: bytes) -> bool:
        """As :meth:`Store.create`, by a PUT with ``If-None-Match: *``, which minio's own call cannot send.

        Nor can it sign metadata for it: the server checks what arrives by its MD5.
        """
        name = self._name(key)
        headers = {"If-None-Match": "*", "Content-MD5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()}

        def put() -> urllib3.BaseHTTPResponse:
            address = self._client.get_presigned_url("PUT", bucket_name=self.bucket, object_name=name, expires=SIGNED_FOR)
            return self._connections.request("PUT", address, body=data, headers=headers)

        repeated = False
        for _ in range(CONFLICTS):
            response = self._do(key, put, writing=True)
            repeated = repeated or bool(response.retries and response.retries.history)
            if response.status != 409:
                break
            # Another conditional write of this key is under way: ours, when its answer was lost, or one that may still fail.
            time.sleep(CONFLICT_S)
        if response.status == 200:
            return True
        if response.status == 412:
            # An attempt whose answer was lost may have been ours.
            return repeated and self.read(key) == data
        code = re.search(rb"<Code>(\w+)</Code>", response.data)
        raise self._explain(code[1].decode() if code else f"HTTP {response.status}", "a conditional write was refused", response, key, True)

    def exists(self, key: str) -> bool:
        name = self._name(key)
        try:
            self._do(key, lambda: self._client.stat_object(bucket_name=self.bucket, object_name=name))
        except MissingKeyError:
            return False
        return True

    def items(self, prefix: str = "") -> Iterator[Item]:
        def listed() -> list[Item]:
            found = self._client.list_objects(bucket_name=self.bucket, prefix=self.prefix + prefix, recursive=True)
            items = (
                Item(str(item.object_name)[len(self.prefix) :], int(item.size), item.last_modified.timestamp())
                for item in found
                if not item.is_dir
            )
            return sorted(items, key=lambda item: item.key)

        return iter(self._do(prefix, listed))

    def delete(self, key: str) -> None:
        name = self._name(key)
        self._do(key, lambda: self._client.remove_object(bucket_name=self.bucket, object_name=name), writing=True)

    def _upload_file(self, source: Path, key: str) -> None:
        name, metadata = self._name(key), {CHECKSUM: sha256_of(source)}
        part_size = max(PART_BYTES, -(-source.stat().st_size // MOST_PARTS))
        self._do(
            key,
            lambda: self._client.fput_object(
                bucket_name=self.bucket, object_name=name, file_path=str(source), metadata=metadata, part_size=part_size
            ),
            writing=True,
        )

    def _download_file(self, key: str, target: Path) -> None:
        with target.open("wb") as handle:
            self._receive(key, handle)

    def _receive(self, key: str, target: BinaryIO) -> None:
        """Write an object to ``target``, from its beginning at every attempt, and compare its checksum."""
        name = self._name(key)

        def receive() -> tuple[str, str | None]:
            target.seek(0)
            target.truncate()
            digest = hashlib.sha256()
            response = self._client.get_object(bucket_name=self.bucket, object_name=name)
            try:
                for block in response.stream(1 << 20):
                    target.write(block)
                    digest.update(block)
            finally:
                response.close()
                response.release_conn()
            return digest.hexdigest(), response.headers.get(f"x-amz-meta-{CHECKSUM}")

        found, promised = self._do(key, receive)
        if promised not in (None, found):
            raise StoreError(
                f"{self.uri}: {key} is damaged: its SHA-256 is {found}, stored was {promised}",
                "delete it, so that it is made again, or put an intact copy in its place",
            )

    def _require_bucket(self) -> None:
        """Some servers make a bucket at the first write: a mistyped name must not pass unseen."""
        try:
            missing = not self._do("", lambda: self._client.bucket_exists(bucket_name=self.bucket))
        except KeysRefusedError:
            # Keys that may write below a prefix need not be allowed to ask for the bucket.
            return
        if missing:
            raise self._explain("NoSuchBucket", "", None, "")

    def _name(self, key: str) -> str:
        check_key(key)
        return self.prefix + key

    def _do(self, key: str, operation: Callable[[], T], writing: bool = False) -> T:
        """Run an operation, again from its beginning when a transfer broke off; its failure is a StoreError that says who must act.

        Single requests are repeated below, by the connections.
        """
        begun = 0
        while True:
            begun += 1
            try:
                return operation()
            except (urllib3.exceptions.HTTPError, MinioException, ValueError) as error:
                if begun == TRANSFERS or not _broke_off(error):
                    raise self._failure(error, key, writing) from None
            time.sleep(0.2 * begun)

    def _failure(self, error: Exception, key: str, writing: bool) -> StoreError:
        if isinstance(error, S3Error):
            return self._explain(str(error.code), str(error.message), error.response, key, writing)
        reason = _reason(error)
        if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER_FAILURE" in reason:
            return StoreError(
                f"{self.uri}: the server at {self.endpoint} does not speak TLS", "write http:// in AWS_ENDPOINT_URL, or the port of https"
            )
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return StoreError(
                f"{self.uri}: the certificate of {self.endpoint} is not trusted ({reason})",
                "name the file of the authority that signed it in SSL_CERT_FILE",
            )
        if isinstance(error, urllib3.exceptions.HTTPError):
            return StoreError(
                f"{self.uri}: the store at {self.endpoint} cannot be reached ({reason})",
                "check AWS_ENDPOINT_URL (http:// or https://, host, port) and that the server runs, then run again; finished work is kept",
            )
        return self._no_s3_server(reason)

    def _explain(self, code: str, message: str, response: urllib3.BaseHTTPResponse | None, key: str, writing: bool = False) -> StoreError:
        status = response.status if response else 0
        if code == "NoSuchBucket":
            return StoreError(
                f"{self.uri}: there is no bucket {self.bucket!r} at {self.endpoint}", "make the bucket, or correct the address of the store"
            )
        if code in MISSING:
            return MissingKeyError(f"{self.uri}: there is nothing under {key!r}")
        if code == "InvalidRange":
            return BeyondEndError(f"{self.uri}: {key} ends earlier")
        # The answer to a HEAD request has no body, so that it names no cause.
        skew = _clock_skew_s(response.headers) if response and status == 403 else 0.0
        if code in WRONG_CLOCK or abs(skew) > LARGEST_SKEW_S:
            return StoreError(
                f"{self.uri}: the store at {self.endpoint} refuses requests of this machine, whose clock is {abs(skew) / 60:.0f} minutes "
                f"{'ahead of' if skew > 0 else 'behind'} the server's",
                "set this machine's clock, or the server's",
            )
        if writing and code in NOT_ALLOWED and self._may_read():
            return KeysRefusedError(
                f"{self.uri}: these keys may read from the store at {self.endpoint}, but not change it ({code}, {key!r})",
                "let the owner of the bucket allow these keys to write and to delete, or set other keys",
            )
        if code in WRONG_KEYS:
            return KeysRefusedError(
                f"{self.uri}: the store at {self.endpoint} refuses these keys ({code})",
                "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may use this bucket",
            )
        if code in FULL:
            return StoreError(
                f"{self.uri}: the store is full ({code})", "free space or raise the quota, then run again; finished work is kept"
            )
        if code == "BadRequest":
            return self._no_s3_server("HTTP 400")
        if status >= 500:
            return StoreError(
                f"{self.uri}: the store at {self.endpoint} keeps failing ({code}: {message})",
                "see that its disk is not full and look at that server's log, then run again; finished work is kept",
            )
        return StoreError(f"{self.uri}: {code}: {message}")

    def _no_s3_server(self, reason: str) -> StoreError:
        """Servers that expect TLS answer plain requests in plain HTTP, with 400."""
        return StoreError(
            f"{self.uri}: what answers at {self.endpoint} is no S3 server, or it expects https:// ({reason})",
            "check AWS_ENDPOINT_URL (http:// or https://, host, port)",
        )

    def _may_read(self) -> bool:
        try:
            self._client.bucket_exists(bucket_name=self.bucket)
        except (urllib3.exceptions.HTTPError, MinioException):
            return False
        return True


def _broke_off(error: Exception) -> bool:
    if isinstance(error, S3Error):
        return error.code in BROKEN_OFF
    return isinstance(error, urllib3.exceptions.HTTPError) and not isinstance(error, urllib3.exceptions.MaxRetryError)


def _clock_skew_s(headers: Mapping[str, str]) -> float:
    """Seconds that this machine's clock is ahead of the server's; 0 when the server does not tell its time."""
    served = email.utils.parsedate_to_datetime(headers["Date"]) if "Date" in headers else None
    return time.time() - served.timestamp() if served else 0.0


def _reason(error: BaseException) -> str:
    """The innermost cause, without addresses of Python objects."""
    cause: BaseException = error
    while isinstance(inner := getattr(cause, "reason", None), BaseException):
        cause = inner
    return str(cause).rpartition(">: ")[2] or type(cause).__name__
