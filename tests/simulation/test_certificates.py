import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509 import verification

from ollama_op.admission.certificates import (
    AUTHORITY_LIFE,
    AUTHORITY_SPARE,
    LEAF_LIFE,
    LEAF_SPARE,
    CertBundle,
    expires_at,
    is_broken,
    renewed,
)

HOSTS = ("ollama-op-webhook.ollama-op-system.svc", "localhost", "127.0.0.1")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def is_trusted(held: CertBundle, at: datetime, *, by: bytes = b"", host: str = HOSTS[0]) -> bool:
    """Return True if a client that trusts `by`, or the set's own authorities, accepts the leaf."""
    roots = x509.load_pem_x509_certificates(by or held.authorities)
    verifier = verification.PolicyBuilder().store(verification.Store(roots)).time(at)
    try:
        verifier.build_server_verifier(x509.DNSName(host)).verify(
            x509.load_pem_x509_certificate(held.certificate), []
        )
    except verification.VerificationError:
        return False
    return True


def life(
    held: CertBundle, until: datetime, step: timedelta
) -> Iterator[tuple[datetime, CertBundle, CertBundle]]:
    """Look every `step`, as the operator does; yield the time and the set before and after."""
    at = NOW
    while (at := at + step) < until:
        before, held = held, renewed(held, HOSTS, at)
        yield at, before, held


def test_a_new_set_is_accepted_for_its_hosts_only(tmp_path):
    """Whoever trusts the authority accepts it for the Service; and OpenSSL can serve it."""
    held = renewed(None, HOSTS, NOW)
    assert is_trusted(held, NOW)
    assert not is_trusted(held, NOW, host="elsewhere.svc")
    assert not is_trusted(held, NOW, by=renewed(None, HOSTS, NOW).authorities)
    assert expires_at(held) == NOW + LEAF_LIFE
    file = tmp_path / "pem"
    file.write_bytes(held.key + held.certificate)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file)


def test_a_set_that_is_good_stays_as_it_is():
    """Looking at it changes nothing, so that replicas agree and nothing is written."""
    held = renewed(None, HOSTS, NOW)
    assert renewed(held, HOSTS, NOW) is held
    assert renewed(held, HOSTS, NOW + LEAF_LIFE - LEAF_SPARE) is held


def test_a_certificate_is_replaced_well_before_its_end():
    """The authority stays: what the API server trusts need not change."""
    held = renewed(None, HOSTS, NOW)
    at = NOW + LEAF_LIFE - LEAF_SPARE + SECOND
    after = renewed(held, HOSTS, at)
    assert after.authorities == held.authorities
    assert after.authority_key == held.authority_key
    assert after.key != held.key
    assert expires_at(after) == at + LEAF_LIFE
    assert is_trusted(after, at)


def test_an_authority_is_replaced_well_before_its_end():
    """Both are trusted then: a replica may go on for a while with what the old one has signed."""
    held = renewed(None, HOSTS, NOW)
    at = NOW + AUTHORITY_LIFE - AUTHORITY_SPARE
    assert renewed(held, HOSTS, at).authority_key == held.authority_key
    held, at = renewed(held, HOSTS, at), at + SECOND
    after = renewed(held, HOSTS, at)
    assert after.authority_key != held.authority_key
    assert after.authorities.endswith(held.authorities)
    assert is_trusted(after, at)
    assert is_trusted(held, at, by=after.authorities)
    assert not is_trusted(after, at, by=held.authorities)


def test_three_years_without_a_gap():
    """Looked at every six hours, there is a good certificate at all times, and it is accepted.

    Also by an API server that has not heard of the newest set yet, but while an authority changes;
    and by then what the last set had signed is trusted along with it.
    """
    held, leaves, changes = renewed(None, HOSTS, NOW), 0, 0
    until = NOW + 3 * timedelta(days=365)
    for at, before, after in life(held, until, timedelta(hours=6)):
        assert is_trusted(after, at)
        assert is_trusted(before, at, by=after.authorities)
        assert expires_at(after) - at >= LEAF_SPARE
        signer, *_ = x509.load_pem_x509_certificates(after.authorities)
        assert expires_at(after) < signer.not_valid_after_utc
        assert len(x509.load_pem_x509_certificates(after.authorities)) <= 2
        leaves += after.key != before.key
        changes += after.authority_key != before.authority_key
    assert 3 * 365 // 5 <= leaves <= 3 * 365 // 4 + 1
    assert changes == 3


def test_an_expired_authority_is_trusted_no_more():
    """Nor is anything else of a set that was left alone for years."""
    held = renewed(None, HOSTS, NOW)
    after = renewed(held, HOSTS, NOW + timedelta(days=1000))
    assert not is_broken(held)  # its time has come, that is all
    assert len(x509.load_pem_x509_certificates(after.authorities)) == 1
    assert after.authority_key != held.authority_key


@pytest.mark.parametrize("part", ["authorities", "authority_key"])
@pytest.mark.parametrize("value", [b"", b"junk", b"other"])
def test_a_broken_authority_is_replaced(part, value):
    """So is one whose key is another's: what it signs nobody would accept."""
    held, other = renewed(None, HOSTS, NOW), renewed(None, HOSTS, NOW)
    broken = replace(held, **{part: getattr(other, part) if value == b"other" else value})
    assert is_broken(broken)
    after = renewed(broken, HOSTS, NOW)
    assert after != broken
    assert is_trusted(after, NOW)
    assert renewed(after, HOSTS, NOW) is after


@pytest.mark.parametrize("part", ["certificate", "key"])
@pytest.mark.parametrize("value", [b"", b"junk", b"other"])
def test_a_broken_certificate_is_replaced(part, value):
    """The authority is not: it has done nothing wrong."""
    held, other = renewed(None, HOSTS, NOW), renewed(None, HOSTS, NOW)
    broken = replace(held, **{part: getattr(other, part) if value == b"other" else value})
    assert is_broken(broken)
    after = renewed(broken, HOSTS, NOW)
    assert after.authorities == held.authorities
    assert after.key != broken.key
    assert is_trusted(after, NOW)


def test_a_certificate_of_a_stranger_is_replaced():
    """Certificate and key fit each other, but not the authority that is trusted."""
    held, other = renewed(None, HOSTS, NOW), renewed(None, HOSTS, NOW)
    mixed = replace(held, certificate=other.certificate, key=other.key)
    after = renewed(mixed, HOSTS, NOW)
    assert after.authorities == held.authorities
    assert is_trusted(after, NOW)


def test_another_service_needs_another_certificate():
    """A Secret may be older than the name of the Service."""
    held = renewed(None, HOSTS, NOW)
    after = renewed(held, ("other.ai.svc",), NOW)
    assert after.authorities == held.authorities
    assert is_trusted(after, NOW, host="other.ai.svc")
    assert not is_trusted(after, NOW)


def test_two_versions_do_not_take_turns():
    """If one of them wants more names, its certificate is good for the other, too."""
    older = renewed(None, HOSTS, NOW)
    newer = renewed(older, (*HOSTS, "more.example"), NOW)
    assert newer is not older
    assert newer.authorities == older.authorities
    assert renewed(newer, HOSTS, NOW) is newer
