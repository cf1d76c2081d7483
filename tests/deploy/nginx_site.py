"""nginx with the files of the repository, for a directory and ports of our own."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.tools import run, tool
from tests.support.ports import free_port, is_listening
from tests.support.processes import ROOT, ChildProcess

SITE = (ROOT / "nginx.conf").read_text(encoding="utf-8")
WRAPPER = """\
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/etc/nginx/sites-enabled/*;
}}
"""

# What Debian's package enables.
DEFAULT = """\
server {
    listen 80 default_server;
    listen [::]:80 default_server;
    root /var/www/html;
    server_name _;
}
"""
LISTENS = re.compile(r"(listen (?:\[::\]:)?)80( default_server)?;")


class Site:
    """An /etc/nginx of our own below `directory`: as Debian's package leaves it, then changed as the site file says."""

    def __init__(self, directory: Path, snippets: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.http, self.https = free_port(), free_port()
        etc = directory / "etc/nginx"
        for name in ("sites-available", "sites-enabled", "snippets", "tls"):
            (etc / name).mkdir(parents=True)
        self.site = etc / "sites-available/api-gateway"
        (etc / "sites-available/default").write_text(LISTENS.sub(rf"\g<1>{self.http}\2;", DEFAULT), encoding="utf-8")
        (etc / "sites-enabled/default").symlink_to("../sites-available/default")
        for command in re.findall(r"^#   sudo ((?:cp|ln|rm) .*)$", SITE, re.MULTILINE):
            done = run(command.replace("/etc/nginx/", f"{etc}/").split(), ROOT)
            assert done.returncode == 0, done.stdout
        self._copy("nginx.conf", self.site)
        for snippet in snippets:
            self._copy(f"deploy/nginx-{snippet}.conf", etc / f"snippets/api-gateway-{snippet}.conf")
        self.main = directory / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        self.main.write_text(WRAPPER.format(directory=directory, user=user), encoding="utf-8")

    def _copy(self, name: str, to: Path) -> None:
        text = (ROOT / name).read_text(encoding="utf-8").replace("/etc/nginx/", f"{self.directory}/etc/nginx/")
        text = LISTENS.sub(rf"\g<1>{self.http}\2;", text)
        text = re.sub(r"(listen (?:\[::\]:)?)443 ", rf"\g<1>{self.https} ", text)
        to.write_text(text, encoding="utf-8")

    def replace(self, text: str, instead: str) -> None:
        before = self.site.read_text(encoding="utf-8")
        assert text in before
        self.site.write_text(before.replace(text, instead), encoding="utf-8")

    def certificate(self) -> None:
        tls = self.directory / "etc/nginx/tls"
        command = [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]
        made = run(
            [*command, "-keyout", tls / "api-gateway.key", "-out", tls / "api-gateway.crt"],
            self.directory,
        )
        assert made.returncode == 0, made.stdout

    def command(self) -> list[str]:
        return [nginx(), "-p", str(self.directory), "-c", str(self.main)]

    def check(self) -> tuple[bool, str]:
        answer = run([*self.command(), "-t"], self.directory)
        return answer.returncode == 0, answer.stdout


def nginx() -> str:
    # Debian keeps it out of the PATH of ordinary users.
    return shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or tool("nginx")


def scale(directory: Path, port: int) -> Path:
    """The configuration of the scaled deployment, for a directory and a port of our own."""
    text = (ROOT / "deploy/nginx-scale.conf").read_text(encoding="utf-8")
    main = directory / "nginx.conf"
    main.write_text(text.replace(" /tmp", f" {directory}").replace("listen 8080", f"listen {port}"), encoding="utf-8")
    return main


def shop_edge(directory: Path, servers: str, port: int) -> Path:
    """The configuration of the shop's edge, for a directory and a port of our own, in front of these gateways."""
    text = (ROOT / "examples/shop/edge.conf").read_text(encoding="utf-8")
    # The other services are published as the gateway is.
    text = re.sub(r"    listen (?!8000)\d+;\n", "", text).replace("8000", str(port))
    text = text.replace("http://$shop_service:$server_port", "http://$shop_service")
    site = directory / "etc/nginx/sites-enabled"
    site.mkdir(parents=True)
    (site / "edge").write_text(f"upstream gateway {{ {servers} }}\n{text}", encoding="utf-8")
    main = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    main.write_text(WRAPPER.format(directory=directory, user=user), encoding="utf-8")
    return main


@contextlib.contextmanager
def in_front(kind: str, servers: str, directory: Path) -> Iterator[int]:
    """The port of nginx in front of these `server` lines, with the file of the site, of `scale` or of the shop."""
    if kind == "site":
        site = Site(directory)
        site.replace("server 127.0.0.1:5000 max_fails=0;", servers)
        port, command = site.http, site.command()
    elif kind == "shop":
        port = free_port()
        command = [nginx(), "-p", str(directory), "-c", str(shop_edge(directory, servers, port))]
    else:
        port = free_port()
        main = scale(directory, port)
        text = main.read_text(encoding="utf-8")
        text = text.replace("http {", f"daemon off;\nhttp {{\nupstream proxy-service {{ {servers} }}", 1)
        main.write_text(text.replace("proxy-service:5000", "proxy-service"), encoding="utf-8")
        command = [nginx(), "-p", str(directory), "-c", str(main)]
    with ChildProcess("nginx", command, cwd=directory) as child:
        child.wait_until(lambda: is_listening(port), "listening")
        yield port
