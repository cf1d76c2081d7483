"""A topology: one generation of routes, with their gates and filters, and of the upstreams behind them.

It is built from a configuration (`gateway.assembly.topology`) and is not changed afterwards, except for what the world
tells of it: load, health, figures. A plan is made for one topology, and a plan of another one is stale
(`Topology.generation`).
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final

from gateway.config.sections.routes.model import RouteConfig
from gateway.identity.withheld import Withheld
from gateway.policy.priority import NORMAL, class_of
from gateway.proxy.destinations.fallback import Fallback
from gateway.proxy.destinations.mirror import Mirror
from gateway.proxy.destinations.split import Split
from gateway.proxy.field_edits import edits_of
from gateway.proxy.filter import Filter, Filters
from gateway.proxy.filters.cors import Cors, PublicRefusals
from gateway.proxy.gate import Chain, Gate
from gateway.proxy.gates.deliver import DeliverGate
from gateway.proxy.gates.hedge import HedgeGate
from gateway.proxy.gates.hooks import HooksGate
from gateway.proxy.gates.idempotency import IdempotencyGate
from gateway.proxy.gates.split import SplitGate
from gateway.proxy.gates.workflow import WorkflowGate
from gateway.proxy.requests.priority_header import PriorityHeader
from gateway.proxy.requests.query_key import QueryKey
from gateway.proxy.routes.router import Router
from gateway.proxy.tunnels.tunnels import Tunnels
from gateway.proxy.upstreams.upstream import Upstream
from gateway.syntax import hosts
from gateway.syntax.path_template import PathRewrite, rewritten
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import RouteAccount

_generations: Final = count(1)


class Route:
    """A route with its upstream, gates and filters.

    `split` shares its requests among several upstreams; None where all go to `upstream`, which is the first of them
    otherwise. `total_timeout` is the longest time limit of them. `mirror` copies requests to a shadow,
    None: nothing does.

    `account` is where its requests are counted. `deliver` is the gate that keeps its requests for later, None where
    they go on at once. `workflow` is the gate that starts runs of a workflow, None where there is none. `fallback` says
    whom to ask when the upstream does not answer, None where nobody is. `honours_keys`: all of them act once on
    requests with the same idempotency key. `hooks` is the gate of its Python hooks, None without any. `keeping` is the
    gate that claims such keys, None where they mean nothing. `withheld` keeps fields of clients from the upstream, None
    where all go on. `query_key` takes API keys out of the query, None where none counts there. `request_edits` changes
    fields, None where they stay. `stripped` is the prefix that is taken off,
    without a slash at its end. `tunnels` are its WebSockets. `priority` is the class of its requests, which
    `priority_header`, if there is one, may lower; with `priorities` the log says which it was.
    """

    __slots__ = (
        "_prefix_cut",
        "_rewrites",
        "account",
        "chain",
        "config",
        "cors",
        "deliver",
        "fallback",
        "filters",
        "hedges",
        "honours_keys",
        "hooks",
        "host",
        "keeping",
        "max_body_bytes",
        "methods",
        "mirror",
        "name",
        "prefix",
        "preserve_host",
        "priorities",
        "priority",
        "priority_header",
        "query_key",
        "request_edits",
        "service",
        "split",
        "stripped",
        "total_timeout",
        "tunnels",
        "upstream",
        "withheld",
        "workflow",
    )

    def __init__(
        self,
        config: RouteConfig,
        upstream: Upstream,
        gates: tuple[Gate, ...],
        per_attempt: int,
        filters: tuple[Filter, ...],
        cells: RouteCells,
        withheld: Withheld | None = None,
        fallback: Fallback | None = None,
        priority_header: PriorityHeader | None = None,
        mirror: Mirror | None = None,
        query_key: QueryKey | None = None,
        *,
        priorities: bool = False,
    ) -> None:
        self.config = config
        self.priority = NORMAL if config.priority is None else class_of(config.priority)
        self.priority_header = priority_header
        self.priorities = priorities
        self.withheld = withheld
        self.query_key = query_key
        self.fallback = fallback
        self.mirror = mirror
        self.name = config.name
        self.service = upstream.name
        self.account = RouteAccount(config.name, upstream.name, cells, config.prefix)
        self.chain = Chain(gates, per_attempt)
        self.filters = Filters(filters)
        gate = next((each for each in gates if isinstance(each, SplitGate)), None)
        self.split: Split | None = None if gate is None else gate.split
        first = (upstream,) if self.split is None else self.split.upstreams
        if self.split is not None:
            self.split.serve(config.name, config.prefix, cells, fallback)
        self.total_timeout = max([each.total_timeout for each in first])
        asked = [*first, *(() if fallback is None else (hop.upstream for hop in fallback.hops))]
        self.honours_keys = all(each.config.honours_idempotency_key for each in asked)
        self.host = (hosts.host(config.host or "") or "").encode()
        self.prefix = config.prefix.encode()
        self.methods = config.methods
        self.preserve_host = config.preserve_host
        self.max_body_bytes = config.max_body_bytes
        self.request_edits = edits_of(config.request_headers)
        self.upstream = upstream
        self.tunnels = Tunnels(config)
        # "/proxy/" leaves the slash that "/ok" begins with.
        self.stripped = stripped_prefix(config)
        self._prefix_cut = len(self.stripped)
        self._rewrites = tuple([PathRewrite(path, to) for path, to in config.rewrites])
        self.cors = next((each for each in filters if isinstance(each, Cors)), None)
        self.keeping = next((each for each in gates if isinstance(each, IdempotencyGate)), None)
        self.hedges = next((each.hedges for each in gates if isinstance(each, HedgeGate)), ())
        self.hooks = next((each for each in gates if isinstance(each, HooksGate)), None)
        self.deliver = next((each for each in gates if isinstance(each, DeliverGate)), None)
        self.workflow = next((each for each in gates if isinstance(each, WorkflowGate)), None)

    def rewritten(self, path: bytes) -> bytes | None:
        """The path and query for the upstream, below its base path, where a template of the route says it; else
        None."""
        return rewritten(path, self._rewrites) if self._rewrites else None

    def forward_path(self, path: bytes, upstream: Upstream) -> bytes:
        """The request target for the upstream, which is that of the route or one that its fallback leads to."""
        if self._rewrites:
            made = self.rewritten(path)
            if made is not None:
                return upstream.base_path + made
        cut = self._prefix_cut
        if cut:
            path = path[cut:]
            if not path.startswith(b"/"):
                path = b"/" + path
        base = upstream.base_path
        return base + path if base else path

    @property
    def allow(self) -> str:
        """The Allow field's value; empty where every method is allowed."""
        return ", ".join(sorted(self.methods)) if self.methods is not None else ""


def stripped_prefix(config: RouteConfig) -> bytes:
    """What the route takes off the path, without a slash at its end."""
    return config.prefix.encode().rstrip(b"/") if config.strip_prefix else b""


class NoRoute(Route):
    """The route of requests that match none. They can only be refused."""

    __slots__ = ()

    def __init__(self, cells: RouteCells, *, public_refusals: bool = True) -> None:
        self.name = self.service = ""
        self.account = RouteAccount("", "", cells)
        self.chain = Chain((), 0)
        self.filters = Filters((PublicRefusals(),) if public_refusals else ())
        self.max_body_bytes = None
        self.methods = None
        self.fallback = None
        self.split = None
        self.mirror = None
        self.priority = NORMAL
        self.priority_header = None
        self.priorities = False
        self.cors = None
        self.keeping = None
        self.hedges = ()
        self.hooks = None
        self.deliver = None
        self.workflow = None


class Topology:
    """`routes` in the order of the configuration, `upstreams` by name, and `chains` the gates of each upstream for the
    gateway's own requests. `generation` grows with each topology that this process builds."""

    __slots__ = ("chains", "generation", "no_route", "router", "routes", "upstreams")

    def __init__(
        self,
        routes: Sequence[Route],
        upstreams: Mapping[str, Upstream],
        no_route: NoRoute,
        chains: Mapping[str, Chain] | None = None,
    ) -> None:
        self.generation = next(_generations)
        self.routes = tuple(routes)
        self.upstreams = dict(upstreams)
        self.chains = dict(chains or {})
        self.no_route = no_route
        self.router = Router(self.routes)

    def close(self) -> None:
        """Give up copies for shadows, and close the idle connections to upstreams."""
        for route in self.routes:
            if route.mirror is not None:
                route.mirror.stop()
        for upstream in self.upstreams.values():
            upstream.close()

    def __repr__(self) -> str:
        return f"<Topology {self.generation}: {len(self.routes)} routes, {len(self.upstreams)} upstreams>"
