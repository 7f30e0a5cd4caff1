"""What offsim prints, kept to tell a change of words from a change of numbers: `python -m tests.printed`."""
