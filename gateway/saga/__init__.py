"""Sagas: runs of workflows whose steps are all carried out, or those that were carried out are compensated.

    what is to be done    `workflow.py`, from the configuration; each run keeps the definition that it began with
    what comes next       `machine.py`, the states and their transitions, as pure functions
    what is sent          `templates.py` and `rendering.py`: requests made of the input and of earlier answers

The runs are in the journal (`gateway.journal.sagas`). The gate that starts them is `gateway.proxy.gates.workflow`;
`gateway.saga_runner` carries them out. Nothing here reads a clock, waits or sends.
"""
