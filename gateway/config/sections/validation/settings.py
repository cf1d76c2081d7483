"""How requests are validated: what holds for all routes, and `validate` of one route of the file."""

import warnings
from typing import Annotated, Literal

from annotated_types import Interval

from gateway.config.declaring.field_types import FileName
from gateway.config.declaring.section import Bytes, Env, Meaning, Seconds, Section


class Validation(Section):
    """Validation of requests"""

    strict: Annotated[
        bool,
        Env("VALIDATION_STRICT_MODE", "Whether invalid requests are refused; false: every route only reports them"),
    ] = True
    timeout: Annotated[
        Seconds,
        Interval(ge=0.01, le=60),
        Env("VALIDATION_TIMEOUT_SECONDS", "To validate one large body, which is done in a process of its own"),
    ] = 1.0
    log_errors: Annotated[
        bool, Env("LOG_VALIDATION_ERRORS", "A line for each invalid request, with what is wrong and where")
    ] = False


with warnings.catch_warnings():
    # pydantic warns, because BaseModel has had methods of these names since its first version. Nothing calls them.
    warnings.simplefilter("ignore", UserWarning)

    class Validate(Section):
        """What the requests of a route must be."""

        schema: Annotated[FileName | None, Meaning("A JSON Schema (a file) that the bodies must satisfy", "none")] = (
            None  # type: ignore[assignment]  # see above
        )
        openapi: Annotated[
            FileName | None, Meaning("An OpenAPI document (a file) that the requests must satisfy", "none")
        ] = None
        mode: Annotated[
            Literal["enforce", "report"], Meaning("Refuse what is invalid, or let it pass and count it")
        ] = "enforce"
        max_body_bytes: Annotated[
            Bytes, Interval(ge=1, le=67_108_864), Meaning("Largest body that is held to be validated")
        ] = 1_048_576
        unknown_operation: Annotated[
            Literal["pass", "refuse"], Meaning("What becomes of requests that the OpenAPI document does not describe")
        ] = "refuse"

    class Validated(Section):
        """What has requests that are validated."""

        validate: Validate = Validate()  # type: ignore[assignment]  # see above
