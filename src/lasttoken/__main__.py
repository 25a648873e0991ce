"""`python -m lasttoken` is the program `lasttoken`; torchrun starts it this way."""

from lasttoken.cli.main import main

if __name__ == "__main__":
    main()
