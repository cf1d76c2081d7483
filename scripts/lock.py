"""Write the lock files: every package that is installed, with its version and the hashes of its files, and no address.

Names come from `pyproject.toml` (dependencies, the build backend, the extras `journal`, `otel`, `validation` and
`dev`), versions from the package index that pip is configured for. `requirements-dev.lock` holds everything in
`requirements.lock` at the same versions, so one environment can grow from the first to the second.
`requirements-build.lock` holds what compiling needs besides (mypy), at the versions of the second. Pins that still
satisfy `pyproject.toml` stay, unless `--upgrade`.

Run it on the oldest Python that is supported: a version chosen there installs on the newer ones too. What only some
interpreters need would be missing from a lock made on another one; it is listed in `CONDITIONAL`, resolved for all,
and gets its marker afterwards.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
PIP_TOOLS = "pip-tools==7.6.2"

# redis-py needs it where asyncio.timeout misbehaves.
CONDITIONAL = {"async-timeout": 'python_full_version < "3.11.3"'}

HEADER = "# Written by `make lock`: do not edit.\n"


def install_pip_tools(directory: Path) -> Path:
    """A throwaway environment; returns its pip-compile."""
    venv.create(directory, with_pip=True)
    subprocess.run([directory / "bin" / "pip", "install", "--quiet", PIP_TOOLS], check=True)
    return directory / "bin" / "pip-compile"


def with_markers(lock: str, requirements: list[str]) -> str:
    """The lock of these requirements with the markers of `CONDITIONAL` added to its pins."""
    for name, marker in CONDITIONAL.items():
        lock, count = re.subn(rf"^({re.escape(name)}==\S+)( \\)$", rf"\1 ; {marker}\2", lock, flags=re.MULTILINE)
        expected = requirements.count(name)
        if count != expected:
            raise SystemExit(f"lock: expected {expected} pins of {name}, found {count}")
    return lock


def without_markers(lock: str) -> str:
    """The inverse of `with_markers`, for pip-compile to see all earlier pins whatever interpreter it runs on."""
    for marker in CONDITIONAL.values():
        lock = lock.replace(f" ; {marker}", "")
    return lock


def compile_lock(pip_compile: Path, requirements: list[str], lock_file: Path, work: Path, *, upgrade: bool) -> None:
    source, output = work / f"{lock_file.stem}.in", work / lock_file.name
    source.write_text("\n".join(requirements) + "\n")
    if lock_file.exists():
        output.write_text(without_markers(lock_file.read_text()))
    command: list[str | Path] = [
        *(pip_compile, source, "--output-file", output),
        *("--generate-hashes", "--strip-extras", "--allow-unsafe", "--no-annotate", "--no-header", "--quiet"),
        *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options"),
        *(["--upgrade"] if upgrade else []),
    ]
    subprocess.run(command, check=True, cwd=work)
    lock_file.write_text(HEADER + with_markers(output.read_text(), requirements))


def write_constraints(lock_file: Path, constraints: Path) -> None:
    """The pins of a lock, for another one to be made with the same."""
    pins = re.findall(r"^[\w.-]+==[^\s;\\]+", lock_file.read_text(), re.MULTILINE)
    constraints.write_text("".join(f"{pin}\n" for pin in pins))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the three lock files.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that pyproject.toml allows")
    arguments = parser.parse_args()
    if sys.version_info[:2] != OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise SystemExit(f"lock: needs Python {oldest}, the oldest supported one (make lock PYTHON=python{oldest})")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    # An image that cannot validate would be another product, and a lock cannot be installed in part.
    runtime = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *extras["journal"],
        *extras["top"],
        *extras["otel"],
        *extras["validation"],
        *CONDITIONAL,
    ]
    dev = extras["dev"]
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        pip_compile = install_pip_tools(work / "venv")
        lock_file = ROOT / "requirements.lock"
        compile_lock(pip_compile, runtime, lock_file, work, upgrade=arguments.upgrade)
        write_constraints(lock_file, work / "runtime.txt")
        dev_lock = ROOT / "requirements-dev.lock"
        compile_lock(pip_compile, ["-c runtime.txt", *runtime, *dev], dev_lock, work, upgrade=arguments.upgrade)
        write_constraints(dev_lock, work / "dev.txt")
        compile_lock(pip_compile, ["-c dev.txt", "mypy"], ROOT / "requirements-build.lock", work, upgrade=False)


if __name__ == "__main__":
    main()
