"""`python -m cymatic` is the `cymatic` command."""

from cymatic.apps.cli import main

if __name__ == "__main__":
    main()
