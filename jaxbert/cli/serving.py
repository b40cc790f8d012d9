"""`jaxbert serve`: its action; --help imports no jax."""

import argparse


def run_serve(options: argparse.Namespace) -> int:
    """Answer requests until a signal comes; the exit status."""
    from jaxbert.serve import command

    command.check_installed()
    from jaxbert.cli.commands import model_arguments

    return command.run(options, model_arguments(options))
