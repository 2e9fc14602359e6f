"""Objectives: what an attack maximises, as numpy functions of logits. One a file; the filename is the name on the command line."""
