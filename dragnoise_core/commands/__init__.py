"""The command line: dragnoise edit, apply, pick, demo and bench."""
