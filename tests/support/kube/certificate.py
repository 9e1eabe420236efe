"""Makes the certificate and keys that a test run needs, and throws them away with it."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

_VALID = dt.timedelta(days=2)


def write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Make a private key on P-256 and write it to `path` as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    return key


def write_certificate(
    folder: Path,
    hosts: tuple[str, ...],
    *,
    loopback: bool = True,
    until: dt.datetime | None = None,
) -> tuple[Path, Path]:
    """Write a self-signed certificate for these names and 127.0.0.1; return it and its key.

    Not for 127.0.0.1 without `loopback`; it is valid until tomorrow unless `until` says otherwise.

    Whoever takes the certificate as its only root trusts exactly the server that has the key.
    """
    key = write_key(folder / "key.pem")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ollama-op tests")])
    names: list[x509.GeneralName] = [*map(x509.DNSName, hosts)]
    if loopback:
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(until or now + _VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path, folder / "key.pem"


def write_client(folder: Path, name: str, authority: Path, key: Path) -> tuple[Path, Path]:
    """Write the certificate of a client, signed by this authority; return it and its key."""
    own = write_key(folder / f"{name}.key")
    issuer = x509.load_pem_x509_certificate(authority.read_bytes())
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(now + _VALID)
        .add_extension(
            x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(load_pem_private_key(key.read_bytes(), None), hashes.SHA256())
    )
    path = folder / f"{name}.crt"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path, folder / f"{name}.key"
