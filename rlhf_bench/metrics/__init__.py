"""Per-response metrics of a text, what each metric is called, and the Estimates made from a table of scores."""
