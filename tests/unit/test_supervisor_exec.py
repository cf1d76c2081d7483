"""The exec of an upgrade, when it cannot be."""

import subprocess
import sys

CODE = """
import sys
from gateway.supervisor import upgrade
from gateway.supervisor.process import unnamed_file

sys.executable = "/nowhere/python"
what = upgrade.Carried(upgrade.FORMAT, 1, {}, 1, {}, {}, [])
upgrade.execute(what, unnamed_file("test"), {}, [None, None])
"""


def test_a_supervisor_that_cannot_become_the_new_code_ends() -> None:
    """Its channels stand still by then, and signals are held back: nobody could end it but with SIGKILL."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "gateway: the new code of the supervisor cannot be executed: No such file or directory\n",
    )
