"""TLS contexts: the gateway's own towards clients, and ours towards servers."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final, Literal

from pgherd.errors import BadSetting

ALPN: Final = (
    "postgresql"  # registered name; PostgreSQL 17 and later ask for it when TLS starts without SSLRequest
)
SslMode = Literal["disable", "require", "verify-full"]


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For the gateway's listener: TLS 1.2 or later. Raises BadSetting that names the file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in (certificate, key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise BadSetting(f"cannot read {path}: {error.strerror}") from None
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise BadSetting(
            f"{certificate} and {key} are no usable certificate and key: {error.reason or error}",
            hint="Both must be PEM files, and the key must have no password.",
        ) from None
    context.set_alpn_protocols([ALPN])
    return context


def _no_password() -> str:
    """Instead of asking at a terminal that nobody watches."""
    return ""


def client_context(mode: SslMode, root: Path | None = None) -> ssl.SSLContext | None:
    """For connections to servers, None for 'disable'. 'require' encrypts and trusts any certificate, as libpq does.

    'verify-full' also checks certificate and host name, against `root` (PEM) or the system's authorities.
    """
    if mode == "disable":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    if mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if root is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(root)
    except (OSError, ssl.SSLError) as error:
        raise BadSetting(f"cannot use the root certificates in {root}: {error}") from None
    return context
