"""The embedded broker's TLS certificates: its own authority, the node's certificate, and its administrator's.

<folder>/ca.pem       whom clients are to believe: the only file that others need
<folder>/ca.key       signs the other two                                  mode 0600
<folder>/broker.pem   the node's private key and certificate, in one file  mode 0600
<folder>/admin.pem    the administrator's                                  mode 0600

The other two are made anew when they have half a year left, so that a broker which is started now and then never meets
its clients with one that has expired. P-256 throughout (FIPS 186-5), which every TLS 1.3 library has.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA, CA_KEY, BROKER, ADMIN = "ca.pem", "ca.key", "broker.pem", "admin.pem"
BROKER_NAME, ADMIN_NAME, CA_NAME = "isthmus-broker", "isthmus-admin", "isthmus-embedded-ca"
CA_LIFE, LEAF_LIFE, RENEWAL = timedelta(days=3650), timedelta(days=730), timedelta(days=180)
#: Clocks of one machine do not differ, but they are set back.
BACKDATING = timedelta(days=1)


def prepare_certificates(folder: Path, host: str = "localhost", now: datetime | None = None) -> None:
    """Make what is missing, and what expires soon. Raises `OSError`, and `ValueError` for files that are damaged.

    Beside 127.0.0.1 the node's certificate is for `host`.
    """
    now = now or datetime.now(UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / CA).exists() or _expires(folder / CA, now):
        _make_authority(folder, now)
    for name, common_name, is_server in ((BROKER, BROKER_NAME, True), (ADMIN, ADMIN_NAME, False)):
        path = folder / name
        if not path.exists() or _expires(path, now):
            _make_leaf(folder, path, common_name, now, host if is_server else "")


def _expires(path: Path, now: datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(_certificate_in(path.read_bytes()))
    return certificate.not_valid_after_utc - now < RENEWAL


def _certificate_in(pem: bytes) -> bytes:
    """The certificate of a file that may begin with a key."""
    return pem[max(0, pem.find(b"-----BEGIN CERTIFICATE-----")) :]


def _make_authority(folder: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(CA_NAME)
    certificate = (
        _builder(name, name, key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    # What an authority before this one has signed is worth nothing any more.
    for name_ in (BROKER, ADMIN):
        (folder / name_).unlink(missing_ok=True)
    _write(folder / CA_KEY, _pem_of(key), 0o600)
    _write(folder / CA, certificate.public_bytes(Encoding.PEM), 0o644)


def _make_leaf(folder: Path, path: Path, common_name: str, now: datetime, host: str) -> None:
    """`host`: whom a server's certificate is for; empty for a client's."""
    authority = x509.load_pem_x509_certificate((folder / CA).read_bytes())
    authority_key = load_pem_private_key((folder / CA_KEY).read_bytes(), None)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{folder / CA_KEY} does not hold a key of the embedded broker's authority")
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if host else [])]
    builder = (
        _builder(_name(common_name), authority.subject, key.public_key(), now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if host:
        loopback = ipaddress.ip_address("127.0.0.1")
        names = x509.SubjectAlternativeName([x509.IPAddress(loopback), x509.DNSName(host)])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(authority_key, SHA256())
    _write(path, _pem_of(key) + certificate.public_bytes(Encoding.PEM), 0o600)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATING)
        .not_valid_after(now + life)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    """Renamed into place, so that a crash leaves a whole file or none."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
