"""TLS contexts: a handshake in memory between ours and ours, and what is wrong with a file said by its name."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pgherd.errors import BadSetting
from pgherd.gateway.tls import ALPN, client_context, server_context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for `gateway.example` and its key."""
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("gateway.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "server.crt", directory / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def shake(
    client: ssl.SSLContext | None, server: ssl.SSLContext, name: str = "gateway.example"
) -> ssl.SSLObject:
    """Run the handshake; answers the client's end."""
    assert client is not None
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (ours, theirs) * 4:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ours


def test_handshake(files: tuple[Path, Path]) -> None:
    server = server_context(*files)
    for context in (client_context("require"), client_context("verify-full", files[0])):
        end = shake(context, server)
        assert end.selected_alpn_protocol() == ALPN
        assert end.version() in ("TLSv1.2", "TLSv1.3")
    assert client_context("disable") is None


def test_verify_full_looks_at_name_and_authority(files: tuple[Path, Path]) -> None:
    server = server_context(*files)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_context("verify-full", files[0]), server, "other.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(client_context("verify-full"), server)
    shake(client_context("require"), server, "other.example")


def test_old_versions_are_refused(files: tuple[Path, Path]) -> None:
    assert server_context(*files).minimum_version == ssl.TLSVersion.TLSv1_2


def test_bad_files_are_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"cannot read .*missing\.crt: No such file"):
        server_context(tmp_path / "missing.crt", files[1])
    noise = tmp_path / "noise.key"
    noise.write_text("not a key")
    with pytest.raises(BadSetting, match=r"noise\.key are no usable certificate and key"):
        server_context(files[0], noise)
    with pytest.raises(BadSetting, match="root certificates"):
        client_context("verify-full", noise)
