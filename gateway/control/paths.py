"""Which request paths belong to the control plane, decided before any route is looked at.

Whole segments only: `/chaos` and `/chaos/config` do, `/chaosmonkey` does not. The bytes are compared as they came, with
nothing decoded or normalised. A path that looks like a control path only after decoding is a path like any other.
"""

_HEALTH = frozenset({b"/health", b"/livez", b"/readyz"})
_EXACT = _HEALTH | frozenset(
    {
        b"/metrics",
        b"/api/openapi.json",
        b"/api/docs",
        b"/api/resilience",
        b"/api/admin",
        b"/api/test",
        b"/chaos",
        b"/console",
    }
)
_EXACT_AND_ROOT = _EXACT | {b"/"}
_BELOW = (b"/status/", b"/api/resilience/", b"/api/admin/", b"/api/test/", b"/chaos/", b"/console/")


def is_control_path(path: bytes) -> bool:
    """HOT. `path` is the target's path in origin form, without the query."""
    return path in _EXACT or path.startswith(_BELOW)


def is_control_path_or_root(path: bytes) -> bool:
    """HOT. As `is_control_path`, and `/` too: where no route takes `/`, the control plane has a page with links
    there."""
    return path in _EXACT_AND_ROOT or path.startswith(_BELOW)


def is_health_path(path: bytes) -> bool:
    """HOT. Whether the path stays on the listener of the data plane when the control plane has a port of its own."""
    return path in _HEALTH
