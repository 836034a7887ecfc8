"""Files of verdicts that other benchmarks wrote: their own numbers, and ours beside them (`eval --annotations`)."""
