"""Loads a certificate and its private key. OpenSSL reads them from files only.

The file is in memory and has no name, where the system can do that: nobody else can open it, and
none stays if the process is killed.
"""

import os
import ssl
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load a certificate chain and its key, both PEM.

    Raises: ssl.SSLError; the key must not be encrypted.
    """
    with _file(key + b"\n" + certificate) as path:
        # Without a function, OpenSSL would ask for a password on the terminal.
        context.load_cert_chain(path, password=lambda: b"")


@contextmanager
def _file(content: bytes) -> Generator[str]:
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with os.fdopen(os.memfd_create("pem", os.MFD_CLOEXEC), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.TemporaryDirectory(prefix="ollama-op-") as folder:  # only its owner may enter
        path = Path(folder) / "pem"
        path.write_bytes(content)
        yield str(path)
