"""The rewriting of paths: what a route of the file says about it."""

from typing import Annotated

from gateway.config.declaring.section import Allowed, Section
from gateway.syntax.path_template import ALLOWED


class RewriteRule(Section):
    """Which paths become what."""

    path: Annotated[str, Allowed(ALLOWED)]
    to: Annotated[str, Allowed(ALLOWED)]
