"""``python -m sslzoo``."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="sslzoo")
