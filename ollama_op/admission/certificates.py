"""Makes the certificates of the admission webhook, and knows when others are due. Pure.

Only an operator that serves the webhook imports this. (kr8s imports the library as well, so what
that saves is small.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE: Final = timedelta(days=365)
AUTHORITY_SPARE: Final = timedelta(days=30)  # with less than this left, there is a new one
LEAF_LIFE: Final = timedelta(days=7)
LEAF_SPARE: Final = timedelta(days=3)
SKEW: Final = timedelta(hours=1)  # by which another machine's clock may be behind
CA_NAME: Final = "ollama-op webhook"

PrivateKey = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class CertBundle:
    """A set of certificates and keys, all as PEM.

    `authorities` begins with the one that signs; after it come those before it that still count,
    because a replica may serve for a while what they have signed.
    """

    authorities: bytes
    authority_key: bytes
    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: PrivateKey


def renewed(held: CertBundle | None, hosts: Sequence[str], now: datetime) -> CertBundle:
    """Return `held` itself while it is good for a while yet, else what takes its place.

    What cannot be read, belongs to other hosts or does not fit together is replaced, too.
    """
    known = _certificates(held.authorities) if held else []
    authority = _authority(held, known, now) if held else None
    if held and authority and _is_good(held, authority, hosts, now):
        return held
    authorities = [each for each in known if each.not_valid_after_utc > now]
    if authority is None:
        authority = _new_authority(now)
        authorities.insert(0, authority.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign_leaf(authority, key.public_key(), hosts, now)
    return CertBundle(
        authorities=b"".join(each.public_bytes(Encoding.PEM) for each in authorities),
        authority_key=_pem(authority.key),
        certificate=certificate.public_bytes(Encoding.PEM),
        key=_pem(key),
    )


def is_broken(held: CertBundle) -> bool:
    """Return True if these cannot be used at all, rather than only not for long or not by us."""
    pairs = ((held.authorities, held.authority_key), (held.certificate, held.key))
    for pem, secret in pairs:
        certificates, key = _certificates(pem), _key(secret)
        if key is None or not certificates or certificates[0].public_key() != key.public_key():
            return True
    return False


def expires_at(held: CertBundle) -> datetime:
    """Return when the certificate of these ends."""
    return x509.load_pem_x509_certificate(held.certificate).not_valid_after_utc


def end_of(certificate: bytes) -> datetime | None:
    """Return when the first certificate of a PEM ends, if that can be read."""
    found = _certificates(certificate)
    return found[0].not_valid_after_utc if found else None


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(pem)
        # Read here, because what of a certificate is of a kind unknown shows only then.
        return [each for each in found if each.public_key() and each.extensions]
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        return []


def _key(pem: bytes) -> PrivateKey | None:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, PrivateKey) else None


def _authority(held: CertBundle, known: list[x509.Certificate], now: datetime) -> _Authority | None:
    """Return who signs, if that one can go on for a while."""
    key = _key(held.authority_key)
    if key is None or not known or known[0].public_key() != key.public_key():
        return None
    if known[0].not_valid_after_utc - now < AUTHORITY_SPARE:
        return None
    return _Authority(known[0], key)


def _is_good(held: CertBundle, authority: _Authority, hosts: Sequence[str], now: datetime) -> bool:
    """Return True if the certificate can be served for a while yet."""
    key, certificates = _key(held.key), _certificates(held.certificate)
    if key is None or not certificates or certificates[0].public_key() != key.public_key():
        return False
    leaf = certificates[0]
    try:
        leaf.verify_directly_issued_by(authority.certificate)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    # More names are those of another version; each would otherwise write its own, for ever.
    return leaf.not_valid_after_utc - now >= LEAF_SPARE and set(names) >= set(_names(hosts))


def _new_authority(now: datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # The month keeps two that are trusted at the same time apart for whoever reads them.
    name = _subject(f"{CA_NAME} CA {now:%Y-%m}")
    builder = _begin(name, name, key.public_key(), now, AUTHORITY_LIFE)
    return _Authority(_finish(builder, key, key.public_key(), is_authority=True), key)


def _sign_leaf(
    authority: _Authority, key: ec.EllipticCurvePublicKey, hosts: Sequence[str], now: datetime
) -> x509.Certificate:
    builder = (
        _begin(_subject(CA_NAME), authority.certificate.subject, key, now, LEAF_LIFE)
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return _finish(builder, authority.key, key, is_authority=False)


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
    )


def _finish(
    builder: x509.CertificateBuilder,
    signer: PrivateKey,
    key: ec.EllipticCurvePublicKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    """Write what the key is for and whose it is, and sign it."""
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    constraints = x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None)
    return (
        builder.add_extension(constraints, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(issuer, critical=False)
        .sign(signer, SHA256())
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [_name(host) for host in hosts]


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
