"""Other projects' formats, one a file: read, converted to parts of ours, and never written."""
