"""From the settings of the listener to what they mean, and what is wrong with them."""

from gateway.config.building.file_checks import check_certificate
from gateway.config.building.sources import Sources
from gateway.config.sections.server.model import ListenerTls, ServerConfig
from gateway.config.sections.server.settings import Server


def server_config(sources: Sources, server: Server) -> ServerConfig:
    """The domain type. What is wrong with the certificate is reported."""
    place = sources.place("server")
    cert_file, key_file = server.tls_cert_file, server.tls_key_file
    check_certificate((cert_file, ("tls_cert_file",)), (key_file, ("tls_key_file",)), place)
    tls = ListenerTls(cert_file, key_file) if cert_file and key_file else None
    values = server.model_dump(exclude={"tls_cert_file", "tls_key_file", "trusted_proxies"})
    return ServerConfig(**values, tls=tls, trusted_proxies=tuple(server.trusted_proxies))
