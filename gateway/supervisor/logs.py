"""The supervisor's own lines: to standard output and to the files of LOG_DIR, beside those of the workers."""

import sys
from collections.abc import Callable

from gateway.supervisor.generation import Generation
from gateway.telemetry.log import application
from gateway.telemetry.log.files import LogFiles
from gateway.telemetry.log.lines import LineWriter


class Logs:
    """Sends all logging of this process where the configuration in effect says; before there is one, to standard
    output as JSON."""

    def __init__(self) -> None:
        self._writer = LineWriter(sys.stdout.fileno())
        self._files: LogFiles | None = None
        self._restore: Callable[[], None] = application.configure("INFO", "json", self._writer.write)

    def follow(self, generation: Generation) -> None:
        """Do as this configuration says from now on."""
        self._restore()
        self._close_files()
        if generation.log_dir is not None:
            self._files = LogFiles(
                generation.log_dir,
                retention_days=generation.log_retention_days,
                max_bytes=generation.log_max_file_bytes,
            )
        self._restore = application.configure(
            generation.log_level,
            "json" if generation.log_format == "json" else "text",
            self._writer.write,
            self._files.handlers() if self._files is not None else (),
        )

    def close(self) -> None:
        """Write what is waiting. What is logged later goes to standard error."""
        self._restore()
        self._writer.close()
        self._close_files()

    def _close_files(self) -> None:
        if self._files is not None:
            self._files.close()
            self._files = None
