"""The command `neon-mq`: see a service at work, run a broker, ask, send and listen by hand.

One module per command. Click and rich are imported only here, rich only where something is drawn.
"""

from __future__ import annotations


def main() -> None:
    """Run the command with the arguments of the process; it ends the process."""
    from neon_mq_connector.cli.app import cli

    cli(prog_name="neon-mq")
