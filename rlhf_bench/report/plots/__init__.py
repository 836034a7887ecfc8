"""Plots of a report: a function draws one figure from a Result, or returns None where its numbers are missing."""
