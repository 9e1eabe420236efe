"""Makes the certificate and keys that a test run needs, and throws them away with it."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_VALID = dt.timedelta(days=2)


def write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Make a private key on P-256 and write it to `path` as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    return key


def write_certificate(folder: Path, hosts: tuple[str, ...]) -> tuple[Path, Path]:
    """Write a self-signed certificate for these names and 127.0.0.1; return it and its key.

    Whoever takes the certificate as its only root trusts exactly the server that has the key.
    """
    key = write_key(folder / "key.pem")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ollama-op tests")])
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(now + _VALID)
        .add_extension(
            x509.SubjectAlternativeName([*map(x509.DNSName, hosts), loopback]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path, folder / "key.pem"
