"""The command `tfps`: one module per subcommand."""
