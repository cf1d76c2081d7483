"""The rewriting of paths: what a route of the file says about it."""

from typing import Annotated

from gateway.config.declaring.section import Allowed, Meaning, Section
from gateway.syntax.path_template import ALLOWED


class RewriteRule(Section):
    """Which paths become what."""

    path: Annotated[str, Allowed(ALLOWED), Meaning("The path of the request, such as `/users/{id}/files/{rest*}`")]
    to: Annotated[str, Allowed(ALLOWED), Meaning("What it becomes below `base_path`, such as `/v2/files/{id}/{rest}`")]
