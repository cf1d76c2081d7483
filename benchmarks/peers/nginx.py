"""nginx: plain, the yardstick of every ratio; and with a token bucket in Redis, asked by Lua for each request, which is
what the gateways that are built on it do."""

import shutil
from pathlib import Path

from benchmarks.children import Child
from benchmarks.host import free_port
from benchmarks.peers.base import Peer, Proxy
from benchmarks.rig import Rig, nginx_binary, nginx_command

_PROXY = """
    upstream behind {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 1000000000; }}
    {preamble}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            {access}
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
        }}
    }}
"""

# The reply: whether a token was there. Time is Redis' own, as it must be with several gateways.
_BUCKET = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(state[1]) or tonumber(ARGV[1]), tonumber(state[2]) or now
tokens = math.min(tonumber(ARGV[1]), tokens + (now - at) * tonumber(ARGV[2]))
local allowed = tokens >= 1
if allowed then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('PEXPIRE', KEYS[1], 60000)
return allowed and 1 or 0
"""

_ACCESS = """
            access_by_lua_block {
                local redis = require("nginx.redis"):new()
                redis:set_timeout(1000)
                if not redis:connect("127.0.0.1", %d) then return ngx.exit(500) end
                local client = ngx.var.http_x_forwarded_for or ngx.var.remote_addr
                local allowed, why = redis:evalsha("%s", 1, "bucket:" .. client, 50000, 50000)
                if not allowed then ngx.log(ngx.ERR, why) return ngx.exit(500) end
                redis:set_keepalive(60000, 256)
                if allowed == 0 then return ngx.exit(429) end
            }
"""

_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
_MODULE_DIRECTORIES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules")


def _missing_nginx() -> str | None:
    return None if shutil.which(nginx_binary()) else "apt-get install nginx-light"


def _modules() -> str | None:
    """The lines that load Lua; None when it is not installed."""
    for directory in _MODULE_DIRECTORIES:
        if all((Path(directory) / module).exists() for module in _MODULES):
            return "\n".join(f"load_module {directory}/{module};" for module in _MODULES)
    return None


def _missing_lua() -> str | None:
    client = Path("/usr/share/lua/5.1/nginx/redis.lua")
    if _missing_nginx() or _modules() is None or not client.exists():
        return "apt-get install nginx-light libnginx-mod-http-lua lua-nginx-redis"
    return None


def nginx(name: str, workers: int) -> Peer:
    """A variant with that many worker processes on all cores."""
    return Peer(name, "none", _missing_nginx, lambda rig: _start(rig, name, workers=workers))


def _start(
    rig: Rig, name: str, *, preamble: str = "", access: str = "", modules: str = "", workers: int | None = None
) -> Proxy:
    port = free_port()
    http = _PROXY.format(upstream=rig.upstream_port, port=port, preamble=preamble, access=access)
    command = nginx_command(
        rig.directory, name, http, modules=modules, connections=rig.descriptors, workers=workers or 1
    )
    child = Child(name, command, core=rig.cores.proxy if workers is None else None, directory=rig.directory)
    child.wait_listening(port)
    return Proxy(name, child, port, uses_redis=bool(access))


def _start_lua(rig: Rig) -> Proxy:
    with rig.redis() as client:
        digest = client.script_load(_BUCKET)
    return _start(
        rig,
        "nginx+lua",
        preamble="lua_package_path '/usr/share/lua/5.1/?.lua;;';",
        access=_ACCESS % (rig.redis_port, digest),
        modules=_modules() or "",
    )


NGINX = Peer("nginx", "none", _missing_nginx, lambda rig: _start(rig, "nginx"))
NGINX_LUA = Peer("nginx+lua", "one Redis token bucket script per request", _missing_lua, _start_lua)
