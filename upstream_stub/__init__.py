"""An upstream to try the gateway against: ordinary answers, slow ones, failing ones, and faults on demand."""
