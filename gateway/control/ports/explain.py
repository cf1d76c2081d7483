"""What the control plane needs of whoever can explain (`gateway.proxy.routes.explain`)."""

from collections.abc import Mapping
from typing import Any, Protocol


class Explainer(Protocol):
    """Whoever can say what would become of a request: `gateway.proxy.routes.explain.Explain`."""

    async def explain(
        self, method: str, host: str, path: str, client: str, consumer: str = "", tenant: str = "", scope: str = ""
    ) -> Mapping[str, Any]:
        """What would become of a request; the members of `models.explain.Explanation` but for `request`. `consumer` and
        `tenant` are whose credential it has, and `scope` its scopes, with blanks between them; empty: not said."""
        ...
