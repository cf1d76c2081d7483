"""The settings of logs."""

from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import BeforeValidator

from gateway.config.declaring.field_types import DirectoryName
from gateway.config.declaring.section import Bytes, Env, Section


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class Log(Section):
    """Logs"""

    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        BeforeValidator(_upper),
        Env("LOG_LEVEL", "Least level of the application log, in any case"),
    ] = "INFO"
    format: Annotated[Literal["json", "text"], Env("LOG_FORMAT", "json for machines, text for people")] = "json"
    access_log: Annotated[bool, Env("ACCESS_LOG", "One line for every request")] = True
    access_log_query: Annotated[
        bool, Env("ACCESS_LOG_QUERY", "Whether its targets have their query, which may say who somebody is")
    ] = True
    dir: Annotated[
        DirectoryName | None,
        Env("LOG_DIR", "Logs also go to gateway-YYYYMMDD.log and errors-YYYYMMDD.log in it, as JSON", "no files"),
    ] = None
    retention_days: Annotated[
        int, Interval(ge=1, le=3650), Env("LOG_RETENTION_DAYS", "Days whose files are kept there, today included")
    ] = 14
    max_file_bytes: Annotated[
        Bytes,
        Interval(ge=65_536, le=1_099_511_627_776),
        Env("LOG_MAX_FILE_BYTES", "Larger files are set aside; the newest 8 of a day are kept"),
    ] = 268_435_456
