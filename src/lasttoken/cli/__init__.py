"""The command line: thin, typed, and quick to start. torch is imported by the commands, not here."""
