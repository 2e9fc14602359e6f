"""What edgeq does, as functions: a command parses, calls one of them, and prints what it gives."""
