"""The S3/MinIO backend of the store."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from components.core.errors import StoreError
from components.core.store import S3_SCHEMES, MissingKeyError, Store, check_key

MISSING = ("NoSuchKey", "NoSuchObject", "ResourceNotFound")
WRONG_KEYS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "InvalidTokenId",
    "ExpiredToken",
    "Forbidden",
    "AuthorizationHeaderMalformed",
)
FULL = ("XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "XMinioAdminBucketQuotaExceeded")


class KeysRefusedError(StoreError):
    """The server does not let these keys do this."""


class S3Store(Store):
    """Objects of one bucket below one prefix.

    Args:
        uri: ``s3://bucket`` or ``s3://bucket/prefix``.

    Raises:
        StoreError: The URI is malformed or the keys are not in the environment.
    """

    def __init__(self, uri: str) -> None:
        rest = uri[len(next(scheme for scheme in S3_SCHEMES if uri.startswith(scheme))) :]
        self.bucket, _, prefix = rest.partition("/")
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = uri
        if not self.bucket:
            raise StoreError(f"{uri!r} names no bucket", "give an address of the form s3://bucket/prefix")
        self.endpoint = os.environ.get("AWS_ENDPOINT_URL") or "https://s3.amazonaws.com"
        address = urlsplit(self.endpoint if "://" in self.endpoint else f"https://{self.endpoint}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if not os.environ.get(name):
                raise StoreError(
                    f"{uri}: the environment variable {name} is not set", "set the store's keys (in a cluster: the secret of the namespace)"
                )
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=5, read=120),
            maxsize=32,
            cert_reqs="CERT_REQUIRED",
            ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
            retries=urllib3.Retry(total=4, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
        )
        try:
            self._client = Minio(
                address.netloc,
                access_key=os.environ["AWS_ACCESS_KEY_ID"],
                secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
                session_token=os.environ.get("AWS_SESSION_TOKEN") or None,
                secure=address.scheme == "https",
                region=os.environ.get("AWS_REGION") or "us-east-1",
                http_client=self._pool,
            )
        except ValueError as error:
            raise StoreError(
                f"AWS_ENDPOINT_URL = {self.endpoint!r} is not the address of a server: {error}", "write it as https://host:port"
            ) from error
        self._require_bucket()

    def read(self, key: str) -> bytes:
        with self._errors(key):
            response = self._client.get_object(bucket_name=self.bucket, object_name=self._name(key))
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

    def write(self, key: str, data: bytes) -> None:
        with self._errors(key):
            self._client.put_object(bucket_name=self.bucket, object_name=self._name(key), data=io.BytesIO(data), length=len(data))

    def create(self, key: str, data: bytes) -> bool:
        """As :meth:`Store.create`, by a PUT with ``If-None-Match: *``, which minio's own call cannot send."""
        with self._errors(key):
            address = self._client.get_presigned_url("PUT", bucket_name=self.bucket, object_name=self._name(key))
            response = self._pool.request("PUT", address, body=data, headers={"If-None-Match": "*"})
        if response.status == 200:
            return True
        # 409 is AWS's answer when another conditional write of this key is under way.
        if response.status in (409, 412):
            # An attempt whose answer was lost may have been ours.
            return bool(response.retries and response.retries.history) and self.read(key) == data
        code = re.search(rb"<Code>(\w+)</Code>", response.data)
        raise self._explain(code[1].decode() if code else f"HTTP {response.status}", "a conditional write was refused", key)

    def exists(self, key: str) -> bool:
        try:
            with self._errors(key):
                self._client.stat_object(bucket_name=self.bucket, object_name=self._name(key))
        except MissingKeyError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        with self._errors(prefix):
            found = self._client.list_objects(bucket_name=self.bucket, prefix=self.prefix + prefix, recursive=True)
            return iter(sorted(str(item.object_name)[len(self.prefix) :] for item in found if not item.is_dir))

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._client.remove_object(bucket_name=self.bucket, object_name=self._name(key))

    def _upload_file(self, source: Path, key: str) -> None:
        with self._errors(key):
            self._client.fput_object(bucket_name=self.bucket, object_name=self._name(key), file_path=str(source))

    def _download_file(self, key: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._errors(key):
            self._client.fget_object(bucket_name=self.bucket, object_name=self._name(key), file_path=str(target))

    def _require_bucket(self) -> None:
        """Some servers make a bucket at the first write: a mistyped name must not pass unseen."""
        try:
            with self._errors(""):
                missing = not self._client.bucket_exists(bucket_name=self.bucket)
        except KeysRefusedError:
            # Keys that may write below a prefix need not be allowed to ask for the bucket.
            return
        if missing:
            raise self._explain("NoSuchBucket", "", "")

    def _name(self, key: str) -> str:
        check_key(key)
        return self.prefix + key

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Turn every failure of the client into a StoreError that says who must act."""
        try:
            yield
        except S3Error as error:
            raise self._explain(str(error.code), str(error.message), key) from None
        except urllib3.exceptions.HTTPError as error:
            if isinstance(getattr(error, "reason", None), urllib3.exceptions.ResponseError):
                raise StoreError(
                    f"{self.uri}: the store at {self.endpoint} keeps failing ({_reason(error)})", "look at that server's log"
                ) from None
            raise StoreError(
                f"{self.uri}: the store at {self.endpoint} cannot be reached ({_reason(error)})",
                "check AWS_ENDPOINT_URL (http:// or https://, host, port) and that the server runs",
            ) from None
        except (InvalidResponseError, ServerError, MinioException, ValueError) as error:
            raise StoreError(
                f"{self.uri}: what answers at {self.endpoint} is no S3 server, or it is failing ({error})", "check AWS_ENDPOINT_URL"
            ) from None

    def _explain(self, code: str, message: str, key: str) -> StoreError:
        if code == "NoSuchBucket":
            return StoreError(
                f"{self.uri}: there is no bucket {self.bucket!r} at {self.endpoint}", "make the bucket, or correct the address of the store"
            )
        if code in MISSING:
            return MissingKeyError(f"{self.uri}: there is nothing under {key!r}")
        if code in WRONG_KEYS:
            return KeysRefusedError(
                f"{self.uri}: the store at {self.endpoint} refuses these keys ({code})",
                "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they may use this bucket",
            )
        if code in FULL:
            return StoreError(
                f"{self.uri}: the store is full ({code})", "free space or raise the quota, then run again; finished work is kept"
            )
        return StoreError(f"{self.uri}: {code}: {message}")


def _reason(error: BaseException) -> str:
    """The innermost cause, without addresses of Python objects."""
    cause: BaseException = error
    while isinstance(inner := getattr(cause, "reason", None), BaseException):
        cause = inner
    return str(cause).rpartition(">: ")[2] or type(cause).__name__
