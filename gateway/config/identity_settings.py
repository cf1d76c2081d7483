"""How those who send requests prove who they are: what is the same for all routes."""

from typing import Annotated

from gateway.config.field_types import FieldName
from gateway.config.schema import Env, Section


class Identity(Section):
    """Authentication"""

    api_key_header: Annotated[
        FieldName, Env("API_KEY_HEADER", "The field that an API key may come in, besides Authorization: Bearer")
    ] = "X-API-Key"
