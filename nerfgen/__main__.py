"""``python -m nerfgen``."""

from nerfgen.cli.main import main

if __name__ == "__main__":
    main()
