"""Annotation files of AlpacaEval, Arena-Hard and MT-Bench as tables of their own numbers, with intervals."""
