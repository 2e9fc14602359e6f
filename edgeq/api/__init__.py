"""What ``import edgeq`` offers. The front door looks these names up when they are asked for; the command line calls the same functions."""
