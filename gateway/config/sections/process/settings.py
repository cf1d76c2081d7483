"""The settings of the process as a whole."""

from typing import Annotated

from gateway.config.declaring.field_types import FileName, Name
from gateway.config.declaring.section import Env, Section


class Process(Section):
    """The process"""

    service_name: Annotated[Name, Env("SERVICE_NAME", "The `service` label of metrics and logs")] = "gateway"
    environment: Annotated[Name, Env("ENVIRONMENT", "Where this runs, as logs and health say it")] = "development"
    config_file: Annotated[
        FileName | None, Env("GATEWAY_CONFIG", "YAML file with upstreams, rate limits and routes", "no file")
    ] = None
