"""Tables of a report: each file makes one or a few, from a Result."""
