"""The program: ``python -m nerfgen`` and the console script."""

from nerfgen.stopping import ending_signals


def main() -> None:
    """Run the command line; from here on signals end it in order, also during the imports that follow."""
    with ending_signals(until_exit=True):
        from nerfgen.cli.main import main as run

        run()


if __name__ == "__main__":
    main()
