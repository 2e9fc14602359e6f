"""Gradients from scores alone: how to place the queries of one row, and what their answers say of the slope."""
