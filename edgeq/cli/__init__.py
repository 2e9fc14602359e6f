"""The command line: thin. One command a file, each loaded only when it is called."""
