"""What the commands share when they speak to a terminal."""


def printable(line: str) -> str:
    """`line` without what would move the cursor or colour the screen: a file's name may hold anything."""
    return "".join(c if c.isprintable() else "\ufffd" for c in line)
