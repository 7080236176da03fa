"""The command line: dragnoise edit, apply, demo and bench."""
