"""Attacks: numpy values over small protocols, one method a file. The filename is the name on the command line."""
