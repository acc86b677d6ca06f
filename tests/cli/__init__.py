"""The command line as people and machines meet it, command by command."""
