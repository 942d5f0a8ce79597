"""``python3 -m pipelines.store_admin.setup store.yaml``: makes a MinIO server agree with its settings, and changes nothing where it does.

Environment:
    AWS_ENDPOINT_URL, AWS_REGION: Address of the server.
    MINIO_ROOT_USER, MINIO_ROOT_PASSWORD: The server's own keys, which nothing else uses.
    MINIO_USER_<NAME>_ACCESS_KEY, MINIO_USER_<NAME>_SECRET_KEY: Keys of every user of the settings.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider
from minio.error import MinioAdminException, MinioException, S3Error

from components.core.errors import ParameterError, StoreError, TutorLoopError
from pipelines.store_admin.buckets import set_up_buckets
from pipelines.store_admin.settings import StoreSettings, read_settings
from pipelines.store_admin.users import Keys, keys_of, set_up_users

PATIENCE_S = 300.0
PAUSE_S = 1.0
WRONG_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "XMinioAdminNoSuchUser")
UNREACHABLE = (urllib3.exceptions.HTTPError, OSError)


class Server:
    """A MinIO server and ways to talk to it.

    Args:
        environment: See the module.

    Raises:
        ParameterError: A variable is missing or wrong.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.endpoint = environment.get("AWS_ENDPOINT_URL", "")
        address = urlsplit(self.endpoint)
        if address.scheme not in ("http", "https") or not address.hostname or address.path.strip("/"):
            raise ParameterError("AWS_ENDPOINT_URL", self.endpoint, "the server's address, as http://minio.tutorloop:9000")
        for name in ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"):
            if not environment.get(name):
                raise ParameterError(name, "(not set)", "the server's own key, from the secret minio-root")
        self.root = Keys(environment["MINIO_ROOT_USER"], environment["MINIO_ROOT_PASSWORD"])
        self._host = address.netloc
        self._secure = address.scheme == "https"
        self._region = environment.get("AWS_REGION") or "us-east-1"
        # Requests of our own wait and say so; the library would try silently for minutes.
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=60), retries=False)

    def client(self, keys: Keys) -> Minio:
        """Somebody's client of S3."""
        return Minio(self._host, keys.access, keys.secret, secure=self._secure, region=self._region, http_client=self._pool)

    def admin(self) -> MinioAdmin:
        """The client of the administration."""
        provider = StaticProvider(self.root.access, self.root.secret)
        return MinioAdmin(endpoint=self._host, credentials=provider, secure=self._secure, http_client=self._pool)

    def accepts(self, keys: Keys) -> bool:
        """Whether the server knows these keys, whatever they may do."""
        try:
            self.client(keys).list_buckets()
        except S3Error as error:
            if error.code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
                return False
            if error.code != "AccessDenied":
                raise
        return True

    def wait(self, patience_s: float) -> None:
        """Wait until it answers.

        Args:
            patience_s: For so long, in seconds.

        Raises:
            StoreError: It does not answer, or refuses root's keys.
        """
        deadline = time.monotonic() + patience_s
        said = False
        while True:
            try:
                self.client(self.root).list_buckets()
                return
            except (MinioException, *UNREACHABLE) as error:
                if isinstance(error, S3Error) and error.code in WRONG_KEYS:
                    raise StoreError(
                        f"the server at {self.endpoint} refuses root's keys ({error.code})",
                        "MinIO keeps those it was started with: compare the secret minio-root with them, and restart MinIO after a change",
                    ) from error
                reason = f"{error.code}" if isinstance(error, S3Error) else type(error).__name__
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"no S3 server answers at {self.endpoint} after {patience_s:.0f} s ({reason})",
                        "look at the pod minio-0 in the namespace tutorloop, and at the network policy minio-setup",
                    ) from error
                if not said:
                    print(f"waiting for {self.endpoint} ({reason})", flush=True)
                    said = True
            time.sleep(PAUSE_S)


def set_up(server: Server, settings: StoreSettings, keys: Mapping[str, Keys], prune: bool) -> Iterator[str]:
    """Make buckets and users agree with the settings.

    Args:
        server: It answers.
        settings: What should be.
        keys: Keys of every user in the settings.
        prune: See set_up_users.

    Yields:
        What was changed.

    Raises:
        StoreError: The server refuses, or stopped to answer; what was done so far stays.
    """
    yield from _explained(server, lambda: set_up_buckets(server.client(server.root), settings))
    if settings.users:
        yield from _explained(server, lambda: set_up_users(server.admin(), server.accepts, settings, keys, prune))


def _explained(server: Server, steps: Callable[[], Iterator[str]]) -> Iterator[str]:
    try:
        yield from steps()
    except MinioAdminException as error:
        raise StoreError(
            f"the server at {server.endpoint} refuses: {error}", "see its log; is it MinIO, and are these root's keys?"
        ) from error
    except MinioException as error:
        raise StoreError(f"the store at {server.endpoint} refuses: {error}", "see its log, then run this again") from error
    except UNREACHABLE as error:
        raise StoreError(f"the store at {server.endpoint} stopped to answer ({error})", "run this again: what was done stays") from error


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and set up.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status: 0 when all agrees, 1 when the store refuses or does not answer, 2 for wrong settings.
    """
    parser = argparse.ArgumentParser(prog="setup_store", description="Make a MinIO server agree with its settings.")
    parser.add_argument("settings", type=Path, help="YAML file with buckets and users")
    parser.add_argument("--prune", action="store_true", help="remove users of ours whose access key is in use no more")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, metavar="SECONDS", help="wait so long for the server")
    chosen = parser.parse_args(arguments)
    changes = 0
    try:
        settings = read_settings(chosen.settings)
        server = Server(os.environ)
        keys = keys_of(list(settings.users), server.root, os.environ)
        server.wait(chosen.patience)
        for change in set_up(server, settings, keys, chosen.prune):
            print(change, flush=True)
            changes += 1
    except TutorLoopError as error:
        print(f"setup_store: {error}", file=sys.stderr)
        return 1 if isinstance(error, StoreError) else 2
    print(f"{changes} changes" if changes else "all as it should be, nothing changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
