"""The live view: one snapshot of the whole gateway a second, shared by everybody who looks.

    counters    what was counted between two looks, as rates and percentiles
    snapshot    one snapshot, from the counters and from the view of the control plane
    broadcast   makes one a second while somebody listens, and sends it to all who do

Nothing runs while nobody listens, and any number of listeners of one worker costs one snapshot a second.
"""
